/** The options of shipping: to whom, over what links, and from when on a replica lags. */
import type { Member } from '../../shared/log/node-record.js';
import type { AllowedSpaces } from '../../shared/names.js';
import type { Compression } from '../../shared/wire/compression.js';
import type { CredentialsNow } from '../../shared/wire/tls/certificates.js';
import type { SnapshotConfig } from '../snapshot/options.js';

export interface ShipOptions {
  /** The nodes that this one ships its spaces to. Loopback only, unless there is a key or `tls`. */
  readonly replicas?: readonly Member[];
  /** Per replica: what may be sent and not yet flushed there. */
  readonly windowBytes?: number;
  /** The most that one batch of catching up holds. */
  readonly catchUpBatchBytes?: number;
  /** What catching up one replica may read and send per second; 0 (the default): no bound. */
  readonly catchUpBytesPerSecond?: number;
  /**
   * What is shipped is compressed, for replicas that can undo it; others get it as it is. `zstd`
   * is in Node from 22.15 on, before in the optional package @foxglove/wasm-zstd. Default: `none`.
   */
  readonly compression?: Compression;
  /** For how long a connection to another node may take to come about. */
  readonly connectTimeoutMs?: number;
  /** How long to wait before the next attempt to connect, step by step, each with chance. */
  readonly backoffStepsMs?: readonly number[];
  /** Failures in a row from which on a replica counts as failed. Default: 3. */
  readonly maxRetries?: number;
  /**
   * Of whom nothing is heard for so long, the connection is given up. Every node beats once a
   * second, whatever it is set to elsewhere: at least 3,000. Default: 10,000.
   */
  readonly readTimeoutMs?: number;
  /** What the system takes nothing of for so long is given up. Default: 10,000. */
  readonly writeTimeoutMs?: number;
  /** When the system begins to probe an idle connection; in whole seconds. Default: 10,000. */
  readonly keepAliveMs?: number;
  /**
   * While the socket to a replica is busy, entries wait until so many have come (100), 256 KiB of
   * them, or this time has passed (10): what is sent together costs less.
   */
  readonly batchEntries?: number;
  /** See `batchEntries`. */
  readonly batchDelayMs?: number;
  /** From this lag on a replica is degraded, and an alert is raised: a warning. Default: 1,000. */
  readonly lagAlertThresholdMs?: number;
  /** From this lag on the alert is critical. Default: 5,000. */
  readonly lagDegradedThresholdMs?: number;
  /** How often every (space, replica) is looked at. Default: 5,000. */
  readonly lagPollMs?: number;
  /** A replica whose link lives, that lacks entries and does not move, is stalled after this. */
  readonly stalledAfterMs?: number;
}

/** What shipping goes by in a node: its options, and what else of it concerns them. */
export interface ShipConfig extends Required<ShipOptions>, Omit<SnapshotConfig, keyof ShipOptions> {
  readonly clusterId: string;
  readonly nodeId: string;
  readonly credentials: CredentialsNow;
  readonly mayReplicate?: AllowedSpaces;
  /** Whether an unknown space may be created here. */
  readonly lead: boolean;
  readonly coordinator: { readonly kind: 'static' | 'etcd' };
}
