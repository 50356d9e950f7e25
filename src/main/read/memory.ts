/**
 * The memory of all who read the log of one node: what was read and not taken yet. However many
 * they are and however slow, together they stay within one bound: the fuller it is, the smaller
 * the pieces that are read (FAULTS row 93).
 */

import { READ_CHUNK_BYTES, READ_LEAST_BYTES, READ_SHARE } from '../../shared/limits.js';
import type { Entry } from '../../shared/log/entry.js';
import { entriesBytes } from '../../shared/log/entry-copies.js';

export class ReadingMemory {
  /** What readers may hold, and as much again what is kept for those that follow live. */
  readonly most: number;
  #held = 0;
  /** Of runs that are kept for those that follow live. */
  liveBytes = 0;

  /** @param budgetBytes the node's memory budget */
  constructor(budgetBytes: number) {
    this.most = budgetBytes / READ_SHARE;
  }

  /** Of everything that is read ahead. */
  get bytes(): number {
    return this.#held + this.liveBytes;
  }

  /** How much the next piece may come to, unless one entry is longer. */
  get pieceBytes(): number {
    const share = (this.most - this.#held) / READ_SHARE;
    return Math.max(READ_LEAST_BYTES, Math.min(READ_CHUNK_BYTES, Math.floor(share)));
  }

  /** These entries are in somebody's hands. @returns what to give back to `release` */
  hold(entries: readonly Entry[]): number {
    const bytes = entriesBytes(entries);
    this.#held += bytes;
    return bytes;
  }

  release(bytes: number): void {
    this.#held -= bytes;
  }
}
