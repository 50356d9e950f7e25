/** What the log tells. */
import type { Sequence } from '../../shared/position.js';
import type { LogStatus } from './health.js';
import type { LostAppends } from './lost-appends.js';

export interface LogEvents {
  /** State, an index or a freed segment's file could not be written; the log itself goes on. */
  'state-failed': { readonly error: unknown };
  /** The log takes entries, or does not: slow-disk, read-only (by itself again), failed. */
  'log-state': LogStatus;
  /**
   * The file system of the directory is full soon at the pace of late: within a day (`soon`),
   * within half an hour (`now`); or no longer (`nothing`).
   */
  'disk-room': {
    readonly todo: 'nothing' | 'soon' | 'now';
    readonly freeBytes: number;
    /** undefined: not within a month. */
    readonly fullInMs: number | undefined;
  };
  /** A group was refused: these sequences, handed out by tryAppend, are void and come again. */
  'appends-lost': LostAppends;
  /**
   * What a replica lacks is not kept for it any more: it was farther behind than maxSlotBytes
   * (`bytes`), or away for longer than slotIdleTimeoutMs (`idle`).
   */
  'slot-lost': {
    readonly space: string;
    readonly replicaId: string;
    readonly flushed: Sequence;
    readonly why: 'bytes' | 'idle';
  };
  /** The log has failed: no append is taken until the node is opened again. */
  fatal: { readonly error: Error };
}
