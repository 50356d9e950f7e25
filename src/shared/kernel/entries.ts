/**
 * Small entries, many at a time: entries.wat does for each of them what the sealer and the receiver
 * do one by one, in half the time. It has a memory of its own, one a thread, into which entries
 * are copied a piece at a time. What it leaves (an entry longer than a piece, one that is not as it
 * must be) is for the caller, one by one; so is everything where there is no WebAssembly.
 */
import { copyBytes, type SpaceIdWords } from '../bytes.js';
import { CRC32C_TABLES, crc32cShifts } from '../crc.js';
import { ENTRIES_WASM } from './compiled.js';

/** Where entries.wat has its results, and the entries behind them. */
const DONE = 16_384 / 4;
const LAST = DONE + 1;
const EPOCH = DONE + 2;
const CRC = DONE + 3;
const SHIFTS = 16_384 + 64;
/** Those for every length of less than 2 ** 15 bytes. */
const POWERS = 15;
const ENTRIES = SHIFTS + POWERS * 4_096;
/** With the tables that are used it fits into the first cache of a core, or nearly. */
const PIECE_BYTES = 24 * 1024;
/** Longer ones, in the mean, are summed faster by native calls. */
const MEAN_MAX_BYTES = 768;
/** Fewer are done one by one before a piece is copied. */
const LEAST_ENTRIES = 8;

const TWO_32 = 2 ** 32;
const NO_ID: SpaceIdWords = [0, 0, 0, 0];

/** Whether so many entries of so many bytes are worth it. */
export function areSmall(entries: number, bytes: number): boolean {
  return entries >= LEAST_ENTRIES && bytes <= entries * MEAN_MAX_BYTES;
}

interface Exports {
  readonly memory: { readonly buffer: ArrayBuffer };
  seal(at: number, end: number, stop: number, ...facts: number[]): number;
  check(at: number, end: number, ...facts: number[]): number;
  look(at: number, end: number, most: number, largest: number, crc: number): number;
}

/** The engine's own; a host may have switched it off. */
interface Engine {
  readonly Module: new (bytes: Uint8Array) => object;
  readonly Instance: new (module: object) => { readonly exports: Exports };
}

export class EntriesKernel {
  readonly #exports: Exports;
  readonly #bytes: Uint8Array;
  readonly #words: Uint32Array;
  /** CRC32C of all bytes that the next call goes on behind, and of those that it did with it. */
  crc = 0;
  /** Of the last call: bytes of the entries that it did, where the last of them begins there. */
  bytes = 0;
  last = 0;
  /** ... and that one's epoch; `check` alone. */
  epoch = 0;

  constructor(engine: Engine) {
    const wasm = Uint8Array.from(atob(ENTRIES_WASM), (byte) => byte.charCodeAt(0));
    this.#exports = new engine.Instance(new engine.Module(wasm)).exports;
    const { buffer } = this.#exports.memory;
    this.#bytes = new Uint8Array(buffer);
    this.#words = new Uint32Array(buffer);
    this.#words.set(CRC32C_TABLES);
    this.#words.set(crc32cShifts(POWERS), SHIFTS / 4);
  }

  /**
   * Completes staged entries from `at` on, as `sealLocal` does: at most `most`, none beyond `end`,
   * none behind the one that reaches `stop`. @param id undefined: each has its own already
   * @param isSummed whether `crc` goes on over them @returns how many
   */
  seal(
    bytes: Uint8Array,
    at: number,
    end: number,
    stop: number,
    most: number,
    id: SpaceIdWords | undefined,
    salt: number,
    lsn: number,
    back: number,
    isSummed: boolean,
  ): number {
    const to = this.#take(bytes, at, end);
    const [id0, id1, id2, id3] = id ?? NO_ID;
    const until = ENTRIES + stop - at;
    const low = lsn % TWO_32;
    const high = Math.floor(lsn / TWO_32);
    const facts = [
      most,
      id0,
      id1,
      id2,
      id3,
      salt,
      low,
      high,
      back,
      this.crc,
      Number(isSummed),
      Number(id === undefined),
    ] as const;
    this.bytes = this.#exports.seal(ENTRIES, to, until, ...facts) - ENTRIES;
    this.crc = this.#words[CRC]!;
    const done = this.#words[DONE]!;
    if (done === 0) return 0;
    this.last = this.#words[LAST]! - ENTRIES;
    copyBytes(bytes, at, this.#bytes.subarray(ENTRIES, ENTRIES + this.bytes));
    return done;
  }

  /**
   * Looks at received entries from `at` on: at most `most`, none beyond `end`. @returns how many
   * are what they must be (see entries.wat) until one is not, or is for the caller to judge
   */
  check(
    bytes: Uint8Array,
    at: number,
    end: number,
    most: number,
    largest: number,
    id: SpaceIdWords,
    sequence: number,
    least: number,
    newest: number,
  ): number {
    const to = this.#take(bytes, at, end);
    const [id0, id1, id2, id3] = id;
    const low = sequence % TWO_32;
    const high = Math.floor(sequence / TWO_32);
    const facts = [most, largest, id0, id1, id2, id3, low, high, least, newest, this.crc] as const;
    this.bytes = this.#exports.check(ENTRIES, to, ...facts) - ENTRIES;
    this.epoch = this.#words[EPOCH]!;
    this.crc = this.#words[CRC]!;
    return this.#words[DONE]!;
  }

  /**
   * Looks at received entries of any spaces from `at` on: at most `most`, none beyond `end`.
   * @returns how many are sound by themselves, until one is not or says who counts
   */
  look(bytes: Uint8Array, at: number, end: number, most: number, largest: number): number {
    const to = this.#take(bytes, at, end);
    this.bytes = this.#exports.look(ENTRIES, to, most, largest, this.crc) - ENTRIES;
    this.crc = this.#words[CRC]!;
    return this.#words[DONE]!;
  }

  /** @returns where the piece ends that was taken in */
  #take(bytes: Uint8Array, at: number, end: number): number {
    const size = Math.min(end - at, PIECE_BYTES);
    copyBytes(this.#bytes, ENTRIES, bytes.subarray(at, at + size));
    return ENTRIES + size;
  }
}

/** Where a kernel comes from. */
export type KernelOf = () => EntriesKernel | undefined;

let kernel: EntriesKernel | undefined;
let isTried = false;

/** That of this thread; undefined where there is no WebAssembly. */
export function entriesKernel(): EntriesKernel | undefined {
  if (isTried) return kernel;
  isTried = true;
  try {
    kernel = new EntriesKernel((globalThis as unknown as { WebAssembly: Engine }).WebAssembly);
  } catch {
    // Without it, or without room for it, entries are done one by one.
  }
  return kernel;
}
