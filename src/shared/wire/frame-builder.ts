/** One frame of batches, built in a send buffer of the shipper's own. */

import { copyBytes, idWords, type SpaceIdWords } from '../bytes.js';
import { BATCH_HEADER_BYTES, FRAME_HEADER_BYTES } from '../limits.js';
import type { Epoch, Sequence, Slot } from '../position.js';
import { type BatchFacts, writeBatchHeader } from './batch.js';
import { type Codec, compressed } from './compression.js';
import { BATCHES, writeFrameHeader } from './frame.js';

const LENGTH_BYTES = 4;
const PREFIX_BYTES = LENGTH_BYTES + BATCH_HEADER_BYTES;

/** A batch that the frame holds, or is being given. */
export interface BuiltBatch extends BatchFacts {
  readonly slot: Slot;
  readonly space: SpaceIdWords;
  /** Where its length stands. */
  readonly at: number;
  entryCount: number;
  totalSize: number;
  last: Sequence;
  /** On the wire, its length and header included. */
  bytes: number;
}

/** See `mark`. */
export interface FrameMark {
  readonly used: number;
  readonly batches: number;
}

export class FrameBuilder {
  readonly bytes: Uint8Array;
  readonly #view: DataView;
  readonly #primary: SpaceIdWords;
  #codec: Codec | undefined;
  /** What the frame would have without compression. */
  #rawBytes = 0;
  #used = FRAME_HEADER_BYTES;
  #limit = 0;
  #open: BuiltBatch | undefined;
  readonly batches: BuiltBatch[] = [];

  /** @param capacity bytes of the whole frame @param nodeHash the primary_node_id, hex */
  constructor(capacity: number, nodeHash: string) {
    this.bytes = new Uint8Array(capacity);
    this.#view = new DataView(this.bytes.buffer);
    this.#primary = idWords(nodeHash);
  }

  /**
   * @param limit it takes no more bytes than so many, but for a first entry that is longer
   * @param codec what batches are compressed with, as far as they become smaller
   */
  reset(limit: number, codec?: Codec): void {
    this.#codec = codec;
    this.#limit = Math.min(limit, this.bytes.length);
    this.#used = FRAME_HEADER_BYTES;
    this.#open = undefined;
    this.batches.length = 0;
  }

  get isEmpty(): boolean {
    return this.batches.length === 0 && !this.#open;
  }

  /** Bytes of entries for which a new batch would have room. */
  get roomInNewBatch(): number {
    return this.#limit - this.#used - PREFIX_BYTES;
  }

  /** Bytes of entries for which the open batch has room. */
  get room(): number {
    return this.#limit - this.#used;
  }

  /** Too little room is left to begin with another group. */
  get isMostlyFull(): boolean {
    return !this.isEmpty && this.room < this.#limit / 2;
  }

  /** The open batch takes this entry next: same space, next sequence. */
  continues(slot: Slot, sequence: Sequence): boolean {
    const open = this.#open;
    return (
      open !== undefined && open.slot === slot && open.startSequence + open.entryCount === sequence
    );
  }

  /** Where the frame stands between two batches, to come back to. */
  mark(): FrameMark {
    return { used: this.#used, batches: this.batches.length };
  }

  /** Throws away what was added since the mark. */
  rewind(mark: FrameMark): void {
    this.#open = undefined;
    this.#used = mark.used;
    this.batches.length = mark.batches;
  }

  get openCount(): number {
    return this.#open?.entryCount ?? 0;
  }

  begin(slot: Slot, space: SpaceIdWords, epoch: Epoch, start: Sequence): void {
    this.end();
    // All fields at once: one is made for each batch of thousands.
    this.#open = {
      slot,
      space,
      epoch,
      startSequence: start,
      at: this.#used,
      entryCount: 0,
      totalSize: 0,
      last: 0,
      bytes: 0,
    };
    this.#used += PREFIX_BYTES;
  }

  /** Appends `count` entries; the caller has seen that there is room. */
  add(entries: Uint8Array, count: number): void {
    copyBytes(this.bytes, this.#used, entries);
    this.#used += entries.length;
    this.#open!.entryCount += count;
  }

  /** Writes length, header and CRC of the open batch. */
  end(): void {
    const open = this.#open;
    if (!open) return;
    this.#open = undefined;
    const { at, space, startSequence, entryCount } = open;
    open.bytes = this.#used - at;
    open.totalSize = open.bytes - PREFIX_BYTES;
    open.last = startSequence + entryCount - 1;
    if (!this.#codec) {
      this.#view.setUint32(at, open.bytes - LENGTH_BYTES, true);
      writeBatchHeader(this.bytes, this.#view, at + LENGTH_BYTES, this.#primary, space, open);
    }
    this.batches.push(open);
  }

  /**
   * Compresses each batch where it stands and moves it up to the one before; what does not become
   * smaller goes as it is. Only now: what was copied from a slab may have been thrown away.
   */
  #compress(codec: Codec): void {
    let to = FRAME_HEADER_BYTES;
    for (const batch of this.batches) {
      const { at, space, totalSize } = batch;
      const start = at + PREFIX_BYTES;
      const raw = this.bytes.subarray(start, start + totalSize);
      const body = compressed(codec, raw);
      const sentSize = body?.length ?? raw.length;
      if (body) this.bytes.set(body, to + PREFIX_BYTES);
      else this.bytes.copyWithin(to + PREFIX_BYTES, start, start + raw.length);
      this.#view.setUint32(to, BATCH_HEADER_BYTES + sentSize, true);
      const compression = body ? codec.code : 0;
      const sent = { compression, sentSize };
      const header = to + LENGTH_BYTES;
      writeBatchHeader(this.bytes, this.#view, header, this.#primary, space, batch, sent);
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
