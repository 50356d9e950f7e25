/**
 * Batches of several spaces: runs of entries behind each other, as they stand in the sender's log.
 * No table tells them apart: each entry names its space, its sequence and its epoch, under a CRC of
 * its own. The epoch of an entry is the right by which it is written here, so none travels so but
 * in the sender's current epoch of its space; older ones have a batch whose header says that.
 */

import { hexOfWords } from '../../bytes.js';
import {
  areSmall,
  type EntriesKernel,
  entriesKernel,
  type KernelOf,
} from '../../kernel/entries.js';
import { ENTRY_HEADER_BYTES } from '../../limits.js';
import { readEpoch, readPayloadSize, readSequence, readSpaceIdWord } from '../../log/entry.js';
import type { Epoch, Sequence } from '../../position.js';
import { checkEntry, invalid, isOfMembers, isSequences } from '../batch.js';

/** Reads the runs of a mixed batch one by one; what it says is of the one that was read last. */
export class BatchRuns {
  readonly bytes: Uint8Array;
  readonly view: DataView;
  readonly #end: number;
  readonly #maxEntryBytes: number;
  /** What looks at many of them at once; undefined: it does not pay, or is not there. */
  readonly #kernel: EntriesKernel | undefined;
  /** Those before here, and from where it was looked last, are sound: none says who counts. */
  #soundTo = 0;
  /** One that was looked at and is for the caller. */
  #oddAt = -1;
  readonly #isSound: boolean;
  /** Entries that no run was made of yet. */
  #left: number;
  readonly spaceWords: [number, number, number, number] = [0, 0, 0, 0];
  startSequence: Sequence = 0;
  entryCount = 0;
  epoch: Epoch = 0;
  /** Where it stands. */
  start: number;
  end: number;
  /** One of its entries says who counts. */
  holdsMembers = false;

  /**
   * @param start where the entries of the batch begin, uncompressed @param end ... and end
   * @param isSound all of them are, and none says who counts: decodeWhole has looked
   * @param kernelOf what looks at many at once, where there is such a thing
   */
  constructor(
    bytes: Uint8Array,
    view: DataView,
    start: number,
    end: number,
    entryCount: number,
    maxEntryBytes: number,
    isSound = false,
    kernelOf: KernelOf = entriesKernel,
  ) {
    this.bytes = bytes;
    this.view = view;
    this.start = start;
    this.end = start;
    this.#end = end;
    this.#left = entryCount;
    this.#isSound = isSound;
    if (isSound) this.#soundTo = end;
    this.#maxEntryBytes = maxEntryBytes;
    this.#kernel = areSmall(entryCount, end - start) ? kernelOf() : undefined;
  }

  /** 16 bytes, lower-case hex; made when it is asked for. */
  get spaceId(): string {
    return hexOfWords(this.spaceWords);
  }

  /** Entries behind those of the run that was read last. */
  get left(): number {
    return this.#left;
  }

  /** Up to where those that no run was made of are sound, and none of them says who counts. */
  get soundTo(): number {
    return this.#left === 0 || this.#isSoundAt(this.end) ? this.#soundTo : this.end;
  }

  /** Passes over the next `count` entries, which end there. */
  pass(count: number, end: number): void {
    this.#left -= count;
    this.end = end;
  }

  /** Goes back to where a run began. @param left what was left before it */
  goBack(start: number, left: number): void {
    this.end = start;
    this.#left = left;
    // One between may say who counts.
    if (!this.#isSound) this.#soundTo = start;
  }

  /**
   * Reads the next run: entries of one space and epoch whose sequences follow each other. Each is
   * checked: header_crc, payload_crc, size. @returns false when there is none
   * Throws TruncatedEntry, ChecksumMismatch, InvalidBatchSize, and as decodeMembers does.
   */
  next(): boolean {
    const { bytes, view, spaceWords: words } = this;
    let at = this.end;
    this.start = at;
    if (this.#left === 0) {
      if (at !== this.#end) throw invalid(`${this.#end - at} bytes behind the last entry`);
      return false;
    }
    this.entryCount = 0;
    this.holdsMembers = false;
    do {
      const isSound = this.#isSoundAt(at);
      const size = isSound
        ? readPayloadSize(view, at)
        : checkEntry(bytes, view, at, this.#end, this.#maxEntryBytes, this.#calledAt(at));
      if (this.entryCount === 0) {
        for (let i = 0; i < 4; i++) words[i] = readSpaceIdWord(view, at, i);
        this.startSequence = readSequence(view, at);
        this.epoch = readEpoch(view, at);
      }
      if (!isSound && isOfMembers(bytes, view, at, size)) this.holdsMembers = true;
      this.entryCount++;
      this.#left--;
      at += ENTRY_HEADER_BYTES + size;
    } while (this.#left > 0 && this.#goesOn(at));
    if (!isSequences(this.startSequence, this.entryCount)) {
      // The first of them that cannot be, wherever the run is said to begin.
      const first = this.startSequence;
      throw invalid(`an entry ${first < 1 ? first : Math.max(first, Number.MAX_SAFE_INTEGER)}`);
    }
    this.end = at;
    return true;
  }

  /** Looks on from there where nobody has, at as many as go at once. */
  #isSoundAt(at: number): boolean {
    if (at < this.#soundTo) return true;
    const kernel = this.#kernel;
    if (!kernel || at === this.#oddAt) return false;
    const isSound = kernel.look(this.bytes, at, this.#end, this.#left, this.#maxEntryBytes) > 0;
    if (isSound) this.#soundTo = at + kernel.bytes;
    else this.#oddAt = at;
    return isSound;
  }

  /** What the entry calls itself, right or wrong: whoever looks at it names it so. */
  #calledAt(at: number): Sequence {
    return at + ENTRY_HEADER_BYTES > this.#end ? 0 : readSequence(this.view, at);
  }

  /** The entry at `at` is of this run, by a header that was not checked yet. */
  #goesOn(at: number): boolean {
    const { view, spaceWords: words } = this;
    if (at + ENTRY_HEADER_BYTES > this.#end) return false;
    for (let i = 0; i < 4; i++) if (readSpaceIdWord(view, at, i) !== words[i]) return false;
    const isNext = readSequence(view, at) === this.startSequence + this.entryCount;
    return isNext && readEpoch(view, at) === this.epoch;
  }
}
