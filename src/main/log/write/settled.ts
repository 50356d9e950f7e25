/** Who is told what has become of entries that were staged. */

import type { Slab } from '../../../shared/memory/slab.js';

/** What is settled when a group is acknowledged, or fails. */
export interface Settled {
  resolve(): void;
  reject(error: Error): void;
}

/** Entries in memory that another thread may write to, and who is told of them. */
export interface TakenEntries extends Settled {
  /** What the first of them takes. */
  readonly leastBytes: number;
  /**
   * Copies as many as fit, back to back, each with its header: type and size stand in it.
   * @returns how many, at least one; throws where they are none, and then nothing has happened
   */
  copyTo(slab: Slab, at: number, room: number): number;
}

export function rejectSettled(
  groups: Iterable<{ readonly settled: readonly Settled[] } | undefined>,
  error: Error,
): void {
  for (const group of groups) for (const one of group?.settled ?? []) one.reject(error);
}
