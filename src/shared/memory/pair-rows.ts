/**
 * What is known of each (space, replica) of one replica, a row for each slot: written by the main
 * thread's lag monitor, read by whoever formats metrics. A formatter is asked by a message after
 * the rows were written, so plain loads and stores will do.
 */
import type { Slot } from '../position.js';

export const PAIR_FIELDS = 19;

export const PAIR = {
  /** 1: this replica follows the space, and this node leads it. */
  followed: 0,
  /** NaN: unknown. */
  lagMs: 1,
  lagEntries: 2,
  lagBytes: 3,
  /** The gauge of DESIGN 7: 3 healthy, 2 lagging, 1 degraded, 0 failed. */
  status: 4,
  /** An index of PAIR_STATES, and since when (the main thread's clock, ms). */
  state: 5,
  stateSinceMs: 6,
  /** 0 none, 1 warning, 2 critical; and how often each was raised. */
  alert: 7,
  warnings: 8,
  criticals: 9,
  /** When the row was last looked at. */
  lookedMs: 10,
  /** The flushed sequence that was seen last while the replica was behind; -1: it was not. */
  flushed: 11,
  /** For how long its link has been open, and that sequence has not moved. */
  stuckMs: 12,
  /** An index of STAGES where the pair is stalled, else 0. */
  stage: 13,
  /** An index of VERDICTS: the last one that was given. */
  verdict: 14,
  /** What the last events have said. */
  toldStatus: 15,
  toldAlert: 16,
  toldStage: 17,
  /** 1: a snapshot is on its way to it, or waits for its turn. */
  snapshotting: 18,
} as const;
export type PairField = (typeof PAIR)[keyof typeof PAIR];

export function allocatePairs(maxSpaces: number): SharedArrayBuffer {
  return new SharedArrayBuffer((maxSpaces + 1) * PAIR_FIELDS * 8);
}

export class PairRows {
  readonly buffer: SharedArrayBuffer;
  /** Row by row; PAIR names the fields. */
  readonly rows: Float64Array;

  constructor(buffer: SharedArrayBuffer) {
    this.buffer = buffer;
    this.rows = new Float64Array(buffer);
  }

  get(slot: Slot, field: PairField): number {
    return this.rows[slot * PAIR_FIELDS + field]!;
  }

  isFollowed(slot: Slot): boolean {
    return this.get(slot, PAIR.followed) === 1;
  }
}
