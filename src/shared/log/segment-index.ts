/**
 * For one segment: which entries of each space it holds, and where they stand, so that reading one
 * space costs what it has there and not what others have. For reading and retention only; the log
 * is the truth, and a lost index is built again from it.
 *
 * While its segment is written an index knows every stretch: bytes in which entries of a space
 * stand in sequence, others between them only as far as that costs less than another read. Once it
 * is in its file it settles: it keeps first and last of each space; stretches are read from there.
 */
import { INDEX_EVERY_BYTES, INDEX_GAP_BYTES, INDEX_STRETCHES } from '../limits.js';
import type { Lsn, Sequence, Slot } from '../position.js';

/** First sequence, LSN and bytes of each stretch, in turn, ascending. */
export type Stretches = number[];

interface Row {
  readonly stretches: Stretches;
  last: Sequence;
}

/** What is known of a settled one: by slot, ascending; last 0: void. */
interface Settled {
  readonly slots: Uint32Array;
  readonly firsts: Float64Array;
  readonly lasts: Float64Array;
}

export class SegmentIndex {
  #rows = new Map<Slot, Row>();
  #settled: Settled | undefined;
  #count = 0;

  /** Of what a file says. @param rows slot, first and last of each space */
  static settled(rows: readonly (readonly [Slot, Sequence, Sequence])[]): SegmentIndex {
    const index = new SegmentIndex();
    const sorted = [...rows].sort((a, b) => a[0] - b[0]);
    index.#settled = {
      slots: Uint32Array.from(sorted, (row) => row[0]),
      firsts: Float64Array.from(sorted, (row) => row[1]),
      lasts: Float64Array.from(sorted, (row) => row[2]),
    };
    return index;
  }

  /** It is in its file: what takes memory is left to that. */
  settle(): void {
    if (this.#settled) return;
    const rows = [...this.#rows].map(([slot, { stretches, last }]) => {
      return [slot, stretches[0]!, last] as const;
    });
    this.#settled = SegmentIndex.settled(rows).#settled;
    this.#rows = new Map();
  }

  get isSettled(): boolean {
    return this.#settled !== undefined;
  }

  /**
   * Takes a run of entries of one space, in the order of the log. One that goes back makes void
   * what it had before: for one sequence the later entry counts.
   */
  add(slot: Slot, first: Sequence, count: number, lsn: Lsn, bytes: number): void {
    const row = this.#rows.get(slot);
    if (!row || first <= row.last) {
      // No longer than it is: most spaces of many have one in a segment.
      this.#rows.set(slot, { stretches: [first, lsn, bytes], last: first + count - 1 });
      this.#count++;
      return;
    }
    const { stretches } = row;
    const at = stretches.length - 3;
    const begin = stretches[at + 1]!;
    const gap = lsn - begin - stretches[at + 2]!;
    // The more there are, the coarser they become: memory stays bounded, however many spaces.
    const most = INDEX_GAP_BYTES * 4 ** Math.floor(this.#count / INDEX_STRETCHES);
    const isNext = first === row.last + 1 && gap >= 0 && gap <= most;
    if (isNext && lsn + bytes - begin <= Math.max(INDEX_EVERY_BYTES, most)) {
      stretches[at + 2] = lsn + bytes - begin;
    } else {
      stretches.push(first, lsn, bytes);
      this.#count++;
    }
    row.last = first + count - 1;
  }

  /** A row as a file has it. */
  set(slot: Slot, stretches: Stretches, last: Sequence): void {
    this.#rows.set(slot, { stretches, last });
  }

  /** Entries of the space from `first` on are void. */
  rewind(slot: Slot, first: Sequence): void {
    if ((this.last(slot) ?? 0) < first) return;
    if (this.#settled) {
      const { firsts, lasts } = this.#settled;
      const at = this.#at(slot);
      lasts[at] = firsts[at]! < first ? first - 1 : 0;
      return;
    }
    const row = this.#rows.get(slot)!;
    const { stretches } = row;
    while (stretches.length > 0 && stretches[stretches.length - 3]! >= first) stretches.length -= 3;
    if (stretches.length === 0) this.#rows.delete(slot);
    row.last = first - 1;
  }

  /** Of a settled one; -1: not here. */
  #at(slot: Slot): number {
    const { slots, lasts } = this.#settled!;
    let low = 0;
    let high = slots.length - 1;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (slots[middle]! < slot) low = middle + 1;
      else high = middle;
    }
    return slots[low] === slot && lasts[low]! > 0 ? low : -1;
  }

  /** What it knows by itself: all, until it has settled. */
  get unsettled(): Iterable<[Slot, Readonly<Row>]> {
    return this.#rows;
  }

  /** The spaces that have entries here. */
  get slots(): IterableIterator<Slot> {
    return this.#settled ? this.#settledSlots() : this.#rows.keys();
  }

  *#settledSlots(): IterableIterator<Slot> {
    const { slots, lasts } = this.#settled!;
    for (let at = 0; at < slots.length; at++) if (lasts[at]! > 0) yield slots[at]!;
  }

  first(slot: Slot): Sequence | undefined {
    if (this.#settled) return this.#settled.firsts[this.#at(slot)];
    return this.#rows.get(slot)?.stretches[0];
  }

  last(slot: Slot): Sequence | undefined {
    if (this.#settled) return this.#settled.lasts[this.#at(slot)];
    return this.#rows.get(slot)?.last;
  }

  /** Where entries of the space stand; none where it has settled. */
  stretches(slot: Slot): Stretches {
    return this.#rows.get(slot)?.stretches ?? [];
  }

  /** The nearest known LSN at or before `sequence`; undefined when the space begins behind it. */
  find(slot: Slot, sequence: Sequence): Lsn | undefined {
    const stretches = this.stretches(slot);
    return stretches[stretchOf(stretches, sequence) + 1];
  }
}

/** Where the stretch begins that may hold `sequence`; negative when all are behind it. */
export function stretchOf(stretches: Stretches, sequence: Sequence): number {
  let low = 0;
  let high = stretches.length / 3 - 1;
  if (high < 0 || stretches[0]! > sequence) return Number.NEGATIVE_INFINITY;
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (stretches[3 * middle]! <= sequence) low = middle;
    else high = middle - 1;
  }
  return 3 * low;
}
