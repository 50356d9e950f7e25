/** What openSpace takes, and what status() of a node and of a space give. */

import type { Address } from '../../shared/address.js';
import type { RefusalCount } from '../../shared/link/refusal.js';
import type { Role } from '../../shared/log/node-record.js';
import type { Hole } from '../../shared/log/state.js';
import type { Epoch, Lsn, Sequence } from '../../shared/position.js';
import type { IntakeProgress } from '../../shared/snapshot/sink.js';
import type { ApplyBlock } from '../follow/apply.js';
import type { PrimaryStatus } from '../follow/primary-links.js';
import type { CoordinatorStatus, LeaderWord } from '../lead/coordinator-state.js';
import type { MembersStatus } from '../lead/members/changes.js';
import type { LogStatus } from '../log/health.js';
import type { SyncTimes } from '../log/write/writer.js';
import type { CredentialsStatus } from '../runtime/credentials.js';
import type { ReplicaLinkStatus, SpaceReplicaStatus } from '../ship/status.js';
import type { DiskRoomStatus } from './health/disk-room.js';

/** The figures of a node, but for its spaces. */
export interface NodeSummary {
  readonly nodeId: string;
  readonly clusterId: string;
  /** Of the data directory: no other has it. 32 hex digits. */
  readonly directoryId: string;
  readonly address: Address | undefined;
  /** What it proves itself with to others, and how long that lasts. */
  readonly credentials: CredentialsStatus;
  readonly durableLsn: Lsn;
  readonly segments: number;
  readonly retention: {
    /** Bytes of segment files that are live, or were freed and wait for readers and states. */
    readonly retainedBytes: number;
    /** Bytes of the log that the host has not checkpointed; its bound is maxRetainedBytes. */
    readonly hostBytes: number;
    /** Why appends are refused until the host checkpoints, if so (RetentionFull). */
    readonly refusal: string | undefined;
    readonly spareSegments: number;
    /** How many segments were made of freed ones since the node was opened. */
    readonly recycledSegments: number;
  };
  /** Bytes of the log that are not what was written. */
  readonly holes: readonly Hole[];
  /** Slabs taken by groups on their way, of those that there are. */
  readonly memory: {
    readonly slabs: number;
    readonly inUse: number;
    readonly bytes: number;
    /** Bytes of entries that were read, or kept live, for readers that have not taken them yet. */
    readonly readAhead: number;
  };
  /** Whether the log takes entries, and why not. */
  readonly log: LogStatus;
  /** The log's fdatasyncs: the calls themselves, and what they waited to be made (row 78). */
  readonly fdatasync: SyncTimes;
  readonly failure: string | undefined;
  /** Lives of this directory before this one, in a row, that ended in a crash within a minute. */
  readonly crashes: number;
  /** undefined: the static one, which is always in reach. */
  readonly coordinator: CoordinatorStatus | undefined;
  /** Of the file system of the data directory; undefined: it does not say. */
  readonly diskRoom: DiskRoomStatus | undefined;
  readonly replicas: readonly ReplicaLinkStatus[];
  /** Who has shipped to this node since it was opened. */
  readonly primaries: readonly PrimaryStatus[];
  /** Connections that were not let in since it was opened, by where, why and from where. */
  readonly refused: readonly RefusalCount[];
}

export interface NodeStatus extends NodeSummary {
  readonly spaces: readonly SpaceStatus[];
}

/** What a list of very many spaces needs of each. */
export interface SpaceGlance {
  readonly name: string;
  readonly role: Role;
  readonly primaryNodeId: string;
  readonly durableSequence: Sequence;
  /** Something may be wrong: `status()` says what. */
  readonly isTroubled: boolean;
}

export interface SpaceStatus {
  readonly name: string;
  readonly id: string;
  readonly role: Role;
  readonly epoch: Epoch;
  readonly primaryNodeId: string;
  /** Who leads it by now, as whoever decides that has said last. */
  readonly leader: LeaderWord;
  /** The first retained entry; 0 where there is none yet. */
  readonly firstSequence: Sequence;
  /** The host needs nothing below on this node; 0: it has never said so. */
  readonly checkpoint: Sequence;
  /**
   * Who says what is not needed here any more: the host, the primary that is followed, or
   * nobody, so that all since the checkpoint is kept (`follow`).
   */
  readonly keeps: { readonly by: 'host' | 'primary' | 'nobody'; readonly reason: string };
  /** Acknowledged entries that cannot be read; `to` 0: nobody knows how many. */
  readonly damage: readonly { from: Sequence; to: Sequence; accepted: boolean }[];
  /** What is being done about it: `corrupt` when no member has it; undefined without damage. */
  readonly repair:
    | {
        readonly state: 'repairing' | 'corrupt';
        readonly reason: string;
        readonly unreachable: readonly string[];
        /** For how long it has been in this state, ms. */
        readonly since: number;
      }
    | undefined;
  /** The last one taken. */
  readonly lastSequence: Sequence;
  readonly durableSequence: Sequence;
  /**
   * The last durable one that a host has written, here or elsewhere; 0: none has. Behind it stands
   * nothing but what the library writes (types 5 and 7). See `expected` of `append`.
   */
  readonly lastHostSequence: Sequence;
  /** What the host's apply callback has returned for: on a replica, or with `applyWhenLeading`. */
  readonly appliedSequence: Sequence;
  /** A host applies entries here; else `appliedSequence` says nothing. */
  readonly isApplied: boolean;
  /**
   * All that was acknowledged so many ms ago is here, by the last `catchUp`: what is shown may be
   * so old. undefined: nobody has asked the leader since the node was opened. 0 where it leads.
   */
  readonly ageMs: number | undefined;
  /** Why this node leads the space and yet takes no appends, if so. */
  readonly refusal: { readonly code: string; readonly message: string } | undefined;
  /** Why nothing is applied, if so. */
  readonly applyBlocked: ApplyBlock | undefined;
  /** Entries that the host was told to do without, above its checkpoint. */
  readonly skipped: readonly Sequence[];
  /** On a replica: how far the snapshot that it gets has come. */
  readonly snapshot: IntakeProgress | undefined;
  readonly replicas: readonly SpaceReplicaStatus[];
  /** Who counts for acknowledgements and promotions. */
  readonly members: MembersStatus;
  /**
   * What every replica that has not failed has flushed; where all have failed, what they had, and
   * the durable sequence where there is none.
   */
  readonly minAckedSequence: Sequence;
  /**
   * All that is durable here is acknowledged at level n: on so many replicas besides this node that
   * a promotion keeps it. Only members count, and none before this epoch's first entry is there.
   */
  isReplicated(n: number): boolean;
  /** What would be lost with this node's disk: what no replica has flushed. */
  readonly rpo: { readonly entries: number; readonly ms: number | 'unknown' };
}
