/** Runs of entries as another node sealed them, behind each other: rows of a table, used again. */

import type { Sequence, Slot } from '../../../shared/position.js';

const FIELDS = 4;
const SLOT = 0;
const FIRST = 1;
const COUNT = 2;
const BYTES = 3;

export class ReceivedRuns {
  readonly #rows: number[] = [];
  length = 0;
  /** Of all of them. */
  bytes = 0;
  /** One of their entries says who counts in its space. */
  holdsMembers = false;

  clear(): void {
    this.length = 0;
    this.bytes = 0;
    this.holdsMembers = false;
  }

  add(slot: Slot, first: Sequence, count: number, bytes: number, holdsMembers: boolean): void {
    const at = FIELDS * this.length++;
    this.#rows[at + SLOT] = slot;
    this.#rows[at + FIRST] = first;
    this.#rows[at + COUNT] = count;
    this.#rows[at + BYTES] = bytes;
    this.bytes += bytes;
    if (holdsMembers) this.holdsMembers = true;
  }

  /** One entry, behind those that were added: where they are of the same space, it goes on. */
  addNext(slot: Slot, sequence: Sequence, bytes: number): void {
    const at = FIELDS * (this.length - 1);
    if (at < 0 || this.#rows[at + SLOT] !== slot) {
      this.add(slot, sequence, 1, bytes, false);
      return;
    }
    this.#rows[at + COUNT]!++;
    this.#rows[at + BYTES]! += bytes;
    this.bytes += bytes;
  }

  slot(run: number): Slot {
    return this.#rows[FIELDS * run + SLOT]!;
  }
  first(run: number): Sequence {
    return this.#rows[FIELDS * run + FIRST]!;
  }
  count(run: number): number {
    return this.#rows[FIELDS * run + COUNT]!;
  }
  bytesOf(run: number): number {
    return this.#rows[FIELDS * run + BYTES]!;
  }
}

/** One run alone. */
export function receivedRun(
  slot: Slot,
  first: Sequence,
  count: number,
  bytes: number,
  holdsMembers: boolean,
): ReceivedRuns {
  const runs = new ReceivedRuns();
  runs.add(slot, first, count, bytes, holdsMembers);
  return runs;
}
