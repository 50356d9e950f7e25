/** The options about who leads. */
import type { Address } from '../../shared/address.js';
import type { FollowOptions } from '../follow/options.js';

/** PEM files for connections to etcd, read anew for each. */
export interface EtcdTls {
  /** Who vouches for etcd. Default: those that this Node.js trusts. */
  readonly caFile?: string;
  /** This node's own certificate, where etcd wants one (`--client-cert-auth`); with `keyFile`. */
  readonly certFile?: string;
  readonly keyFile?: string;
}

/** Who says who leads. */
export type CoordinatorOptions =
  /** The default: configuration, and whoever calls `promote`. */
  | { readonly kind: 'static' }
  | {
      readonly kind: 'etcd';
      /** `https://host:port` or `http://host:port`, one or more, of one etcd cluster. */
      readonly endpoints: readonly string[];
      /** For `https`: who vouches for etcd, and who this node is. */
      readonly tls?: EtcdTls;
      /** A user of etcd's, who may read and write the keys below `prefix`; with `passwordFile`. */
      readonly user?: string;
      /** The user's password: read anew whenever etcd is to be shown it. */
      readonly passwordFile?: string;
      /**
       * How long a node that is silent keeps what it leads: whole seconds, 2,000 to 3,600,000.
       * Default 5,000.
       */
      readonly ttlMs?: number;
      /** In front of all keys. Default `engram-wal`. */
      readonly prefix?: string;
      /** Nodes that follow each space, besides the one that leads it. Default 2. */
      readonly replicasPerSpace?: number;
      /**
       * Whether this node gives back by itself what it leads more than others, slowly, once the
       * nodes have been the same for half a minute. `false`: by `rebalance` alone. Default true.
       */
      readonly autoRebalance?: boolean;
      /** The same as the option `advertise` of the node. */
      readonly advertise?: Address;
    };

/** With every default filled in; `advertise` is the node's. */
export type CoordinatorConfig =
  | { readonly kind: 'static' }
  | (Required<Omit<EtcdCoordinatorOptions, 'advertise' | WithoutDefault>> &
      Pick<EtcdCoordinatorOptions, WithoutDefault>);

type WithoutDefault = 'tls' | 'user' | 'passwordFile';

type EtcdCoordinatorOptions = Extract<CoordinatorOptions, { kind: 'etcd' }>;

export interface LeadOptions {
  /**
   * Where others dial this node, where that is not where it listens: behind NAT, in a container, or
   * where it listens on every address of its machine. Default: `listen`, where that can be dialled.
   */
  readonly advertise?: Address;
  /**
   * Which node may replicate which spaces with this one, either way: names of spaces by node id; a
   * name that ends with `*` stands for all that begin so. A node that is not named may replicate
   * none. Default: every member may replicate every space.
   */
  readonly mayReplicate?: Readonly<Record<string, readonly string[]>>;
  /** Whether openSpace creates unknown spaces. Default: true without `listen`, or with etcd. */
  readonly lead?: boolean;
  /** Who says who leads a space. With etcd, `listen` is needed and `replicas` is etcd's. */
  readonly coordinator?: CoordinatorOptions;
  /**
   * For how long members that are silent, or refuse connections, are asked again before a space is
   * created, or a led one opened. Default: 2,000.
   */
  readonly openConfirmMs?: number;
}

/** What leading goes by in a node: its options, and what else of it concerns them. */
export interface LeadConfig extends Pick<LeadOptions, 'advertise' | 'mayReplicate'> {
  readonly lead: boolean;
  readonly coordinator: CoordinatorConfig;
  readonly openConfirmMs: number;
  readonly nodeId: string;
  readonly clusterId: string;
  readonly maxEntryBytes: number;
  readonly listen?: Address;
  readonly follow?: FollowOptions['follow'];
}

export interface OpenSpaceOptions {
  /** Whether an unknown space is created here; overrides the node's `lead`. */
  readonly lead?: boolean;
  /** Node ids, out of the node's `replicas`, that this space goes to. Default: all of them. */
  readonly replicas?: readonly string[];
}

export interface RemoveOptions {
  /** Without waiting for the members that should agree: what is there alone is lost. */
  readonly force?: boolean;
}
