/**
 * Of which space each entry of a mixed batch is: found for all that are sound before any of them is
 * judged. What each is looked up by waits for a cache, and such waits overlap.
 */
import { BATCH_MAX_ENTRIES, ENTRY_HEADER_BYTES } from '../../limits.js';
import { readPayloadSize, SPACE_ID } from '../../log/entry.js';
import type { Slot } from '../../position.js';
import type { BatchRuns } from './mixed-batch.js';

export class EntrySlots {
  readonly #slots = new Int32Array(BATCH_MAX_ENTRIES);
  /** Where each begins, and where the last one ends. */
  readonly #starts = new Int32Array(BATCH_MAX_ENTRIES + 1);
  #runs: BatchRuns | undefined;
  #count = 0;
  #next = 0;

  /**
   * Looks up those of the batch that stand at `runs.end` and behind it, once each.
   * @returns the first of them; none of them is sound where it is `end`
   */
  lookOn(runs: BatchRuns, slotAt: (view: DataView, at: number) => Slot): number {
    const { view, end } = runs;
    // It may have gone back, for want of room.
    if (this.#starts[this.#next]! > end) this.#next = 0;
    while (this.#next < this.#count && this.#starts[this.#next]! < end) this.#next++;
    const isKnown = this.#next < this.#count && this.#starts[this.#next] === end;
    if (isKnown && this.#runs === runs) return this.#next;
    const { soundTo } = runs;
    this.#runs = runs;
    this.#next = 0;
    this.#count = 0;
    let at = end;
    while (at < soundTo) {
      this.#slots[this.#count] = slotAt(view, at + SPACE_ID);
      this.#starts[this.#count++] = at;
      at += ENTRY_HEADER_BYTES + readPayloadSize(view, at);
    }
    this.#starts[this.#count] = at;
    return 0;
  }

  /** Nothing more is asked of the batch: its frame is not held for it. */
  done(): void {
    this.#runs = undefined;
  }

  /** Behind the last one that was looked up. */
  get end(): number {
    return this.#count;
  }
  slot(entry: number): Slot {
    return this.#slots[entry]!;
  }
  start(entry: number): number {
    return this.#starts[entry]!;
  }
}
