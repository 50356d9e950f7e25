/** Up to where spaces have become durable: rows of a table that is used again. */
import type { Sequence, Slot } from '../../../shared/position.js';

const FIELDS = 2;

export class RunEnds {
  readonly #rows: number[] = [];
  length = 0;

  clear(): void {
    this.length = 0;
  }

  /** Entries of the space up to `last` have become durable. */
  add(slot: Slot, last: Sequence): void {
    const at = FIELDS * this.length++;
    this.#rows[at] = slot;
    this.#rows[at + 1] = last;
  }

  slot(run: number): Slot {
    return this.#rows[FIELDS * run]!;
  }
  last(run: number): Sequence {
    return this.#rows[FIELDS * run + 1]!;
  }
}
