/**
 * For one segment: which entries of each space it holds, and where they stand, so that reading one
 * space costs what it has there and not what others have. For reading and retention only; the log
 * is the truth, and a lost index is built again from it.
 *
 * While its segment is written an index knows every stretch: bytes in which entries of a space
 * stand in sequence, others between them only as far as that costs less than another read. Once it
 * is in its file it settles: it keeps first and last of each space; stretches are read from there.
 */
import { ByteRoom } from '../bytes.js';
import { INDEX_EVERY_BYTES, INDEX_GAP_BYTES, INDEX_STRETCHES } from '../limits.js';
import type { Lsn, Sequence, Slot } from '../position.js';

/** First sequence, LSN and bytes of each stretch, in turn, ascending. */
export type Stretches = number[];

export type TakeStretch = (slot: Slot, first: Sequence, lsn: Lsn, bytes: number) => void;

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

/** Of a stretch: its first and last sequence, where it begins, its bytes. */
const FIELDS = 4;
const FIRST = 0;
const LAST = 1;
const LSN = 2;
const BYTES = 3;

/** ... the row of the one before it of the same space (NONE: it is the first), and whose it is. */
const LINKS = 2;
const BEFORE = 0;
/** NONE: it is void. */
const SLOT = 1;

/** Of a space: the row of its newest stretch and one more (0: it has none), and how many it has. */
const SPACE_WORDS = 2;
const NEWEST = 0;
const COUNT = 1;

interface Stretched {
  readonly rows: Float64Array;
  readonly links: Int32Array;
}

/**
 * Room that the index of one segment leaves to the next, as `ByteRoom` does. There are two of them:
 * one begins before the last one is in its file.
 */
export class IndexRoom {
  /** For the file of it. */
  readonly file = new ByteRoom();
  #left: Stretched | undefined;
  /** So many stretches, and slots, the last ones had room for. */
  #stretches = 0;
  slots = FIRST_ROWS;

  /** For more than `count` stretches: what was left, or new. */
  more(count: number): Stretched {
    const left = this.#left;
    if (left && left.rows.length > FIELDS * count) {
      this.#left = undefined;
      return left;
    }
    const room = Math.max(2 * count, this.#stretches);
    return { rows: new Float64Array(FIELDS * room), links: new Int32Array(LINKS * room) };
  }

  /** Nobody reads them any more. */
  leave(stretched: Stretched): void {
    this.#left = stretched;
    this.#stretches = stretched.rows.length / FIELDS;
  }
}

/**
 * The stretches of all spaces in the order in which they began, one row each. A space's are chained
 * from the newest back: nothing is made for one of them, however many spaces there are. What is
 * looked at together stands together, for of thousands of spaces little is in a cache.
 */
class StretchRows {
  count = 0;
  #rows: Float64Array = new Float64Array(FIELDS * FIRST_ROWS);
  #links: Int32Array = new Int32Array(LINKS * FIRST_ROWS);
  #spaces = new Int32Array(SPACE_WORDS * FIRST_ROWS);
  /** By slot: the first sequence, where it has any. */
  #firsts = new Float64Array(FIRST_ROWS);
  readonly #room: IndexRoom;

  constructor(room: IndexRoom) {
    this.#room = room;
  }

  newest(slot: Slot): number {
    return (this.#spaces[SPACE_WORDS * slot + NEWEST] ?? 0) - 1;
  }

  /** How many the space has. */
  countOf(slot: Slot): number {
    return this.#spaces[SPACE_WORDS * slot + COUNT] ?? 0;
  }

  /** Of a space that has any. */
  firstOf(slot: Slot): Sequence {
    return this.#firsts[slot]!;
  }

  last(row: number): Sequence {
    return this.#rows[FIELDS * row + LAST]!;
  }
  lsn(row: number): Lsn {
    return this.#rows[FIELDS * row + LSN]!;
  }
  bytes(row: number): number {
    return this.#rows[FIELDS * row + BYTES]!;
  }

  /** The stretch goes on up to there. */
  extend(row: number, last: Sequence, bytes: number): void {
    this.#rows[FIELDS * row + LAST] = last;
    this.#rows[FIELDS * row + BYTES] = bytes;
  }

  /** Behind the one at `before`, the newest; NONE: all that the space had is void. */
  push(slot: Slot, before: number, first: Sequence, last: Sequence, lsn: Lsn, bytes: number): void {
    if (FIELDS * this.count === this.#rows.length) this.#grow();
    if (before === NONE && this.newest(slot) !== NONE) this.rewind(slot, 0);
    const row = this.count++;
    this.#links[LINKS * row + BEFORE] = before;
    this.#links[LINKS * row + SLOT] = slot;
    const at = FIELDS * row;
    this.#rows[at + FIRST] = first;
    this.#rows[at + LAST] = last;
    this.#rows[at + LSN] = lsn;
    this.#rows[at + BYTES] = bytes;
    if (slot >= this.#firsts.length) this.#growSpaces(slot);
    this.#spaces[SPACE_WORDS * slot + NEWEST] = row + 1;
    if (before === NONE) {
      this.#firsts[slot] = first;
      this.#spaces[SPACE_WORDS * slot + COUNT] = 1;
    } else {
      this.#spaces[SPACE_WORDS * slot + COUNT]!++;
    }
  }

  /** Entries of the space from `first` on are void. */
  rewind(slot: Slot, first: Sequence): void {
    let row = this.newest(slot);
    let count = this.countOf(slot);
    while (row !== NONE && this.#rows[FIELDS * row + FIRST]! >= first) {
      this.#links[LINKS * row + SLOT] = NONE;
      row = this.#links[LINKS * row + BEFORE]!;
      count--;
    }
    this.#spaces[SPACE_WORDS * slot + NEWEST] = row + 1;
    this.#spaces[SPACE_WORDS * slot + COUNT] = count;
    if (row !== NONE) this.#rows[FIELDS * row + LAST] = first - 1;
  }

  #growSpaces(slot: Slot): void {
    // Not left to the next one: who goes over its spaces goes on when it has settled.
    const length = Math.max(this.#room.slots, 2 ** Math.ceil(Math.log2(slot + 1)));
    this.#room.slots = length;
    const spaces = new Int32Array(SPACE_WORDS * length);
    spaces.set(this.#spaces);
    this.#spaces = spaces;
    const firsts = new Float64Array(length);
    firsts.set(this.#firsts);
    this.#firsts = firsts;
  }

  #grow(): void {
    const { rows, links } = this.#room.more(this.count);
    links.set(this.#links);
    rows.set(this.#rows);
    [this.#rows, this.#links] = [rows, links];
  }

  /** What is asked from here on is which spaces there are, and nothing of their stretches. */
  leave(): void {
    this.#room.leave({ rows: this.#rows, links: this.#links });
  }

  /** How many spaces have stretches. */
  get spaces(): number {
    let count = 0;
    for (let slot = 0; slot < this.#firsts.length; slot++) if (this.newest(slot) >= 0) count++;
    return count;
  }

  /** First and last of each space. */
  ends(): Settled {
    const { spaces } = this;
    const slots = new Uint32Array(spaces);
    const firsts = new Float64Array(spaces);
    const lasts = new Float64Array(spaces);
    for (let slot = 0, at = 0; at < spaces; slot++) {
      const row = this.newest(slot);
      if (row === NONE) continue;
      slots[at] = slot;
      firsts[at] = this.#firsts[slot]!;
      lasts[at++] = this.last(row);
    }
    return { slots, firsts, lasts };
  }

  *slots(): IterableIterator<Slot> {
    for (let slot = 0; slot < this.#firsts.length; slot++) if (this.newest(slot) >= 0) yield slot;
  }

  each(take: TakeStretch): void {
    const [rows, links] = [this.#rows, this.#links];
    for (let row = 0; row < this.count; row++) {
      const slot = links[LINKS * row + SLOT]!;
      const at = FIELDS * row;
      if (slot !== NONE) take(slot, rows[at + FIRST]!, rows[at + LSN]!, rows[at + BYTES]!);
    }
  }

  stretches(slot: Slot): Stretches {
    let length = 3 * this.countOf(slot);
    const found: Stretches = new Array(length).fill(0);
    for (let row = this.newest(slot); row !== NONE; row = this.#links[LINKS * row + BEFORE]!) {
      length -= 3;
      const at = FIELDS * row;
      found[length] = this.#rows[at + FIRST]!;
      found[length + 1] = this.#rows[at + LSN]!;
      found[length + 2] = this.#rows[at + BYTES]!;
    }
    return found;
  }
}

export class SegmentIndex {
  readonly room: IndexRoom;
  #rows: StretchRows;
  #settled: Settled | undefined;

  /** @param room where that of an index before this one is, and its own is left */
  constructor(room = new IndexRoom()) {
    this.room = room;
    this.#rows = new StretchRows(room);
  }

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
    this.#settled = this.ends();
    this.#rows.leave();
    this.#rows = new StretchRows(this.room);
  }

  /** First and last of each space, as of now. */
  ends(): Settled {
    return this.#settled ?? this.#rows.ends();
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
    const known = row === NONE ? 0 : rows.last(row);
    if (first <= known) {
      rows.push(slot, NONE, first, last, lsn, bytes);
      return;
    }
    const begin = row === NONE ? 0 : rows.lsn(row);
    const gap = row === NONE ? -1 : lsn - begin - rows.bytes(row);
    // The more there are, the coarser they become: memory stays bounded, however many spaces.
    const most = INDEX_GAP_BYTES * 4 ** Math.floor(rows.count / INDEX_STRETCHES);
    const isNext = first === known + 1 && gap >= 0 && gap <= most;
    if (isNext && lsn + bytes - begin <= Math.max(INDEX_EVERY_BYTES, most)) {
      rows.extend(row, last, lsn + bytes - begin);
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
    this.#rows.rewind(slot, first);
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
    return this.#rows.newest(slot) === NONE ? undefined : this.#rows.firstOf(slot);
  }

  last(slot: Slot): Sequence | undefined {
    if (this.#settled) return this.#settled.lasts[this.#at(slot)];
    const row = this.#rows.newest(slot);
    return row === NONE ? undefined : this.#rows.last(row);
  }

  /** How many stretches the space has; 0 where it has settled. */
  countOf(slot: Slot): number {
    return this.#rows.countOf(slot);
  }

  /**
   * Each stretch of all spaces, without a list, in the order in which they began: that is how they
   * stand in memory, which of one space after the other is in no cache. None where it has settled.
   */
  each(take: TakeStretch): void {
    this.#rows.each(take);
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
