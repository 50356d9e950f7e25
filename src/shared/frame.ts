/**
 * What every frame is wrapped in: length u32 of the body, kind u8, 3 zero bytes, CRC32C of the
 * body (0 for batches: each has its own), CRC32C of these 12 bytes, body. All integers
 * little-endian. What the bodies say is in protocol.ts and the files of codecs that it joins.
 */
import type { ByteReader, ByteWriter } from './bytes.js';
import { crc32c, crc32cTable } from './crc.js';
import { failure } from './errors.js';
import { FRAME_HEADER_BYTES } from './limits.js';

/** The one kind whose body carries CRCs of its own. */
export const BATCHES = 6;

/** How the body of one kind of frame is written and read. */
export interface FrameCodec<F> {
  /** The kind byte. */
  readonly code: number;
  write(w: ByteWriter, frame: F): void;
  /** Throws ProtocolViolation; allocates by what is there only. */
  read(r: ByteReader): F;
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
 * Brings a byte stream into frames in one buffer that never grows beyond what has arrived nor
 * beyond its cap.
 */
export class FrameAssembler {
  #bytes: Uint8Array;
  #view: DataView;
  #used = 0;
  #cap: number;

  constructor(cap: number) {
    this.#cap = cap;
    this.#bytes = new Uint8Array(FRAME_HEADER_BYTES + cap);
    this.#view = new DataView(this.#bytes.buffer);
  }

  /** From now on frames of up to `cap` bytes are taken. */
  setCap(cap: number): void {
    const bytes = new Uint8Array(FRAME_HEADER_BYTES + cap);
    bytes.set(this.#bytes.subarray(0, Math.min(this.#used, bytes.length)));
    this.#cap = cap;
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer);
  }

  /**
   * Takes `chunk` and hands over each whole frame. The body is valid only during the call.
   * `take` returns false to stop; the bytes not used up are returned, to be fed again.
   */
  feed(chunk: Uint8Array, take: (kind: number, body: Uint8Array) => boolean): Uint8Array {
    let rest = chunk;
    while (rest.length > 0) {
      const wanted = this.#wanted();
      const part = rest.subarray(0, wanted - this.#used);
      this.#bytes.set(part, this.#used);
      this.#used += part.length;
      rest = rest.subarray(part.length);
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
