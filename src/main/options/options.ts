/** All that openNode takes: what its rooms take, and what names and shows the node. */
import type { FollowOptions } from '../follow/options.js';
import type { CoordinatorConfig, LeadOptions } from '../lead/options.js';
import type { LogOptions } from '../log/options.js';
import type { TlsOptions } from '../runtime/credentials.js';
import type { ShipOptions } from '../ship/options.js';
import type { SnapshotOptions } from '../snapshot/options.js';
import type { Logger } from '../tell/logger.js';
import type { HttpOptions } from './http.js';

/** What each room needs to be told, and what names and shows the node. */
export interface NodeOptions
  extends LogOptions,
    ShipOptions,
    SnapshotOptions,
    FollowOptions,
    LeadOptions {
  /** Made when absent, mode 0700. One process at a time. */
  readonly dataDir: string;
  /** The name of this node, of its own within the cluster; a data directory keeps it. */
  readonly nodeId: string;
  /** The same on every node: nodes of other clusters are refused. */
  readonly clusterId: string;
  /**
   * The same on every node of the cluster, at least 16 bytes: both ends of a connection prove that
   * they have it. It keeps strangers out; what is sent is encrypted with `tls` alone. Two of them
   * while one is changed for another: the first proves, each is accepted.
   */
  readonly key?: string | Uint8Array | readonly (string | Uint8Array)[];
  /** The same in a file, a key a line: read again when it changes, without a restart. */
  readonly keyFile?: string;
  /**
   * TLS 1.3 on every connection to and from other nodes. Each end shows a certificate of the
   * cluster's own authority that names its node. The files are read again when they change.
   */
  readonly tls?: TlsOptions;
  /** Gets one structured line for each event, rate-limited. Default: none, nothing is written. */
  readonly logger?: Logger;
  /** Metrics, health, status and a page for people over HTTP. Default: none, nothing listens. */
  readonly http?: HttpOptions;
  /** What the names of metrics begin with. Default: `engram_`. */
  readonly metricsPrefix?: string;
  /**
   * A registry of the host's own (prom-client): the node's metrics are registered there until it
   * closes, and are formatted on the main thread. Two nodes in one registry need two prefixes.
   */
  readonly metricsRegistry?: MetricsRegistry;
}

/** What is used of prom-client's `Registry`. */
export interface MetricsRegistry {
  readonly contentType: string;
  registerMetric(metric: never): void;
  removeSingleMetric(name: string): void;
  metrics(): Promise<string>;
}

type WithoutDefault =
  | 'keyFile'
  | 'tls'
  | 'listen'
  | 'advertise'
  | 'mayReplicate'
  | 'apply'
  | 'appliedUpTo'
  | 'follow'
  | 'rewound'
  | 'snapshot'
  | 'restore'
  | 'logger'
  | 'http'
  | 'metricsRegistry';

/** The options with every default filled in. */
export type NodeConfig = Required<Omit<NodeOptions, WithoutDefault | 'key' | 'coordinator'>> &
  Pick<NodeOptions, WithoutDefault> & {
    /** Those that were given as `key`. */
    readonly keys: readonly Uint8Array[];
    readonly coordinator: CoordinatorConfig;
  };
