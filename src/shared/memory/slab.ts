/**
 * The memory that all threads of one node share: control words, slabs, the run table of each
 * slab, and one row per space. This file alone knows the offsets.
 *
 * One writer for each word:
 *   DURABLE_TICK, MAIN_BEAT, CHECKPOINT_TICK, durable LSN, slab descriptors, space rows: main
 *   ACK_TICK: any shipper (Atomics.add); IS_SHIPPED: any, once
 *   slab bytes and run tables: the main thread while the group is staged, the sealer that was
 *   handed the group until it answers, nobody from then on
 *   a shipper's progress rows: that shipper
 *
 * A published slab is read under its generation word as under a sequence lock: even = published,
 * odd = being reused. Main makes it odd before the first byte of a new group is staged; a reader
 * that finds it changed after copying throws the copy away.
 */

import type { SpaceIdWords } from '../bytes.js';
import {
  BATCH_MAX_ENTRIES,
  ENTRY_HEADER_BYTES,
  GROUP_MAX_RUNS,
  INDEX_PART_BYTES,
  MIN_SLABS,
  SLABS_MAX,
  TRAILER_BYTES,
} from '../limits.js';
import type { Epoch, Lsn, Sequence, Slot } from '../position.js';
import { loadLong, ownLong, storeLong } from './long-words.js';
import { moveTick, sleepUntilTick, waitWord } from './wait-word.js';

/** A run: entries of one space, contiguous in sequence and in the slab. Fields of its row. */
export const RUN_FIELDS = 8;
export const RUN_SLOT = 0;
export const RUN_FIRST = 1;
export const RUN_COUNT = 2;
export const RUN_OFFSET = 3;
export const RUN_BYTES = 4;
/** 0: staged here, headers to be completed. 1: received, headers complete but for the stamp. */
export const RUN_RECEIVED = 5;
/** Offset of the run's last entry. */
export const RUN_LAST = 6;
/** CRC32C of the entries behind its last mark, all of them where it has none; or NO_CRC. */
export const RUN_CRC = 7;

/** A mark: where a part of a long run ends, how many of the run's entries stand before, its CRC. */
export const MARK_FIELDS = 3;
export const MARK_COUNT = 1;
export const MARK_CRC = 2;
/** It was not summed. */
export const NO_CRC = -1;

const TWO_32 = 2 ** 32;
const LINE = 64;
const DURABLE_TICK = 0;
const ACK_TICK = LINE / 4;
const DURABLE_LSN = (2 * LINE) / 8;
const MAIN_BEAT = (3 * LINE) / 4;
const CHECKPOINT_TICK = MAIN_BEAT + 1;
const IS_SHIPPED = MAIN_BEAT + 2;
const SLAB_ROWS = 4 * LINE;
const GENERATION = 0;
const RUN_TOTAL = 1;
const PREVIOUS_END = 1;
const START = 2;
const BYTES = 3;
const ENTRIES = 4;

const SPACE_ROW = 64;
const SPACE_EPOCH = 4;
/** Two Int32 words, low first: main alone allocates, and 32-bit atomics are far cheaper. */
const SPACE_ALLOCATED = 6;
const SPACE_DURABLE = 4;
const SPACE_CHECKPOINT = 5;

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

/** What is handed to a worker: the buffers and their measures. */
export interface SharedMemory {
  readonly control: SharedArrayBuffer;
  readonly slabs: SharedArrayBuffer;
  readonly runs: SharedArrayBuffer;
  readonly spaces: SharedArrayBuffer;
  readonly slabBytes: number;
  readonly slabCount: number;
  readonly maxSpaces: number;
}

/** One slab: its bytes, and the table of the runs in it. */
export interface Slab {
  readonly index: number;
  readonly bytes: Uint8Array;
  readonly view: DataView;
  readonly runs: Float64Array;
  /**
   * Where its long runs are divided, written as it is sealed, in the order of the runs; 0 ends
   * them. A part is one batch at most, or a part of one.
   */
  readonly marks: Float64Array;
}

/** A published group as a shipper finds it. */
export interface PublishedGroup {
  readonly slab: Slab;
  readonly generation: number;
  readonly start: Lsn;
  readonly bytes: number;
  readonly entries: number;
  readonly runs: number;
}

/** What main says of a group when it publishes it. */
export interface GroupPlace {
  /** Where the group before it ended. */
  readonly previousEnd: Lsn;
  readonly start: Lsn;
  readonly bytes: number;
  readonly entries: number;
  readonly runs: number;
}

/**
 * Reserves the shared memory of a node. Pages that nobody touches cost nothing.
 * @param budgetBytes what slabs may take; at least four are made, at most SLABS_MAX
 */
export function allocateMemory(
  groupBytes: number,
  budgetBytes: number,
  maxSpaces: number,
): SharedMemory {
  const slabBytes = align(groupBytes + TRAILER_BYTES);
  const affordable = Math.floor(budgetBytes / slabBytes);
  const slabCount = Math.min(SLABS_MAX, Math.max(MIN_SLABS, affordable));
  return {
    control: new SharedArrayBuffer(SLAB_ROWS + slabCount * LINE),
    slabs: new SharedArrayBuffer(slabBytes * slabCount),
    runs: new SharedArrayBuffer(slabCount * tableWords(slabBytes) * 8),
    spaces: new SharedArrayBuffer((maxSpaces + 1) * SPACE_ROW),
    slabBytes,
    slabCount,
    maxSpaces,
  };
}

/** Reserves the progress rows of one shipper: sent, received, flushed, applied per slot. */
export function allocateProgress(maxSpaces: number): SharedArrayBuffer {
  return new SharedArrayBuffer((maxSpaces + 1) * PROGRESS_FIELDS * 8);
}

/** Words of a slab's table of runs, and of its marks behind it. */
function tableWords(slabBytes: number): number {
  const leastPart = Math.min(INDEX_PART_BYTES, BATCH_MAX_ENTRIES * ENTRY_HEADER_BYTES);
  return runWords(slabBytes) + MARK_FIELDS * (Math.ceil(slabBytes / leastPart) + 1);
}

/** Each run has an entry at least: small groups need no table for the runs of large ones. */
function runWords(slabBytes: number): number {
  return Math.min(GROUP_MAX_RUNS, Math.ceil(slabBytes / ENTRY_HEADER_BYTES)) * RUN_FIELDS;
}

function align(bytes: number): number {
  return Math.ceil(bytes / LINE) * LINE;
}

/** Typed access to the shared memory; every thread makes its own over the same buffers. */
export class NodeMemory {
  readonly slabs: readonly Slab[];
  readonly memory: SharedMemory;
  readonly #words: Int32Array;
  readonly #longs: BigInt64Array;
  readonly #floats: Float64Array;
  readonly #spaceWords: Int32Array;
  readonly #spaceLongs: BigInt64Array;

  constructor(memory: SharedMemory) {
    this.memory = memory;
    this.#words = new Int32Array(memory.control);
    this.#longs = new BigInt64Array(memory.control);
    this.#floats = new Float64Array(memory.control);
    this.#spaceWords = new Int32Array(memory.spaces);
    this.#spaceLongs = new BigInt64Array(memory.spaces);
    const words = tableWords(memory.slabBytes);
    const forRuns = runWords(memory.slabBytes);
    this.slabs = Array.from({ length: memory.slabCount }, (_, index) => {
      const at = index * memory.slabBytes;
      const table = new Float64Array(memory.runs, index * words * 8, words);
      return {
        index,
        bytes: new Uint8Array(memory.slabs, at, memory.slabBytes),
        view: new DataView(memory.slabs, at, memory.slabBytes),
        runs: table.subarray(0, forRuns),
        marks: table.subarray(forRuns),
      };
    });
  }

  // --- durable end -------------------------------------------------------------------------

  get durableLsn(): Lsn {
    return Number(Atomics.load(this.#longs, DURABLE_LSN));
  }

  /** Publishes a new durable end and wakes every shipper. Stored before the tick is moved. */
  publishDurable(lsn: Lsn): void {
    Atomics.store(this.#longs, DURABLE_LSN, BigInt(lsn));
    this.wakeShippers();
  }

  wakeShippers(): void {
    Atomics.add(this.#words, DURABLE_TICK, 1);
    Atomics.notify(this.#words, DURABLE_TICK);
  }

  get durableTick(): number {
    return Atomics.load(this.#words, DURABLE_TICK);
  }

  /** Resolves when the tick is no longer `seen`, read before the look: so none is missed. */
  waitDurable(seen: number): Promise<unknown> | undefined {
    return waitWord(this.#words, DURABLE_TICK, seen);
  }

  // --- acknowledgements --------------------------------------------------------------------

  get ackTick(): number {
    return Atomics.load(this.#words, ACK_TICK);
  }

  /** It looks again. */
  wakeMain(): void {
    Atomics.add(this.#words, ACK_TICK, 1);
    Atomics.notify(this.#words, ACK_TICK);
  }

  /** Called by a shipper after it has stored what its replica has flushed: see `moveTick`. */
  acked(): void {
    moveTick(this.#words, ACK_TICK);
  }

  /** Main sleeps until the ack with this tick. @returns false: it has come, and wakes nobody */
  sleepUntilAck(tick: number): boolean {
    return sleepUntilTick(this.#words, ACK_TICK, tick);
  }

  /** As `waitDurable`, for progress that shippers publish; woken as `sleepUntilAck` says. */
  waitAck(seen: number): Promise<unknown> | undefined {
    return waitWord(this.#words, ACK_TICK, seen);
  }

  // --- the main thread's life -------------------------------------------------------------------

  /** The main thread is alive: its event loop turns (row 75). */
  beat(): void {
    Atomics.add(this.#words, MAIN_BEAT, 1);
  }

  get mainBeat(): number {
    return Atomics.load(this.#words, MAIN_BEAT);
  }

  /** From now on there is a shipper, for which the seal sums. */
  ship(): void {
    Atomics.store(this.#words, IS_SHIPPED, 1);
  }

  get isShipped(): boolean {
    return this.#words[IS_SHIPPED] === 1;
  }

  // --- slabs -------------------------------------------------------------------------------

  /** Makes the slab unreadable for shippers, before its first byte is overwritten. */
  withdrawSlab(index: number): void {
    const at = this.#row(index) + GENERATION;
    const generation = Atomics.load(this.#words, at);
    if ((generation & 1) === 0) Atomics.store(this.#words, at, (generation + 1) | 0);
  }

  /** Makes a durable group readable. */
  publishSlab(index: number, place: GroupPlace): void {
    const at = this.#row(index);
    this.#floats[at / 2 + PREVIOUS_END] = place.previousEnd;
    this.#floats[at / 2 + START] = place.start;
    this.#floats[at / 2 + BYTES] = place.bytes;
    this.#floats[at / 2 + ENTRIES] = place.entries;
    this.#words[at + RUN_TOTAL] = place.runs;
    // Odd to even; the atomic operation orders the plain stores above before it.
    Atomics.add(this.#words, at + GENERATION, 1);
  }

  /**
   * The published group that holds the log position `lsn` or, where `lsn` is the end of a group,
   * follows it; undefined when no slab holds it any more, or nothing follows yet.
   */
  groupAt(lsn: Lsn): PublishedGroup | undefined {
    for (const slab of this.slabs) {
      const at = this.#row(slab.index);
      const generation = Atomics.load(this.#words, at + GENERATION);
      if ((generation & 1) === 1 || generation === 0) continue;
      const start = this.#floats[at / 2 + START]!;
      const bytes = this.#floats[at / 2 + BYTES]!;
      const previousEnd = this.#floats[at / 2 + PREVIOUS_END]!;
      if (previousEnd !== lsn && (lsn < start || lsn >= start + bytes)) continue;
      const entries = this.#floats[at / 2 + ENTRIES]!;
      const runs = this.#words[at + RUN_TOTAL]!;
      if (!this.isUnchanged(slab.index, generation)) continue;
      return { slab, generation, start, bytes, entries, runs };
    }
    return undefined;
  }

  /**
   * Whether what was read from the slab since `generation` was loaded is what was published.
   * A compare-exchange, not a load: its barrier keeps the plain reads before it from moving
   * behind it on processors that would.
   */
  isUnchanged(index: number, generation: number): boolean {
    const at = this.#row(index) + GENERATION;
    return Atomics.compareExchange(this.#words, at, generation, generation) === generation;
  }

  #row(index: number): number {
    return (SLAB_ROWS + index * LINE) / 4;
  }

  // --- spaces ------------------------------------------------------------------------------

  /** Fills the row of a slot; once, before any entry of the space is staged. */
  setSpace(slot: Slot, id: SpaceIdWords, epoch: number, last: Sequence): void {
    const at = (slot * SPACE_ROW) / 4;
    for (let i = 0; i < 4; i++) this.#spaceWords[at + i] = id[i]!;
    this.setEpoch(slot, epoch);
    this.setAllocated(slot, last);
    this.setDurable(slot, last);
  }

  spaceId(slot: Slot): SpaceIdWords {
    const at = (slot * SPACE_ROW) / 4;
    const w = this.#spaceWords;
    return [w[at]! >>> 0, w[at + 1]! >>> 0, w[at + 2]! >>> 0, w[at + 3]! >>> 0];
  }

  setEpoch(slot: Slot, epoch: number): void {
    Atomics.store(this.#spaceWords, (slot * SPACE_ROW) / 4 + SPACE_EPOCH, epoch | 0);
  }

  epoch(slot: Slot): number {
    return Atomics.load(this.#spaceWords, (slot * SPACE_ROW) / 4 + SPACE_EPOCH) >>> 0;
  }

  /** Takes the next `count` sequences of a space. @returns the first of them */
  allocate(slot: Slot, count: number): Sequence {
    const at = (slot * SPACE_ROW) / 4 + SPACE_ALLOCATED;
    const high = this.#spaceWords[at + 1]!;
    const low = Atomics.add(this.#spaceWords, at, count) >>> 0;
    if (low + count >= TWO_32) Atomics.add(this.#spaceWords, at + 1, 1);
    return high * TWO_32 + low + 1;
  }

  /** The last sequence taken. */
  allocated(slot: Slot): Sequence {
    const at = (slot * SPACE_ROW) / 4 + SPACE_ALLOCATED;
    const low = Atomics.load(this.#spaceWords, at) >>> 0;
    return Atomics.load(this.#spaceWords, at + 1) * TWO_32 + low;
  }

  setAllocated(slot: Slot, last: Sequence): void {
    const at = (slot * SPACE_ROW) / 4 + SPACE_ALLOCATED;
    const high = Math.floor(last / TWO_32);
    Atomics.store(this.#spaceWords, at, last | 0);
    if (this.#spaceWords[at + 1] !== high) Atomics.store(this.#spaceWords, at + 1, high);
  }

  /** The last durable sequence. */
  durable(slot: Slot): Sequence {
    return loadLong(this.#spaceWords, this.#spaceLongs, (slot * SPACE_ROW) / 8 + SPACE_DURABLE);
  }

  setDurable(slot: Slot, last: Sequence): void {
    const at = (slot * SPACE_ROW) / 8 + SPACE_DURABLE;
    storeLong(this.#spaceWords, this.#spaceLongs, at, last);
  }

  /** What the host of a led space needs nothing below of. */
  checkpoint(slot: Slot): Sequence {
    return loadLong(this.#spaceWords, this.#spaceLongs, (slot * SPACE_ROW) / 8 + SPACE_CHECKPOINT);
  }

  /** For shippers to tell, once a second. Stored before the tick is moved. */
  publishCheckpoint(slot: Slot, sequence: Sequence): void {
    if (this.checkpoint(slot) === sequence) return;
    const at = (slot * SPACE_ROW) / 8 + SPACE_CHECKPOINT;
    storeLong(this.#spaceWords, this.#spaceLongs, at, sequence);
    Atomics.add(this.#words, CHECKPOINT_TICK, 1);
  }

  get checkpointTick(): number {
    return Atomics.load(this.#words, CHECKPOINT_TICK);
  }
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
    this.#store(slot, SENT, sequence);
  }
  setReceived(slot: Slot, sequence: Sequence): void {
    this.#store(slot, RECEIVED, sequence);
  }
  /** The replica has flushed up to there, and so received it. Of the rows' writer alone. */
  acked(slot: Slot, flushed: Sequence, applied: Sequence): void {
    this.#store(slot, FLUSHED, flushed);
    const at = slot * PROGRESS_FIELDS;
    if (applied !== ownLong(this.#words, at + APPLIED)) this.#store(slot, APPLIED, applied);
    if (flushed > ownLong(this.#words, at + RECEIVED)) this.#store(slot, RECEIVED, flushed);
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
  #store(slot: Slot, field: number, sequence: Sequence): void {
    storeLong(this.#words, this.#longs, slot * PROGRESS_FIELDS + field, sequence);
  }
}
