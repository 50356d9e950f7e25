/** One frame of batches, built in a send buffer of the shipper's own. */

import { copyBytes, idWords, type SpaceIdWords } from '../../bytes.js';
import { crc32cJoined } from '../../crc.js';
import {
  BATCH_HEADER_BYTES,
  BATCH_MAX_ENTRIES,
  FRAME_HEADER_BYTES,
  MIXED_RUN_MAX_ENTRIES,
} from '../../limits.js';
import type { Epoch, Sequence, Slot } from '../../position.js';
import { type BatchBody, type BatchFacts, writeBatchHeader } from '../batch.js';
import { type Codec, compressed } from '../compression.js';
import { BATCHES, writeFrameHeader } from '../frame.js';

const LENGTH_BYTES = 4;
const PREFIX_BYTES = LENGTH_BYTES + BATCH_HEADER_BYTES;

/** Of a part of a batch, entries of one space: slot, last sequence, bytes of entries. */
export const PART_FIELDS = 3;
export const PART_SLOT = 0;
export const PART_LAST = 1;
export const PART_BYTES = 2;
const FIRST_PARTS = 64;

/** A batch that the frame holds, or is being given. */
export interface BuiltBatch extends BatchFacts {
  readonly space: SpaceIdWords;
  /** All its entries are of the current epoch of their space: others may join them. */
  readonly isCurrent: boolean;
  /** Where its length stands. */
  readonly at: number;
  entryCount: number;
  totalSize: number;
  /** CRC32C of its entries; undefined once one of them was added without. */
  crc: number | undefined;
  /** Of more than one it is mixed. */
  parts: number;
  /** On the wire, its length and header included. */
  bytes: number;
}

/** See `mark`. */
export interface FrameMark {
  readonly used: number;
  readonly batches: number;
  readonly parts: number;
}

export class FrameBuilder {
  readonly bytes: Uint8Array;
  readonly #view: DataView;
  readonly #primary: SpaceIdWords;
  #codec: Codec | undefined;
  #mixes = false;
  /** What the frame would have without compression. */
  #rawBytes = 0;
  #used = FRAME_HEADER_BYTES;
  #limit = 0;
  #open: BuiltBatch | undefined;
  readonly batches: BuiltBatch[] = [];
  /** A list that is emptied gives its room back, and grows anew: for each frame of thousands. */
  #parts = new Float64Array(PART_FIELDS * FIRST_PARTS);
  #partsEnd = 0;

  /** @param capacity bytes of the whole frame @param nodeHash the primary_node_id, hex */
  constructor(capacity: number, nodeHash: string) {
    this.bytes = new Uint8Array(capacity);
    this.#view = new DataView(this.bytes.buffer);
    this.#primary = idWords(nodeHash);
  }

  /**
   * @param limit it takes no more bytes than so many, but for a first entry that is longer
   * @param codec what batches are compressed with, as far as they become smaller
   * @param mixes a batch may have entries of several spaces
   */
  reset(limit: number, codec?: Codec, mixes = false): void {
    this.#codec = codec;
    this.#mixes = mixes;
    this.#limit = Math.min(limit, this.bytes.length);
    this.#used = FRAME_HEADER_BYTES;
    this.#open = undefined;
    this.batches.length = 0;
    this.#partsEnd = 0;
  }

  /** Of all batches in turn, PART_FIELDS each; valid until the next part. */
  get parts(): Float64Array {
    return this.#parts.subarray(0, this.#partsEnd);
  }

  get isEmpty(): boolean {
    return this.batches.length === 0 && !this.#open;
  }

  /** Bytes of entries for which a batch alone in the frame has room. */
  get roomOfFrame(): number {
    return this.#limit - FRAME_HEADER_BYTES - PREFIX_BYTES;
  }

  /** Bytes of entries for which a new batch would have room. */
  get roomInNewBatch(): number {
    return this.#limit - this.#used - PREFIX_BYTES;
  }

  /** Bytes of entries for which the open batch has room. */
  get room(): number {
    return this.#limit - this.#used;
  }

  /** How many more entries the open batch takes. */
  get entriesLeft(): number {
    return BATCH_MAX_ENTRIES - this.#open!.entryCount;
  }

  /** Too little room is left to begin with another group. */
  get isMostlyFull(): boolean {
    return !this.isEmpty && this.room < this.#limit / 2;
  }

  /** The open batch takes this entry next: same space, next sequence. */
  continues(slot: Slot, sequence: Sequence): boolean {
    if (!this.#open || this.#open.entryCount >= BATCH_MAX_ENTRIES) return false;
    const [parts, part] = [this.#parts, this.#partsEnd - PART_FIELDS];
    return parts[part + PART_SLOT] === slot && parts[part + PART_LAST]! + 1 === sequence;
  }

  /** So many entries of another space, all of its current epoch, may join the open batch. */
  mayJoin(entries: number, bytes: number): boolean {
    const open = this.#open;
    if (!this.#mixes || !open?.isCurrent || bytes > this.room) return false;
    const isLong = open.parts === 1 && open.entryCount > MIXED_RUN_MAX_ENTRIES;
    if (isLong || entries > MIXED_RUN_MAX_ENTRIES) return false;
    return open.entryCount + entries <= BATCH_MAX_ENTRIES;
  }

  /** Where the frame stands between two batches, to come back to. */
  mark(): FrameMark {
    return { used: this.#used, batches: this.batches.length, parts: this.#partsEnd };
  }

  /** Throws away what was added since the mark. */
  rewind(mark: FrameMark): void {
    this.#open = undefined;
    this.#used = mark.used;
    this.batches.length = mark.batches;
    this.#partsEnd = mark.parts;
  }

  /** @param isCurrent what is added is of this epoch, all of it */
  begin(slot: Slot, space: SpaceIdWords, epoch: Epoch, start: Sequence, isCurrent = false): void {
    this.end();
    // All fields at once: one is made for each batch of thousands.
    this.#open = {
      space,
      epoch,
      startSequence: start,
      isCurrent,
      at: this.#used,
      entryCount: 0,
      totalSize: 0,
      crc: 0,
      parts: 0,
      bytes: 0,
    };
    this.#used += PREFIX_BYTES;
    this.join(slot, start);
  }

  #growParts(): void {
    const grown = new Float64Array(2 * this.#parts.length);
    grown.set(this.#parts);
    this.#parts = grown;
  }

  /** Entries of this space are added next, from `start` on. */
  join(slot: Slot, start: Sequence): void {
    this.#open!.parts++;
    if (this.#partsEnd === this.#parts.length) this.#growParts();
    const part = this.#partsEnd;
    this.#partsEnd += PART_FIELDS;
    this.#parts[part + PART_SLOT] = slot;
    this.#parts[part + PART_LAST] = start - 1;
    this.#parts[part + PART_BYTES] = 0;
  }

  /**
   * Appends `count` entries; the caller has seen that there is room.
   * @param crc CRC32C of them, where it is known: they are not summed then
   */
  add(entries: Uint8Array, count: number, crc?: number): void {
    this.fill(this.reserve(count, entries.length, crc), entries);
  }

  /** The same for entries that are filled in before the batch ends. @returns where */
  reserve(count: number, bytes: number, crc?: number): number {
    const at = this.#used;
    const part = this.#partsEnd - PART_FIELDS;
    const open = this.#open!;
    this.#used += bytes;
    open.entryCount += count;
    const isKnown = open.crc !== undefined && crc !== undefined;
    open.crc = isKnown ? crc32cJoined(open.crc!, crc!, bytes) : undefined;
    this.#parts[part + PART_LAST]! += count;
    this.#parts[part + PART_BYTES]! += bytes;
    return at;
  }

  /** @param at where they were given room */
  fill(at: number, entries: Uint8Array): void {
    copyBytes(this.bytes, at, entries);
  }

  /** Writes length, header and CRC of the open batch. */
  end(): void {
    const open = this.#open;
    if (!open) return;
    this.#open = undefined;
    open.bytes = this.#used - open.at;
    open.totalSize = open.bytes - PREFIX_BYTES;
    if (!this.#codec) this.#writePrefix(open, open.at);
    this.batches.push(open);
  }

  /** Length and header. @param at where they go */
  #writePrefix(batch: BuiltBatch, at: number, body?: BatchBody): void {
    const sentSize = body?.sentSize ?? batch.totalSize;
    const space = batch.parts > 1 ? undefined : batch.space;
    this.#view.setUint32(at, BATCH_HEADER_BYTES + sentSize, true);
    const header = at + LENGTH_BYTES;
    const crc = body?.compression ? undefined : batch.crc;
    writeBatchHeader(this.bytes, this.#view, header, this.#primary, space, batch, body, crc);
  }

  /**
   * Compresses each batch where it stands and moves it up to the one before; what does not become
   * smaller goes as it is. Only now: what was copied from a slab may have been thrown away.
   */
  #compress(codec: Codec): void {
    let to = FRAME_HEADER_BYTES;
    for (const batch of this.batches) {
      const { at, totalSize } = batch;
      const start = at + PREFIX_BYTES;
      const raw = this.bytes.subarray(start, start + totalSize);
      const body = compressed(codec, raw);
      const sentSize = body?.length ?? raw.length;
      if (body) this.bytes.set(body, to + PREFIX_BYTES);
      else this.bytes.copyWithin(to + PREFIX_BYTES, start, start + raw.length);
      this.#writePrefix(batch, to, { compression: body ? codec.code : 0, sentSize });
      batch.bytes = PREFIX_BYTES + sentSize;
      to += batch.bytes;
    }
    this.#used = to;
  }

  /** Of the finished frame: what it would have been uncompressed. */
  get rawBytes(): number {
    return this.#rawBytes;
  }

  /** The whole frame, as a view of the buffer. */
  finish(): Uint8Array {
    this.end();
    this.#rawBytes = this.#used;
    if (this.#codec) this.#compress(this.#codec);
    writeFrameHeader(this.#view, 0, BATCHES, this.#used - FRAME_HEADER_BYTES, 0);
    return this.bytes.subarray(0, this.#used);
  }
}
