/** What openSpace takes and a node's status() gives. */
import type { LinkState } from '../shared/control.js';
import type { Lsn } from '../shared/position.js';
import type { Address } from './config.js';
import type { SpaceStatus } from './space.js';

export interface OpenSpaceOptions {
  /** Whether an unknown space is created here; overrides the node's `lead`. */
  readonly lead?: boolean;
  /** Node ids, out of the node's `replicas`, that this space goes to. Default: all of them. */
  readonly replicas?: readonly string[];
}

export interface NodeStatus {
  readonly nodeId: string;
  readonly clusterId: string;
  readonly address: Address | undefined;
  readonly durableLsn: Lsn;
  readonly segments: number;
  /** Slabs taken by groups on their way, of those that there are. */
  readonly memory: { readonly slabs: number; readonly inUse: number; readonly bytes: number };
  readonly failure: string | undefined;
  readonly replicas: readonly {
    readonly replicaId: string;
    readonly state: LinkState;
    readonly reason: string;
    readonly consecutiveFailures: number;
  }[];
  readonly spaces: readonly SpaceStatus[];
}
