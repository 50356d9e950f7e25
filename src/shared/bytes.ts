/** Bounded reading and writing of little-endian records: frames, node records, state. */

import { assert, type ErrorCode, failure } from './errors.js';

/** Of the upper half of a u64. */
const HIGH = 2 ** 32;
const { fill } = Buffer.prototype;
/** From here on a call out costs less than a copy byte by byte. */
const CALLED_FROM_BYTES = 128;
/** ... than one word by word. */
const CALLED_ALIKE_FROM_BYTES = 1_024;
const UTF8 = new TextEncoder();
const TEXT = new TextDecoder('utf-8', { fatal: true });

/**
 * `into.set(from, at)` where one of them is shared memory: there `set` copies word by word at best,
 * and byte by byte where they do not stand alike in their words, at a twentieth of the speed.
 * @param size of `from` @param offset where it stands in its buffer
 */
export function copyBytes(
  into: Uint8Array,
  at: number,
  from: Uint8Array,
  size = from.length,
  offset = from.byteOffset,
): void {
  const isAlike = ((offset ^ (into.byteOffset + at)) & 7) === 0;
  if (size < (isAlike ? CALLED_ALIKE_FROM_BYTES : CALLED_FROM_BYTES)) into.set(from, at);
  else fill.call(into as Buffer, from, at, at + size);
}

/** So many are remembered: the nodes of a cluster, their sets before and after a change. */
const RECENT_MAX = 8;

interface Known<T> {
  readonly bytes: Uint8Array;
  readonly value: T;
}

/**
 * What was read and written last of one kind, with its bytes: thousands of spaces have the same
 * members, and share one object for them. Nobody may change what stands here, and its bytes have to
 * say where they end.
 */
export class Recent<T> {
  readonly #read: Known<T>[] = [];
  /** By itself: what was read may be more than is written of it. */
  readonly #written: Known<T>[] = [];

  /** One whose bytes stand there. */
  readAt(bytes: Uint8Array, from: number): Known<T> | undefined {
    return this.#read.find((known) => standsAt(known.bytes, bytes, from));
  }

  /** What was written for it. */
  bytesOf(value: T): Uint8Array | undefined {
    for (const known of this.#written) if (known.value === value) return known.bytes;
    return undefined;
  }

  read(bytes: Uint8Array, value: T): void {
    keep(this.#read, bytes, value);
  }

  written(bytes: Uint8Array, value: T): void {
    keep(this.#written, bytes, value);
  }
}

function keep<T>(all: Known<T>[], bytes: Uint8Array, value: T): void {
  if (all.push({ bytes, value }) > RECENT_MAX) all.shift();
}

function standsAt(known: Uint8Array, bytes: Uint8Array, from: number): boolean {
  if (bytes.length - from < known.length) return false;
  for (let i = 0; i < known.length; i++) if (known[i] !== bytes[from + i]) return false;
  return true;
}

/**
 * Memory that what is written again and again leaves to its next time. Of thousands of spaces it is
 * megabytes, and as garbage outside of the heap it is what makes V8 mark all of that.
 */
export class ByteRoom {
  #left: Uint8Array = new Uint8Array(0);

  /** At least so many bytes, and whatever stands in them: what was left, or new. */
  take(least: number): Uint8Array {
    const left = this.#left;
    if (left.length < least) return new Uint8Array(least);
    this.#left = new Uint8Array(0);
    return left;
  }

  /** Nobody reads any of the buffer any more that they stand in. */
  leave({ buffer }: Uint8Array): void {
    if (buffer.byteLength > this.#left.length) this.#left = new Uint8Array(buffer);
  }
}

/** Grows as it is written. Everything written is ours, so its size is bounded by what we hold. */
export class ByteWriter {
  #bytes: Uint8Array;
  #view: DataView;
  #at = 0;

  /** @param bytes to begin with: as it grows, it leaves as much behind */
  constructor(bytes: Uint8Array = new Uint8Array(256)) {
    this.#bytes = bytes;
    this.#view = new DataView(this.#bytes.buffer);
  }

  get length(): number {
    return this.#at;
  }

  u8(value: number): this {
    const at = this.#room(1);
    this.#view.setUint8(at, value);
    return this;
  }
  u16(value: number): this {
    const at = this.#room(2);
    this.#view.setUint16(at, value, true);
    return this;
  }
  u32(value: number): this {
    const at = this.#room(4);
    this.#view.setUint32(at, value, true);
    return this;
  }
  /** A safe integer from 0 as u64. */
  u64(value: number): this {
    assert(Number.isSafeInteger(value) && value >= 0, 'a u64 that is no whole number from 0');
    const at = this.#room(8);
    this.#view.setUint32(at, value >>> 0, true);
    this.#view.setUint32(at + 4, Math.floor(value / HIGH), true);
    return this;
  }
  big(value: bigint): this {
    const at = this.#room(8);
    this.#view.setBigUint64(at, value, true);
    return this;
  }
  /** 16 bytes given as 32 hex digits. */
  id(hex: string): this {
    for (let i = 0; i < 4; i++) this.u32(idWord(hex, i));
    return this;
  }
  /** UTF-8 behind its length as u8; what is longer is cut between two characters. */
  text(value: string): this {
    const at = this.#room(1 + Math.min(255, 3 * value.length));
    const ascii = value.length > 255 ? 0 : this.#putAscii(value, at + 1);
    const isWhole = ascii === value.length;
    const into = isWhole ? undefined : this.#bytes.subarray(at + 1, this.#at);
    const written = into ? UTF8.encodeInto(value, into).written : ascii;
    this.#bytes[at] = written;
    this.#at = at + 1 + written;
    return this;
  }
  /** Most texts are names and short: a call out costs more. @returns how many bytes it could */
  #putAscii(value: string, at: number): number {
    for (let i = 0; i < value.length; i++) {
      const code = value.charCodeAt(i);
      if (code > 127) return i;
      this.#bytes[at + i] = code;
    }
    return value.length;
  }
  raw(value: Uint8Array): this {
    const at = this.#room(value.length);
    this.#bytes.set(value, at);
    return this;
  }
  /**
   * What `write` appends for a value, copied where it was written a moment ago.
   * @param write one for all values: there are many, and a function for each would be garbage
   */
  recent<T>(known: Recent<T>, value: T, write: (w: ByteWriter, value: T) => void): this {
    const bytes = known.bytesOf(value);
    if (bytes) return this.raw(bytes);
    const from = this.#at;
    write(this, value);
    known.written(this.#bytes.slice(from, this.#at), value);
    return this;
  }
  /** A view of what was written so far; writing more may leave it behind. */
  bytes(): Uint8Array {
    return this.#bytes.subarray(0, this.#at);
  }

  /** May replace the buffer: taken before the view is looked at. */
  #room(bytes: number): number {
    const at = this.#at;
    this.#at += bytes;
    if (this.#at > this.#bytes.length) {
      const grown = new Uint8Array(Math.max(2 * this.#bytes.length, this.#at));
      grown.set(this.#bytes);
      this.#bytes = grown;
      this.#view = new DataView(grown.buffer);
    }
    return at;
  }
}

/** Reads within the bytes that are there; a claim beyond them throws the code it was given. */
export class ByteReader {
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  readonly #code: ErrorCode;
  #at = 0;

  constructor(bytes: Uint8Array, code: ErrorCode) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.#code = code;
  }

  get left(): number {
    return this.#bytes.length - this.#at;
  }

  u8(): number {
    return this.#view.getUint8(this.#take(1));
  }
  u16(): number {
    return this.#view.getUint16(this.#take(2), true);
  }
  u32(): number {
    return this.#view.getUint32(this.#take(4), true);
  }
  /** u64 as a safe integer; more is refused. */
  u64(): number {
    const at = this.#take(8);
    const high = this.#view.getUint32(at + 4, true);
    const value = high * HIGH + this.#view.getUint32(at, true);
    if (!Number.isSafeInteger(value)) throw failure(this.#code, `the number ${value} is too large`);
    return value;
  }
  big(): bigint {
    return this.#view.getBigUint64(this.#take(8), true);
  }
  id(): string {
    return hexOf(this.#view, this.#take(16), 16);
  }
  text(): string {
    const length = this.u8();
    const at = this.#take(length);
    try {
      return TEXT.decode(this.#bytes.slice(at, at + length));
    } catch (cause) {
      throw failure(this.#code, `a text that is no UTF-8 at byte ${at}`, { cause });
    }
  }
  /** What `read` gives; where its bytes were read a moment ago, what they gave then. */
  recent<T>(known: Recent<T>, read: () => T): T {
    const from = this.#at;
    const found = known.readAt(this.#bytes, from);
    if (found) {
      this.#at += found.bytes.length;
      return found.value;
    }
    const value = read();
    known.read(this.#bytes.slice(from, this.#at), value);
    return value;
  }
  /** The next `length` bytes as a view. */
  raw(length: number): Uint8Array {
    const at = this.#take(length);
    return this.#bytes.subarray(at, at + length);
  }
  /** Nothing may follow. */
  end(): void {
    if (this.left > 0) throw failure(this.#code, `${this.left} bytes behind the last field`);
  }

  #take(bytes: number): number {
    if (bytes > this.left) {
      throw failure(this.#code, `${this.left} bytes left where ${bytes} should follow`);
    }
    const at = this.#at;
    this.#at += bytes;
    return at;
  }
}

/** A space id as four words, as the sealer writes them. */
export type SpaceIdWords = readonly [number, number, number, number];

/** The little-endian word `index` (0..3) of an id given as 32 hex digits. */
export function idWord(hex: string, index: number): number {
  const at = 8 * index;
  let word = 0;
  for (let byte = 3; byte >= 0; byte--) word = (word << 8) | hexByte(hex, at + 2 * byte);
  return word >>> 0;
}

/** The first four bytes of an id, big-endian: ids sort by them as their texts do. */
export function idBegin(hex: string): number {
  let word = 0;
  for (let at = 0; at < 8; at += 2) word = (word << 8) | hexByte(hex, at);
  return word >>> 0;
}

/** Without a piece of text for each: many spaces are opened at once. */
function hexByte(hex: string, at: number): number {
  return (hexDigit(hex.charCodeAt(at)) << 4) | hexDigit(hex.charCodeAt(at + 1));
}

/** Letters have a bit that digits have not, and begin at 1. */
function hexDigit(code: number): number {
  return (code & 15) + 9 * (code >> 6);
}

/** All four words of an id given as 32 hex digits. */
export function idWords(hex: string): SpaceIdWords {
  return [idWord(hex, 0), idWord(hex, 1), idWord(hex, 2), idWord(hex, 3)];
}

/** `length` bytes at `offset` as lower-case hex: one flat text, many are kept. */
export function hexOf(view: DataView, offset: number, length: number): string {
  return Buffer.from(view.buffer, view.byteOffset + offset, length).toString('hex');
}

/** The inverse of `idWords`. */
export function hexOfWords(words: SpaceIdWords): string {
  const view = new DataView(new ArrayBuffer(16));
  for (const [i, word] of words.entries()) view.setUint32(4 * i, word, true);
  return hexOf(view, 0, 16);
}
