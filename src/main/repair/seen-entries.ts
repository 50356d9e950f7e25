/** What was seen in one segment while its entries went by, to hold its index against. */

import type { SegmentIndex } from '../../shared/log/segment-index.js';
import type { Lsn, Sequence, Slot } from '../../shared/position.js';

export class SeenEntries {
  /** First and last sequence of each space. */
  readonly #ranges = new Map<Slot, { readonly first: Sequence; last: Sequence }>();
  /** Of every entry, by LSN; at most one for every 64 bytes of a segment. */
  readonly #lsns: Lsn[] = [];
  readonly #sequences: Sequence[] = [];
  readonly #slots: Slot[] = [];
  readonly #voided = new Set<Slot>();

  /** Takes one entry; in LSN order. */
  add(slot: Slot, sequence: Sequence, lsn: Lsn): void {
    const range = this.#ranges.get(slot);
    if (range) range.last = sequence;
    else this.#ranges.set(slot, { first: sequence, last: sequence });
    this.#lsns.push(lsn);
    this.#sequences.push(sequence);
    this.#slots.push(slot);
  }

  /** An entry that was taken back stands here: an index may tell of it, or not. */
  void(slot: Slot): void {
    this.#voided.add(slot);
  }

  /** Whether an index tells the same: the spaces, their ranges, and where its stretches begin. */
  fits(index: SegmentIndex): boolean {
    const slots = [...index.slots].filter((slot) => !this.#voided.has(slot));
    const seen = [...this.#ranges.keys()].filter((slot) => !this.#voided.has(slot));
    if (slots.length !== seen.length) return false;
    return slots.every((slot) => {
      const range = this.#ranges.get(slot);
      if (range?.first !== index.first(slot) || range?.last !== index.last(slot)) return false;
      const stretches = index.stretches(slot);
      for (let i = 0; i < stretches.length; i += 3) {
        if (!this.#holds(slot, stretches[i]!, stretches[i + 1]!)) return false;
      }
      return true;
    });
  }

  #holds(slot: Slot, sequence: Sequence, lsn: Lsn): boolean {
    let low = 0;
    let high = this.#lsns.length - 1;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.#lsns[middle]! < lsn) low = middle + 1;
      else high = middle;
    }
    const isThere = this.#lsns[low] === lsn;
    return isThere && this.#sequences[low] === sequence && this.#slots[low] === slot;
  }
}
