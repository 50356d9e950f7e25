/** What is told of who leads. */
import type { Member } from '../../shared/log/node-record.js';
import type { Epoch, Sequence } from '../../shared/position.js';
import type { Leader } from './coordinator.js';
import type { SwitchoverReport } from './handover.js';
import type { PromotionReport } from './promotion/report.js';

export interface RoleEvents {
  /** This node led the space and must not any more: its appends reject, nothing is acknowledged. */
  readonly fenced: {
    readonly space: string;
    /** In which another node leads, or has the promise to. */
    readonly epoch: Epoch;
    readonly leader: Member | undefined;
  };
  /**
   * A replica has less of a space than this very directory has acknowledged to this node: a copy
   * was put back, or its disk lost what it had synced. It is told so, and counts for nothing until
   * it is taken in again, as another directory.
   */
  readonly 'member-regressed': {
    readonly space: string;
    readonly replicaId: string;
    readonly directoryId: string;
    /** What it had acknowledged. */
    readonly flushed: Sequence;
    /** What it has. */
    readonly sequence: Sequence;
  };
  /** A primary has said so of this node's directory: it goes by another id from now on. */
  readonly 'directory-renewed': { readonly directoryId: string; readonly before: string };
  /** Two nodes lead the space in one epoch: the one with the lower id gives way (row 68). */
  readonly 'leader-conflict': {
    readonly space: string;
    readonly epoch: Epoch;
    readonly otherId: string;
  };
  /** Entries that the primary does not have were taken back here; `quarantine` keeps them. */
  readonly rewound: {
    readonly space: string;
    readonly from: Sequence;
    readonly to: Sequence;
    readonly entries: number;
    /** Path of the file; `engram-wal quarantine` lists and exports it. */
    readonly quarantine: string;
    readonly primaryId: string;
    readonly epoch: Epoch;
  };
  /** A replica has entries that we do not have: it takes them back before it goes on. */
  readonly 'replica-rewinds': { readonly space: string; readonly replicaId: string };
  /** This node leads the space now, in an epoch of its own. */
  readonly promoted: PromotionReport & { readonly tookMs: number };
  /** Another node leads a space that this one has handed over. */
  readonly 'switched-over': SwitchoverReport;
  /** A hand-over came to nothing; this node leads on. */
  readonly 'switchover-abandoned': {
    readonly space: string;
    readonly to: string;
    readonly reason: string;
  };
  /**
   * Replicas have entries of this node's own epoch that its disk has lost (rows 23, 27). It fills
   * itself up and leads on in a new epoch; `waiting`: why it cannot yet. Tried again by itself.
   */
  readonly regressed: { readonly space: string; readonly waiting: string | undefined };
}

/** Of the coordinator. */
export interface CoordinatorEvents {
  /** etcd can be reached, or not. */
  readonly coordinator: { readonly connected: boolean; readonly reason: string };
  /** This node's lease is held, or may have run out: then it acknowledges nothing. */
  readonly lease: { readonly held: boolean; readonly reason: string };
  /** etcd says who leads a space; `leader` undefined: nobody, for now. */
  readonly leader: { readonly space: string; readonly leader: Leader | undefined };
  /** A space waits for a leader, and why this node is none; space '': all of them. */
  readonly 'leader-waiting': { readonly space: string; readonly reason: string };
}

export interface LeadEvents extends RoleEvents, CoordinatorEvents {
  /**
   * This node leads the space without a host (`follow`): all since its checkpoint is kept until
   * somebody checkpoints, as `engram-wal checkpoint` does.
   */
  'keeps-all': { readonly space: string; readonly checkpoint: Sequence };
  /**
   * Who counts in spaces that this node leads is other than before: a change of all of them that is
   * settled. A node whose directory is another one has been added and removed.
   */
  'members-changed': {
    readonly spaces: readonly string[];
    readonly added: readonly string[];
    readonly removed: readonly string[];
  };
  /** Spaces were opened for appends without the word of replicas that stay silent. */
  'unconfirmed-open': { readonly spaces: readonly string[]; readonly silent: readonly string[] };
  /** A replica was added, or removed with its slots, while the node runs. */
  'replica-set': { readonly replicaId: string; readonly change: 'added' | 'removed' };
  /** This node has become, or is, the replica or primary of a space. */
  'space-role': {
    readonly space: string;
    readonly role: 'primary' | 'replica';
    readonly epoch: Epoch;
    readonly primaryId: string;
  };
}
