/**
 * The memory that all threads of one node share: control words, slabs, the run table of each
 * slab, and one row per space. This file alone knows the offsets.
 *
 * One writer for each word:
 *   DURABLE_TICK, MAIN_BEAT, CHECKPOINT_TICK, durable LSN, slab descriptors, space rows: main
 *   ACK_TICK: any shipper (Atomics.add); IS_SHIPPED: any, once
 *   slab bytes and run tables: the main thread while the group is staged, the sealer that was
 *   handed the group until it answers, nobody from then on
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
  SLAB_PLACES,
  SLABS_MAX,
  TRAILER_BYTES,
} from '../limits.js';
import type { Lsn, Sequence, Slot } from '../position.js';
import { loadLong, putLong, storeLong } from './long-words.js';
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

/**
 * A place for a group: a slab from there on, and the table of the runs in it. Small groups stand
 * behind each other in one slab, or few of them would fill the memory that a late reader goes by.
 * Those from 0 on are whole slabs; so many as there are farther on are the next places in each.
 */
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
    control: new SharedArrayBuffer(SLAB_ROWS + slabCount * SLAB_PLACES * LINE),
    slabs: new SharedArrayBuffer(slabBytes * slabCount),
    runs: new SharedArrayBuffer(slabCount * tableWords(slabBytes) * 8),
    spaces: new SharedArrayBuffer((maxSpaces + 1) * SPACE_ROW),
    slabBytes,
    slabCount,
    maxSpaces,
  };
}

/** Words of a slab's table of runs, which its places share, and behind it of the marks of each. */
function tableWords(slabBytes: number): number {
  return runWords(slabBytes) + SLAB_PLACES * markWords(slabBytes);
}

function markWords(slabBytes: number): number {
  const leastPart = Math.min(INDEX_PART_BYTES, BATCH_MAX_ENTRIES * ENTRY_HEADER_BYTES);
  return MARK_FIELDS * (Math.ceil(slabBytes / leastPart) + 1);
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
  /** The slab in which `groupAt` found one last. */
  #found = 0;

  constructor(memory: SharedMemory) {
    this.memory = memory;
    this.#words = new Int32Array(memory.control);
    this.#longs = new BigInt64Array(memory.control);
    this.#floats = new Float64Array(memory.control);
    this.#spaceWords = new Int32Array(memory.spaces);
    this.#spaceLongs = new BigInt64Array(memory.spaces);
    const { slabBytes, slabCount } = memory;
    const words = tableWords(slabBytes);
    const [forRuns, forMarks] = [runWords(slabBytes), markWords(slabBytes)];
    const step = align(slabBytes / SLAB_PLACES);
    const runStep = RUN_FIELDS * Math.floor(forRuns / RUN_FIELDS / SLAB_PLACES);
    this.slabs = Array.from({ length: slabCount * SLAB_PLACES }, (_, index) => {
      const slab = index % slabCount;
      const place = (index - slab) / slabCount;
      const from = Math.min(place * step, slabBytes);
      const at = slab * slabBytes + from;
      const table = new Float64Array(memory.runs, slab * words * 8, words);
      const marks = forRuns + place * forMarks;
      return {
        index,
        bytes: new Uint8Array(memory.slabs, at, slabBytes - from),
        view: new DataView(memory.slabs, at, slabBytes - from),
        runs: table.subarray(place * runStep, forRuns),
        marks: table.subarray(marks, marks + forMarks),
      };
    });
  }

  // --- durable end -------------------------------------------------------------------------

  get durableLsn(): Lsn {
    return loadLong(this.#words, this.#longs, DURABLE_LSN);
  }

  /** Publishes a new durable end and wakes every shipper. Stored before the tick is moved. */
  publishDurable(lsn: Lsn): void {
    storeLong(this.#words, this.#longs, DURABLE_LSN, lsn);
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

  /** Makes it and the places behind it unreadable, before its first byte is overwritten. */
  withdrawSlab(index: number): void {
    for (let place = index; place < this.slabs.length; place += this.memory.slabCount) {
      const at = this.#row(place) + GENERATION;
      const generation = Atomics.load(this.#words, at);
      if ((generation & 1) === 0) Atomics.store(this.#words, at, (generation + 1) | 0);
    }
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
    // As a rule it is the one that was found last, or follows it in its slab.
    for (let at = this.#found; at < this.slabs.length; at += this.memory.slabCount) {
      const group = this.#groupIn(this.slabs[at]!, lsn);
      if (group) return group;
    }
    for (const slab of this.slabs) {
      const group = this.#groupIn(slab, lsn);
      if (group) return group;
    }
    return undefined;
  }

  #groupIn(slab: Slab, lsn: Lsn): PublishedGroup | undefined {
    const at = this.#row(slab.index);
    const generation = Atomics.load(this.#words, at + GENERATION);
    if ((generation & 1) === 1 || generation === 0) return undefined;
    const start = this.#floats[at / 2 + START]!;
    const bytes = this.#floats[at / 2 + BYTES]!;
    const previousEnd = this.#floats[at / 2 + PREVIOUS_END]!;
    if (previousEnd !== lsn && (lsn < start || lsn >= start + bytes)) return undefined;
    const entries = this.#floats[at / 2 + ENTRIES]!;
    const runs = this.#words[at + RUN_TOTAL]!;
    if (!this.isUnchanged(slab.index, generation)) return undefined;
    this.#found = slab.index;
    return { slab, generation, start, bytes, entries, runs };
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

  /** Before the group is published, or the end: those are atomic. */
  setDurable(slot: Slot, last: Sequence): void {
    const at = (slot * SPACE_ROW) / 8 + SPACE_DURABLE;
    putLong(this.#spaceWords, this.#spaceLongs, at, last);
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
