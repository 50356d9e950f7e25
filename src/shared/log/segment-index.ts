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

/** All that is known of one space. */
interface Row {
  readonly stretches: Stretches;
  readonly last: Sequence;
}

/** What is known of a settled one: by slot, ascending; last 0: void. */
interface Settled {
  readonly slots: Uint32Array;
  readonly firsts: Float64Array;
  readonly lasts: Float64Array;
}

const NONE = -1;
const FIRST_ROWS = 64;

/**
 * The stretches of all spaces in the order in which they began, one row each. A space's are chained
 * from the newest back: nothing is made for one of them, however many spaces there are.
 */
class StretchRows {
  count = 0;
  /** Row of the stretch before it of the same space; NONE: it is the first. */
  before = new Int32Array(FIRST_ROWS);
  first: Float64Array = new Float64Array(FIRST_ROWS);
  last: Float64Array = new Float64Array(FIRST_ROWS);
  lsn: Float64Array = new Float64Array(FIRST_ROWS);
  bytes: Float64Array = new Float64Array(FIRST_ROWS);
  /** By slot: the row of its newest stretch, and one more; 0: it has none. */
  #newest = new Int32Array(FIRST_ROWS);

  newest(slot: Slot): number {
    return (this.#newest[slot] ?? 0) - 1;
  }

  setNewest(slot: Slot, row: number): void {
    if (slot >= this.#newest.length) {
      const grown = new Int32Array(2 ** Math.ceil(Math.log2(slot + 1)));
      grown.set(this.#newest);
      this.#newest = grown;
    }
    this.#newest[slot] = row + 1;
  }

  /** Behind the one at `before`. */
  push(slot: Slot, before: number, first: Sequence, last: Sequence, lsn: Lsn, bytes: number): void {
    if (this.count === this.before.length) this.#grow();
    const row = this.count++;
    this.before[row] = before;
    this.first[row] = first;
    this.last[row] = last;
    this.lsn[row] = lsn;
    this.bytes[row] = bytes;
    this.setNewest(slot, row);
  }

  #grow(): void {
    const grown = (old: Float64Array): Float64Array => {
      const twice = new Float64Array(2 * old.length);
      twice.set(old);
      return twice;
    };
    const before = new Int32Array(2 * this.before.length);
    before.set(this.before);
    this.before = before;
    this.first = grown(this.first);
    this.last = grown(this.last);
    this.lsn = grown(this.lsn);
    this.bytes = grown(this.bytes);
  }

  *slots(): IterableIterator<Slot> {
    for (let slot = 0; slot < this.#newest.length; slot++) if (this.#newest[slot]! > 0) yield slot;
  }

  eachBack(slot: Slot, take: (first: Sequence, lsn: Lsn, bytes: number) => void): void {
    for (let row = this.newest(slot); row !== NONE; row = this.before[row]!) {
      take(this.first[row]!, this.lsn[row]!, this.bytes[row]!);
    }
  }

  stretches(slot: Slot): Stretches {
    let length = 0;
    this.eachBack(slot, () => {
      length += 3;
    });
    const found: Stretches = new Array(length).fill(0);
    this.eachBack(slot, (first, lsn, bytes) => {
      length -= 3;
      found[length] = first;
      found[length + 1] = lsn;
      found[length + 2] = bytes;
    });
    return found;
  }
}

export class SegmentIndex {
  #rows = new StretchRows();
  #settled: Settled | undefined;

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
    const slots = Uint32Array.from(this.#rows.slots());
    const firsts = Float64Array.from(slots, (slot) => this.first(slot)!);
    const lasts = Float64Array.from(slots, (slot) => this.last(slot)!);
    this.#settled = { slots, firsts, lasts };
    this.#rows = new StretchRows();
  }

  get isSettled(): boolean {
    return this.#settled !== undefined;
  }

  /**
   * Takes a run of entries of one space, in the order of the log. One that goes back makes void
   * what it had before: for one sequence the later entry counts.
   */
  add(slot: Slot, first: Sequence, count: number, lsn: Lsn, bytes: number): void {
    const rows = this.#rows;
    const row = rows.newest(slot);
    const last = first + count - 1;
    const known = row === NONE ? 0 : rows.last[row]!;
    if (first <= known) {
      rows.push(slot, NONE, first, last, lsn, bytes);
      return;
    }
    const begin = row === NONE ? 0 : rows.lsn[row]!;
    const gap = row === NONE ? -1 : lsn - begin - rows.bytes[row]!;
    // The more there are, the coarser they become: memory stays bounded, however many spaces.
    const most = INDEX_GAP_BYTES * 4 ** Math.floor(rows.count / INDEX_STRETCHES);
    const isNext = first === known + 1 && gap >= 0 && gap <= most;
    if (isNext && lsn + bytes - begin <= Math.max(INDEX_EVERY_BYTES, most)) {
      rows.bytes[row] = lsn + bytes - begin;
      rows.last[row] = last;
    } else {
      rows.push(slot, row, first, last, lsn, bytes);
    }
  }

  /** A row as a file has it. */
  set(slot: Slot, stretches: Stretches, last: Sequence): void {
    let before = NONE;
    for (let i = 0; i < stretches.length; i += 3) {
      const behind = stretches[i + 3];
      const end = behind === undefined ? last : behind - 1;
      this.#rows.push(slot, before, stretches[i]!, end, stretches[i + 1]!, stretches[i + 2]!);
      before = this.#rows.newest(slot);
    }
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
    const rows = this.#rows;
    let row = rows.newest(slot);
    while (row !== NONE && rows.first[row]! >= first) row = rows.before[row]!;
    rows.setNewest(slot, row);
    if (row !== NONE) rows.last[row] = first - 1;
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
  get unsettled(): Iterable<[Slot, Row]> {
    return this.#unsettled();
  }

  *#unsettled(): IterableIterator<[Slot, Row]> {
    for (const slot of this.#rows.slots()) {
      yield [slot, { stretches: this.#rows.stretches(slot), last: this.last(slot)! }];
    }
  }

  /** The spaces that have entries here. */
  get slots(): IterableIterator<Slot> {
    return this.#settled ? this.#settledSlots() : this.#rows.slots();
  }

  *#settledSlots(): IterableIterator<Slot> {
    const { slots, lasts } = this.#settled!;
    for (let at = 0; at < slots.length; at++) if (lasts[at]! > 0) yield slots[at]!;
  }

  first(slot: Slot): Sequence | undefined {
    if (this.#settled) return this.#settled.firsts[this.#at(slot)];
    let first: Sequence | undefined;
    for (let row = this.#rows.newest(slot); row !== NONE; row = this.#rows.before[row]!) {
      first = this.#rows.first[row];
    }
    return first;
  }

  last(slot: Slot): Sequence | undefined {
    if (this.#settled) return this.#settled.lasts[this.#at(slot)];
    const row = this.#rows.newest(slot);
    return row === NONE ? undefined : this.#rows.last[row];
  }

  /** Each stretch of the space, the newest first, without a list; none where it has settled. */
  eachBack(slot: Slot, take: (first: Sequence, lsn: Lsn, bytes: number) => void): void {
    this.#rows.eachBack(slot, take);
  }

  /** Where entries of the space stand; none where it has settled. */
  stretches(slot: Slot): Stretches {
    return this.#rows.stretches(slot);
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
