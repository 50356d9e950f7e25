/**
 * What every entry or run of a space changes, in words by slot. Of ten thousand spaces no cache
 * holds the objects: publication goes over these rows, and to a space itself only where that has
 * something to be looked at. One cache line each.
 */
import type { Epoch, Position, Sequence, Slot } from '../../shared/position.js';

const ROW_BYTES = 64;
const ROW_WORDS = ROW_BYTES / 4;
const ROW_LONGS = ROW_BYTES / 8;

/** The last durable entry: its sequence as a double, then words. */
const SEQUENCE = 0;
const EPOCH = 2;
const HEADER_CRC = 3;
const TIMESTAMP = 2;
/** Timestamp of the last staged entry, low word first; never goes back. */
const STAGED_LOW = 6;
const STAGED_HIGH = 7;
const QUIET_IN = 8;
const SHIPPED = 9;
/** The highest epoch that is heard of. */
const SEEN = 10;

export class SpaceRows {
  readonly #words: Uint32Array;
  readonly #longs: BigUint64Array;
  readonly #floats: Float64Array;

  /** Pages that nobody touches cost nothing. */
  constructor(maxSpaces: number) {
    const bytes = new ArrayBuffer((maxSpaces + 1) * ROW_BYTES);
    this.#words = new Uint32Array(bytes);
    this.#longs = new BigUint64Array(bytes);
    this.#floats = new Float64Array(bytes);
  }

  // --- the last durable entry --------------------------------------------------------------

  position(slot: Slot): Position {
    const at = slot * ROW_WORDS;
    const sequence = this.#floats[slot * ROW_LONGS + SEQUENCE]!;
    return { epoch: this.#words[at + EPOCH]!, sequence, headerCrc: this.#words[at + HEADER_CRC]! };
  }

  /** The space stands elsewhere: what its history says may be another than before. */
  setPosition(slot: Slot, { epoch, sequence, headerCrc }: Position): void {
    const at = slot * ROW_WORDS;
    this.#floats[slot * ROW_LONGS + SEQUENCE] = sequence;
    this.#words[at + EPOCH] = epoch;
    this.#words[at + HEADER_CRC] = headerCrc;
    this.unquiet(slot);
  }

  timestamp(slot: Slot): bigint {
    return this.#longs[slot * ROW_LONGS + TIMESTAMP]!;
  }

  /** What is staged from now on goes on from there, too. */
  setTimestamp(slot: Slot, timestamp: bigint): void {
    this.#longs[slot * ROW_LONGS + TIMESTAMP] = timestamp;
    this.#longs[slot * ROW_LONGS + STAGED_LOW / 2] = timestamp;
  }

  /** A run has become durable that ends with this entry. */
  published(
    slot: Slot,
    sequence: Sequence,
    epoch: Epoch,
    headerCrc: number,
    timeLow: number,
    timeHigh: number,
  ): void {
    const at = slot * ROW_WORDS;
    this.#floats[slot * ROW_LONGS + SEQUENCE] = sequence;
    this.#words[at + EPOCH] = epoch;
    this.#words[at + HEADER_CRC] = headerCrc;
    this.#words[at + 2 * TIMESTAMP] = timeLow;
    this.#words[at + 2 * TIMESTAMP + 1] = timeHigh;
    // What another node wrote was not stamped here.
    this.stamp(slot, timeLow, timeHigh);
  }

  epochSeen(slot: Slot): Epoch {
    return this.#words[slot * ROW_WORDS + SEEN]!;
  }

  setEpochSeen(slot: Slot, epoch: Epoch): void {
    this.#words[slot * ROW_WORDS + SEEN] = epoch;
  }

  // --- what publication has to look at -----------------------------------------------------

  /** A run of that epoch says nothing new of the space, and nobody waits for it. */
  isQuiet(slot: Slot, epoch: Epoch): boolean {
    return epoch !== 0 && this.#words[slot * ROW_WORDS + QUIET_IN] === epoch;
  }

  /** Publication has looked, and found nothing to do for runs of that epoch. */
  quiet(slot: Slot, epoch: Epoch): void {
    this.#words[slot * ROW_WORDS + QUIET_IN] = epoch;
  }

  /** Publication is to look at the space itself. Epoch 0 is the node's own: never quiet. */
  unquiet(slot: Slot): void {
    this.#words[slot * ROW_WORDS + QUIET_IN] = 0;
  }

  /** It has replicas: when its entries become durable is noted. */
  isShipped(slot: Slot): boolean {
    return this.#words[slot * ROW_WORDS + SHIPPED] === 1;
  }

  setShipped(slot: Slot, isShipped: boolean): void {
    this.#words[slot * ROW_WORDS + SHIPPED] = isShipped ? 1 : 0;
  }

  // --- staging -----------------------------------------------------------------------------

  /** Moves the time of what is staged to this one, unless it is ahead. @param low signed or not */
  stamp(slot: Slot, low: number, high: number): void {
    const at = slot * ROW_WORDS;
    const stagedHigh = this.#words[at + STAGED_HIGH]!;
    const isAhead =
      high > stagedHigh || (high === stagedHigh && low >>> 0 > this.#words[at + STAGED_LOW]!);
    if (!isAhead) return;
    this.#words[at + STAGED_LOW] = low;
    this.#words[at + STAGED_HIGH] = high;
  }

  /** Signed: of a greater number V8 would make an object. */
  timeLow(slot: Slot): number {
    return this.#words[slot * ROW_WORDS + STAGED_LOW]! | 0;
  }

  timeHigh(slot: Slot): number {
    return this.#words[slot * ROW_WORDS + STAGED_HIGH]! | 0;
  }
}
