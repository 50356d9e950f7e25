/** How far one replica is, space by space: written by its shipper alone, read by main. */
import type { Epoch, Lsn, Sequence, Slot } from '../position.js';
import { loadLong, ownLong, putLong, storeLong } from './long-words.js';

const PROGRESS_FIELDS = 5;
const SENT = 0;
const RECEIVED = 1;
const FLUSHED = 2;
const APPLIED = 3;
/** In which epoch all this was said. */
const EPOCH = 4;
/** In row 0, which no replica has: entries of the node itself are never shipped. */
const CURSOR = 0;
const PACE = 1;
const HEARD_MS = 2;
const STREAMS = 3;

/** Reserves the progress rows of one shipper: sent, received, flushed, applied per slot. */
export function allocateProgress(maxSpaces: number): SharedArrayBuffer {
  return new SharedArrayBuffer((maxSpaces + 1) * PROGRESS_FIELDS * 8);
}

/** One replica's four steps per space, written by its shipper, read by main. */
export class ReplicaProgress {
  readonly #longs: BigInt64Array;
  readonly #words: Int32Array;

  constructor(buffer: SharedArrayBuffer) {
    this.#longs = new BigInt64Array(buffer);
    this.#words = new Int32Array(buffer);
  }

  sent(slot: Slot): Sequence {
    return this.#load(slot, SENT);
  }
  received(slot: Slot): Sequence {
    return this.#load(slot, RECEIVED);
  }
  flushed(slot: Slot): Sequence {
    return this.#load(slot, FLUSHED);
  }
  applied(slot: Slot): Sequence {
    return this.#load(slot, APPLIED);
  }
  /** 0: the replica does not follow the space from here. */
  epoch(slot: Slot): Epoch {
    // Below 2^32, so its low word is all of it; a 64-bit load costs several times as much.
    return Atomics.load(this.#words, 2 * (slot * PROGRESS_FIELDS + EPOCH)) >>> 0;
  }
  /** What the replica has, from now on, in this epoch. */
  begin(slot: Slot, epoch: Epoch, sequence: Sequence, applied: Sequence): void {
    this.#store(slot, EPOCH, 0);
    this.setSent(slot, sequence);
    this.setReceived(slot, sequence);
    this.#store(slot, FLUSHED, sequence);
    this.#store(slot, APPLIED, applied);
    this.#store(slot, EPOCH, epoch);
  }
  /** Another directory lives there than before: nothing is known of what it has. */
  forget(): void {
    const rows = this.#longs.length / PROGRESS_FIELDS;
    for (let slot = 1; slot < rows; slot++) this.#store(slot, EPOCH, 0);
  }
  setSent(slot: Slot, sequence: Sequence): void {
    this.#put(slot, SENT, sequence);
  }
  setReceived(slot: Slot, sequence: Sequence): void {
    this.#put(slot, RECEIVED, sequence);
  }
  /**
   * The replica has flushed up to there, and so received it. Of the rows' writer alone, which moves
   * the tick behind it.
   */
  acked(slot: Slot, flushed: Sequence, applied: Sequence): void {
    this.#put(slot, FLUSHED, flushed);
    const at = slot * PROGRESS_FIELDS;
    if (applied !== ownLong(this.#words, at + APPLIED)) this.#put(slot, APPLIED, applied);
    if (flushed > ownLong(this.#words, at + RECEIVED)) this.#put(slot, RECEIVED, flushed);
  }

  /** Where the link reads the log, and how fast it moved lately. The row of the node's own slot. */
  setPace(cursor: Lsn, bytesPerSecond: number): void {
    this.#store(0, CURSOR, cursor);
    this.#store(0, PACE, bytesPerSecond);
  }
  get cursor(): Lsn {
    return this.#load(0, CURSOR);
  }
  get bytesPerSecond(): number {
    return this.#load(0, PACE);
  }
  /** When the last byte came from the replica, on the main thread's clock; 0: never. */
  setHeard(ms: number): void {
    this.#store(0, HEARD_MS, Math.max(1, Math.round(ms)));
  }
  get heardMs(): number {
    return this.#load(0, HEARD_MS);
  }

  /** Spaces that are streamed. */
  setStreams(count: number): void {
    this.#store(0, STREAMS, count);
  }
  get streams(): number {
    return this.#load(0, STREAMS);
  }

  #load(slot: Slot, field: number): Sequence {
    return loadLong(this.#words, this.#longs, slot * PROGRESS_FIELDS + field);
  }
  #put(slot: Slot, field: number, sequence: Sequence): void {
    putLong(this.#words, this.#longs, slot * PROGRESS_FIELDS + field, sequence);
  }
  #store(slot: Slot, field: number, sequence: Sequence): void {
    storeLong(this.#words, this.#longs, slot * PROGRESS_FIELDS + field, sequence);
  }
}
