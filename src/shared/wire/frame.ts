/**
 * What every frame is wrapped in: length u32 of the body, kind u8, 3 zero bytes, CRC32C of the
 * body (0 for batches: each has its own), CRC32C of these 12 bytes, body. All integers
 * little-endian. What the bodies say is in wire/protocol.ts and the files of codecs that it joins.
 */
import type { ByteReader, ByteWriter } from '../bytes.js';
import { crc32c, crc32cTable } from '../crc.js';
import { failure } from '../errors.js';
import {
  FRAME_HEADER_BYTES,
  FRAME_LEAST_BYTES,
  HELLO_FRAME_MAX_BYTES,
  SPARE_FRAME_BUFFERS,
} from '../limits.js';
import { isTls, unexpectedTls } from './tls/certificates.js';

/** The one kind whose body carries CRCs of its own. */
export const BATCHES = 6;

/** How the body of one kind of frame is written and read. */
export interface FrameCodec<F> {
  /** The kind byte. */
  readonly code: number;
  write(w: ByteWriter, frame: F): void;
  /** Throws ProtocolViolation; allocates by what is there only. */
  read(r: ByteReader): F;
  /** What version 2 of the protocol says instead, under a kind byte of its own. */
  readonly since2?: Pick<FrameCodec<F>, 'code' | 'write' | 'read'>;
  /** Bytes of its body, for one that is large and often there. */
  readonly size?: (frame: F) => number;
}

/** A codec for each member of a union of frames. */
export type FrameCodecs<F extends { kind: string }> = {
  readonly [K in F['kind']]: FrameCodec<Extract<F, { kind: K }>>;
};

/** All rows up to the end of the body. */
export function readRows<T>(r: ByteReader, read: (r: ByteReader) => T): T[] {
  const found: T[] = [];
  while (r.left > 0) found.push(read(r));
  return found;
}

/**
 * Rows in parts that any frame holds.
 * @param bytesOf the most that a row takes
 */
export function partsBySize<T>(rows: readonly T[], bytesOf: (row: T) => number): T[][] {
  const parts: T[][] = [];
  let left = 0;
  for (const row of rows) {
    const bytes = bytesOf(row);
    if (bytes > left) {
      parts.push([]);
      left = FRAME_LEAST_BYTES;
    }
    parts[parts.length - 1]!.push(row);
    left -= bytes;
  }
  return parts;
}

/** The word that a code stands for. Throws ProtocolViolation. */
export function oneOf<T>(values: readonly T[], index: number): T {
  const value = values[index];
  if (value === undefined) throw failure('ProtocolViolation', `a code ${index} nobody defined`);
  return value;
}

/** Writes a frame header for a body that the caller has put behind it. @param crc of the body */
export function writeFrameHeader(
  view: DataView,
  at: number,
  kind: number,
  length: number,
  crc: number,
): void {
  view.setUint32(at, length, true);
  view.setUint32(at + 4, kind, true);
  view.setUint32(at + 8, crc, true);
  view.setUint32(at + 12, crc32cTable(view, at, 12), true);
}

/** A frame as its header announces it. */
export interface FrameHead {
  readonly kind: number;
  readonly length: number;
  /** CRC32C of the body; batches have their own. */
  readonly crc: number;
}

/**
 * Reads a frame header. Throws ProtocolViolation when the length exceeds `cap` bytes, or the bytes
 * are no frame at all; ChecksumMismatch when a bit of it has changed on the way.
 */
export function readFrameHead(view: DataView, at: number, cap: number): FrameHead {
  const length = view.getUint32(at, true);
  const kind = view.getUint32(at + 4, true);
  if (crc32cTable(view, at, 12) !== view.getUint32(at + 12, true)) {
    if (kind === 0 || kind > 255) throw failure('ProtocolViolation', 'bytes that are no frame');
    throw failure('ChecksumMismatch', 'a frame whose header does not fit its CRC');
  }
  if (length > cap) throw failure('ProtocolViolation', `a frame of ${length} bytes, cap ${cap}`);
  return { kind, length, crc: view.getUint32(at + 8, true) };
}

/**
 * The memory in which the connections of one server bring their frames together: never more than
 * `most` bytes, however many they are (P5). Who finds no room waits for it, and those that have a
 * buffer for nothing give it back meanwhile. Two are kept: a link that comes and goes leaves no
 * garbage of its size each time.
 */
export class FrameBuffers {
  readonly #most: number;
  readonly #spare: Uint8Array[] = [];
  #lent = 0;
  #waiting: { readonly bytes: number; found(): void }[] = [];

  /** @param most bytes; at least one frame of the longest must find room */
  constructor(most = Number.POSITIVE_INFINITY) {
    this.#most = most;
  }

  /** Bytes in the hands of connections. */
  get lentBytes(): number {
    return this.#lent;
  }

  /** Somebody waits for room. */
  get isWanted(): boolean {
    return this.#waiting.length > 0;
  }

  /** At least `bytes` long; what is in it is old. undefined: there is no room, for now. */
  take(bytes: number): Uint8Array | undefined {
    const at = this.#spare.findIndex((spare) => spare.length >= bytes);
    const length = at < 0 ? bytes : this.#spare[at]!.length;
    if (this.#lent + length > this.#most) return undefined;
    this.#lent += length;
    return at < 0 ? new Uint8Array(bytes) : this.#spare.splice(at, 1)[0]!;
  }

  give(buffer: Uint8Array): void {
    this.#lent -= buffer.length;
    if (this.#spare.length < SPARE_FRAME_BUFFERS) this.#spare.push(buffer);
    else {
      // The longer ones are worth more.
      const least = this.#spare.reduce(
        (i, one, n, all) => (one.length < all[i]!.length ? n : i),
        0,
      );
      if (this.#spare[least]!.length < buffer.length) this.#spare[least] = buffer;
    }
    // Who needs little goes first: no crowd of long frames holds up a short one.
    const waiting = this.#waiting.splice(0).sort((a, b) => a.bytes - b.bytes);
    for (const { found } of waiting) found();
  }

  /** Resolves when something was given back: there may be room for so many bytes now. */
  whenRoom(bytes: number): Promise<void> {
    return new Promise((found) => this.#waiting.push({ bytes, found }));
  }
}

/** What every stream has for itself: the head of a frame, and short ones as a whole. */
const OWN_BYTES = FRAME_HEADER_BYTES + HELLO_FRAME_MAX_BYTES;

/**
 * Brings a byte stream into frames. One that is longer than what each stream has for itself gets a
 * buffer once so much of it has come: room for the whole frame, so that nobody waits for the rest
 * of it while others do the same.
 */
export class FrameAssembler {
  readonly #buffers: FrameBuffers;
  readonly #own = new Uint8Array(OWN_BYTES);
  #bytes: Uint8Array = this.#own;
  #view: DataView = new DataView(this.#own.buffer);
  #used = 0;
  /** Not yet known to be frames at all. */
  #isUnknown = true;
  #cap: number;
  /** Nothing has needed more than its own bytes since this was asked last. */
  #isIdle = false;

  /** @param buffers where the buffer for longer frames comes from, and goes back to */
  constructor(cap: number, buffers = new FrameBuffers()) {
    this.#buffers = buffers;
    this.#cap = cap;
  }

  /** A frame has begun to come, and is not whole. */
  get isHalf(): boolean {
    return this.#used > 0;
  }

  /** Of a frame that finds no room; 0: none does. */
  wantedBytes = 0;

  /** It has more than what each stream has for itself. */
  get holdsBuffer(): boolean {
    return this.#bytes !== this.#own;
  }

  /** From now on frames of up to `cap` bytes are taken. */
  setCap(cap: number): void {
    this.#cap = cap;
  }

  /** @returns whether there is room for `bytes` now, of a frame that has `end` bytes */
  #grow(bytes: number, end: number): boolean {
    if (this.holdsBuffer) this.#isIdle = false;
    this.wantedBytes = 0;
    if (bytes <= this.#bytes.length) return true;
    // Frames of about one length need one buffer.
    const length = Math.min(FRAME_HEADER_BYTES + this.#cap, 2 ** Math.ceil(Math.log2(end)));
    const next = this.#buffers.take(length);
    if (!next) {
      this.wantedBytes = length;
      return false;
    }
    next.set(this.#bytes.subarray(0, this.#used));
    this.#giveBack();
    this.#bytes = next;
    this.#view = new DataView(next.buffer);
    return true;
  }

  #giveBack(): void {
    if (this.holdsBuffer) this.#buffers.give(this.#bytes);
    this.#bytes = this.#own;
    this.#view = new DataView(this.#own.buffer);
  }

  /**
   * To be called now and then while no body is read: gives back what was not needed since the call
   * before, or is wanted elsewhere.
   */
  rest(): void {
    if (this.#used === 0 && (this.#isIdle || this.#buffers.isWanted)) this.#giveBack();
    this.#isIdle = true;
  }

  /** Another stream begins, with frames of up to `cap` bytes at first. */
  restart(cap: number): void {
    this.#used = 0;
    this.#isUnknown = true;
    this.setCap(cap);
  }

  /** Nothing is fed any more, and no body that was handed over is read. */
  release(): void {
    this.#giveBack();
    this.#used = 0;
  }

  /**
   * Takes `chunk` and hands over each whole frame. The body is valid only during the call.
   * `take` returns false to stop; the bytes not used up are returned, to be fed again. So they are
   * where the buffers have no room for them.
   * Throws ProtocolViolation, ChecksumMismatch, TlsMismatch.
   */
  feed(chunk: Uint8Array, take: (kind: number, body: Uint8Array) => boolean): Uint8Array {
    let rest = chunk;
    while (rest.length > 0) {
      const wanted = this.#wanted();
      const part = rest.subarray(0, wanted - this.#used);
      if (!this.#grow(this.#used + part.length, wanted)) break;
      this.#bytes.set(part, this.#used);
      this.#used += part.length;
      rest = rest.subarray(part.length);
      if (this.#isUnknown && this.#used >= 3) {
        if (isTls(this.#bytes)) throw unexpectedTls();
        this.#isUnknown = false;
      }
      if (this.#used < FRAME_HEADER_BYTES) break;
      const head = readFrameHead(this.#view, 0, this.#cap);
      const end = FRAME_HEADER_BYTES + head.length;
      if (this.#used < end) continue;
      this.#used = 0;
      const body = this.#bytes.subarray(FRAME_HEADER_BYTES, end);
      if (head.kind !== BATCHES && crc32c(body) !== head.crc) {
        throw failure('ChecksumMismatch', `a frame of kind ${head.kind} does not fit its CRC`);
      }
      if (!take(head.kind, body)) break;
    }
    return rest;
  }

  #wanted(): number {
    if (this.#used < FRAME_HEADER_BYTES) return FRAME_HEADER_BYTES;
    return FRAME_HEADER_BYTES + readFrameHead(this.#view, 0, this.#cap).length;
  }
}
