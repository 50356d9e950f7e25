/**
 * When the entries of one space became durable here, and how many bytes they are: what lag is made
 * of (lag.ts). Neighbours are brought together, the older the more, so that a week takes a few
 * hundred rows and yet no lag is off by more than a twentieth.
 */
import type { Sequence } from '../position.js';

/** A row: its last sequence, when its first and its last entry became durable, bytes up to it. */
const LAST = 0;
const FIRST_MS = 1;
const LAST_MS = 2;
const BYTES = 3;
const FIELDS = 4;

/** Rows are joined that span no more than this part of their age, or of the bytes behind them. */
const JOINED_SHARE = 1 / 10;
/** What is told is their middle: so much may they always span, once they are twice as old. */
const JOINED_MS = 200;
const JOINED_BYTES = 64 * 1024;
/** Fewer than these are not worth a look at them. */
const THINNED_FROM = 48;
/** What a space that is written at any pace takes for a week without a replica, and half more. */
const ROWS_MAX = 512;
/** Of all spaces of a node. */
const ALL_ROWS = 2 ** 20;

/** How many rows each of so many spaces may keep. */
export function rowsEach(spaces: number): number {
  return Math.max(THINNED_FROM, Math.min(ROWS_MAX, Math.floor(ALL_ROWS / Math.max(1, spaces))));
}

const NO_ROWS = new Float64Array(0);
const FIRST_ROWS = 8;
/** Two kilobytes: as many as are thinned. */
const KEPT_ROWS = 64;

export class DurableTimes {
  /**
   * Outside of the heap, with room to grow: as lists of thousands of spaces, they were most of what
   * the collector had to copy.
   */
  #rows = NO_ROWS;
  /** Fields of it that are taken. */
  #end = 0;
  /** Nothing is known of entries up to here. */
  #from: Sequence;
  #fromBytes = 0;
  #last: Sequence;
  #bytes = 0;
  #thinAt = THINNED_FROM;

  /** @param last the space's last sequence: nothing is known of it and what is before */
  constructor(last: Sequence) {
    this.#from = last;
    this.#last = last;
  }

  /** Entries that are durable and have no row: up to here. */
  get from(): Sequence {
    return this.#from;
  }

  /** The last entry that has a row. */
  get last(): Sequence {
    return this.#last;
  }

  /** Bytes of the entries behind `from`. */
  get bytes(): number {
    return this.#bytes - this.#fromBytes;
  }

  get rows(): number {
    return this.#end / FIELDS;
  }

  /**
   * Entries `first`..`last`, `size` bytes together, have become durable at `nowMs`. Where they do
   * not follow what was told before, that is forgotten.
   * @param rowsMax how many rows may be kept
   */
  add(first: Sequence, last: Sequence, size: number, nowMs: number, rowsMax: number): void {
    if (first !== this.#last + 1) this.startAt(first - 1);
    if (this.rows >= Math.min(this.#thinAt, rowsMax)) this.#thin(nowMs, rowsMax);
    this.#last = last;
    this.#bytes += size;
    // Two groups of one moment: what was joined can be told by its times.
    const at = this.#end;
    const ms = at === 0 ? nowMs : Math.max(nowMs, this.#rows[at + LAST_MS - FIELDS]! + 0.001);
    if (at === this.#rows.length) this.#resize(Math.max(2 * at, FIRST_ROWS * FIELDS), 0);
    this.#end = at + FIELDS;
    this.#rows[at + LAST] = last;
    this.#rows[at + FIRST_MS] = ms;
    this.#rows[at + LAST_MS] = ms;
    this.#rows[at + BYTES] = this.#bytes;
  }

  /** Nothing is known up to there. */
  startAt(last: Sequence): void {
    this.#end = 0;
    this.#thinAt = THINNED_FROM;
    this.#from = last;
    this.#last = last;
    this.#bytes = 0;
    this.#fromBytes = 0;
  }

  /** Entries from `first` on are void. */
  takeBack(first: Sequence): void {
    const rows = this.#rows;
    while (this.#end > 0 && rows[this.#end - FIELDS + LAST]! >= first) this.#end -= FIELDS;
    if (this.#end === 0) {
      this.startAt(Math.min(this.#from, first - 1));
      return;
    }
    this.#last = rows[this.#end - FIELDS + LAST]!;
    this.#bytes = rows[this.#end - FIELDS + BYTES]!;
  }

  /** Everybody has flushed up to there: nobody will ask. */
  forget(flushed: Sequence): void {
    const rows = this.#rows;
    let at = this.#rowOf(flushed);
    // Its own row holds entries that somebody lacks; where it is whole, nobody does.
    if (at < this.#end && rows[at + LAST]! <= flushed) at += FIELDS;
    if (at === 0) return;
    this.#from = rows[at - FIELDS + LAST]!;
    this.#fromBytes = rows[at - FIELDS + BYTES]!;
    const left = this.#end - at;
    // What was once much takes no room for ever; the usual is not given back to be asked for again.
    const usual = KEPT_ROWS * FIELDS;
    if (rows.length > usual && 4 * left < rows.length) this.#resize(Math.max(2 * left, usual), at);
    else rows.copyWithin(0, at, this.#end);
    this.#end = left;
    this.#thinAt = Math.max(THINNED_FROM, 2 * this.rows);
  }

  /** Room for so many fields, and in it those from `from` on. */
  #resize(fields: number, from: number): void {
    const rows = new Float64Array(fields);
    rows.set(this.#rows.subarray(from, this.#end));
    this.#rows = rows;
  }

  /**
   * What who has flushed up to there lacks. undefined: its first entry is not known.
   * @returns when that became durable, and the bytes from there on
   */
  behind(flushed: Sequence): { readonly sinceMs: number; readonly bytes: number } | undefined {
    const rows = this.#rows;
    if (flushed < this.#from) return undefined;
    const at = this.#rowOf(flushed + 1);
    if (at >= this.#end) return undefined;
    const firstMs = rows[at + FIRST_MS]!;
    const lastMs = rows[at + LAST_MS]!;
    const before = at === 0 ? this.#from : rows[at - FIELDS + LAST]!;
    const beforeBytes = at === 0 ? this.#fromBytes : rows[at - FIELDS + BYTES]!;
    // Exact where the row begins there; in a group of one moment by the count of its entries.
    if (flushed === before) return { sinceMs: firstMs, bytes: this.#bytes - beforeBytes };
    const isJoined = firstMs < lastMs;
    const share = isJoined ? 1 / 2 : (flushed - before) / (rows[at + LAST]! - before);
    const bytes = this.#bytes - beforeBytes - share * (rows[at + BYTES]! - beforeBytes);
    return { sinceMs: (firstMs + lastMs) / 2, bytes: Math.round(bytes) };
  }

  /** Where the row begins that holds `sequence`; the length of all where it is behind them. */
  #rowOf(sequence: Sequence): number {
    let low = 0;
    let high = this.rows;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.#rows[FIELDS * middle + LAST]! < sequence) low = middle + 1;
      else high = middle;
    }
    return FIELDS * low;
  }

  /** Only where there are more than `rowsMax` they are joined more than is good for the figures. */
  #thin(nowMs: number, rowsMax: number): void {
    const room = Math.floor((3 * rowsMax) / 4);
    for (let share = JOINED_SHARE; ; share *= 2) {
      this.#join(nowMs, share);
      if (this.rows <= room) break;
    }
    this.#thinAt = Math.max(THINNED_FROM, 2 * this.rows);
  }

  #join(nowMs: number, share: number): void {
    const rows = this.#rows;
    let to = 0;
    let before = this.#fromBytes;
    for (let from = 0; from < this.#end; from += FIELDS) {
      const lastMs = rows[from + LAST_MS]!;
      const bytes = rows[from + BYTES]!;
      // Of one moment are as many as one fdatasync has made durable: they are joined as well.
      const ageMs = Math.max(1, nowMs - lastMs);
      const spanMs = to > 0 ? lastMs - rows[to - FIELDS + FIRST_MS]! : Number.POSITIVE_INFINITY;
      const isJoined =
        spanMs <= Math.max(share * ageMs, Math.min(JOINED_MS, ageMs / 2)) &&
        bytes - before <= Math.max(share * (this.#bytes - bytes), JOINED_BYTES);
      const firstMs = isJoined ? rows[to - FIELDS + FIRST_MS]! : rows[from + FIRST_MS]!;
      if (isJoined) to -= FIELDS;
      else if (to > 0) before = rows[to - FIELDS + BYTES]!;
      rows[to + LAST] = rows[from + LAST]!;
      rows[to + FIRST_MS] = firstMs;
      rows[to + LAST_MS] = lastMs;
      rows[to + BYTES] = bytes;
      to += FIELDS;
    }
    this.#end = to;
  }
}
