/**
 * Catch-up from segments: one window of the log, read in order up to the durable end. What comes
 * from the disk is verified (header, place, payload) before it is shipped.
 */
import path from 'node:path';
import { failure } from '../../shared/errors.js';
import { entriesKernel, type KernelOf } from '../../shared/kernel/entries.js';
import { ENTRY_HEADER_BYTES, READ_CHUNK_BYTES } from '../../shared/limits.js';
import type { SegmentPlace } from '../../shared/link/control.js';
import { isInPlace, readPayloadSize } from '../../shared/log/entry.js';
import { look, segmentName } from '../../shared/log/segment.js';
import type { Lsn } from '../../shared/position.js';
import { readAround } from '../../shared/read-around.js';
import type { SegmentFile, ShipperWorld } from './world.js';

/** A replica that lacks little is not read much for. */
const FIRST_WINDOW_BYTES = 64 * 1024;

/** Longer ones are summed faster by themselves. */
const SMALL_BYTES = 768;

export class SegmentReader {
  readonly #world: Pick<ShipperWorld, 'openSegment'>;
  readonly #dir: string;
  readonly #salt: number;
  readonly #window: Uint8Array;
  readonly #maxEntryBytes: number;
  #place: SegmentPlace | undefined;
  #file: SegmentFile | undefined;
  /** The file is not closed before its end (FAULTS row 98). */
  #reading: Promise<number> | undefined;
  #base: Lsn = 0;
  /** What one load asks for; it doubles while the log is read on. */
  #most = FIRST_WINDOW_BYTES;
  #length = 0;
  /** Of the window, which is all that is valid of them. */
  bytes: Uint8Array;
  view: DataView;
  readonly #kernelOf: KernelOf;
  /** Where in the window entries stand that were looked at many at a time, and are sound. */
  #soundFrom = 0;
  #soundTo = 0;

  /**
   * @param maxEntryBytes the longest entry that must fit the window, header included
   * @param kernelOf what looks at many small entries at once, where there is such a thing
   */
  constructor(
    world: Pick<ShipperWorld, 'openSegment'>,
    dir: string,
    salt: number,
    maxEntryBytes: number,
    kernelOf: KernelOf = entriesKernel,
  ) {
    this.#world = world;
    this.#dir = dir;
    this.#salt = salt;
    this.#maxEntryBytes = maxEntryBytes;
    this.#window = new Uint8Array(Math.max(READ_CHUNK_BYTES, 2 * maxEntryBytes));
    this.bytes = this.#window.subarray(0, 0);
    this.view = new DataView(this.#window.buffer, 0, 0);
    this.#kernelOf = kernelOf;
  }

  /**
   * Where to go on from `lsn`: there, or at the next segment's start.
   * @returns undefined when the segment must be looked up first
   */
  resolve(lsn: Lsn): Lsn | undefined {
    const place = this.#place;
    if (!place || lsn < place.start || lsn > place.start + place.size) return undefined;
    if (place.end !== undefined && lsn >= place.end) {
      return lsn < place.start + place.size ? place.start + place.size : undefined;
    }
    return lsn < place.start + place.size ? lsn : undefined;
  }

  /** Forgets a place whose end was not known yet. */
  get isOpenEnded(): boolean {
    return this.#place?.end === undefined;
  }

  async enter(place: SegmentPlace): Promise<void> {
    const isSame =
      this.#place?.start === place.start && this.#place.generation === place.generation;
    if (!isSame || !this.#file) {
      await this.close();
      this.#file = await this.#world.openSegment(path.join(this.#dir, segmentName(place.start)));
    }
    this.#place = place;
  }

  /**
   * Reads from `lsn` up to `durable`, as far as the window goes. @returns bytes read
   * Rejects CorruptionDetected where the file has been cut off there.
   */
  async load(lsn: Lsn, durable: Lsn): Promise<number> {
    const place = this.#place!;
    const file = this.#file!;
    if (place.end === undefined && durable > place.start + place.size) {
      // It was the last one when main was asked, and is not any more: where does it end?
      this.#forget();
      return 0;
    }
    const end = Math.min(place.end ?? place.start + place.size, durable);
    const isOn = lsn >= this.#base && lsn <= this.#base + this.#length;
    this.#most = isOn ? Math.min(2 * this.#most, this.#window.length) : FIRST_WINDOW_BYTES;
    const wanted = Math.min(this.#most, end - lsn);
    this.#length = 0;
    this.#soundTo = 0;
    this.#base = lsn;
    let isShort = false;
    while (this.#length < wanted && this.#file === file) {
      const position = lsn - place.start + this.#length;
      const part = this.#window.subarray(this.#length, wanted);
      this.#reading = readAround((into, at) => file.read(into, at), part, position);
      const got = await this.#reading;
      if (this.#file !== file) break;
      isShort = got === 0;
      if (isShort) break;
      this.#length += got;
    }
    this.bytes = this.#window.subarray(0, this.#length);
    this.view = new DataView(this.#window.buffer, 0, this.#length);
    // Read again it would be no longer.
    if (isShort && this.sizeAt(lsn) === 0) {
      const found = `segment ${segmentName(place.start)} ends at LSN ${lsn + this.#length}`;
      throw failure('CorruptionDetected', `${found}, in the midst of the durable log`);
    }
    return this.#length;
  }

  /** Where in the window the entry at `lsn` begins. */
  offsetOf(lsn: Lsn): number {
    return lsn - this.#base;
  }

  /**
   * How many bytes the entry at `lsn` has, if the window holds all of it; else 0. It is valid until
   * the next `load`. Throws CorruptionDetected for a bad one.
   */
  sizeAt(lsn: Lsn): number {
    const place = this.#place;
    const offset = lsn - this.#base;
    if (!place || offset < 0 || offset >= this.#length) return 0;
    const { bytes, view } = this;
    if (this.#isSound(offset, lsn)) return ENTRY_HEADER_BYTES + readPayloadSize(view, offset);
    const found = look(bytes, view, offset, lsn, place.start + place.size, this.#salt);
    const isHeader = offset + ENTRY_HEADER_BYTES <= this.#length && found !== 'bad-header';
    if (isHeader && ENTRY_HEADER_BYTES + readPayloadSize(view, offset) > this.#maxEntryBytes) {
      // Written under another maxEntryBytes, of a node that did not note it yet (FAULTS row 91).
      const size = readPayloadSize(view, offset);
      const most = this.#maxEntryBytes - ENTRY_HEADER_BYTES;
      throw failure(
        'EntryTooLarge',
        `${size} bytes in the log at LSN ${lsn}, maxEntryBytes ${most}`,
      );
    }
    if (found === 'short') return 0;
    if (found !== 'entry') {
      throw failure('CorruptionDetected', `${found} at LSN ${lsn} of the durable log`);
    }
    return ENTRY_HEADER_BYTES + readPayloadSize(view, offset);
  }

  /** Header and payload fit their sums, and it stands where it was written; false: look closer. */
  #isSound(offset: number, lsn: Lsn): boolean {
    const { bytes, view } = this;
    if (offset < this.#soundFrom || offset >= this.#soundTo) {
      const isThere = offset + ENTRY_HEADER_BYTES <= this.#length;
      if (!isThere || readPayloadSize(view, offset) > SMALL_BYTES) return false;
      const largest = this.#maxEntryBytes - ENTRY_HEADER_BYTES;
      const looked = this.#kernelOf()?.look(bytes, offset, this.#length, READ_CHUNK_BYTES, largest);
      this.#soundFrom = offset;
      this.#soundTo = offset + (looked ?? 0);
    }
    return offset < this.#soundTo && isInPlace(view, offset, this.#salt, lsn);
  }

  /** The segment may be recycled from now on. @returns whether there was one */
  leave(): boolean {
    const isIn = this.#place !== undefined && this.#place.size > 0;
    this.#forget();
    return isIn;
  }

  #forget(): void {
    if (this.#place) this.#place = { ...this.#place, size: 0, end: this.#place.start };
    this.#length = 0;
  }

  /** Waits for what is being read. */
  async close(): Promise<void> {
    const file = this.#file;
    const reading = this.#reading;
    this.#file = undefined;
    this.#place = undefined;
    this.#length = 0;
    await reading?.catch(() => undefined);
    await file?.close();
  }
}
