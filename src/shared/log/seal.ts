/**
 * Sealing: a staged group becomes the exact bytes that go to the log. Runs of one space are
 * brought together, headers completed, CRCs and stamps written, 64 zero bytes put behind.
 * Synchronous and without allocation per entry; runs in the pool or on the main thread.
 */

import { copyBytes, type SpaceIdWords } from '../bytes.js';
import { assert } from '../errors.js';
import { areSmall, entriesKernel, type KernelOf } from '../kernel/entries.js';
import {
  BATCH_MAX_ENTRIES,
  ENTRY_HEADER_BYTES,
  INDEX_EVERY_BYTES,
  INDEX_PART_BYTES,
  TRAILER_BYTES,
} from '../limits.js';
import {
  MARK_COUNT,
  MARK_CRC,
  MARK_FIELDS,
  NO_CRC,
  type NodeMemory,
  RUN_BYTES,
  RUN_COUNT,
  RUN_CRC,
  RUN_FIELDS,
  RUN_FIRST,
  RUN_LAST,
  RUN_OFFSET,
  RUN_RECEIVED,
  RUN_SLOT,
  type Slab,
} from '../memory/slab.js';
import type { Lsn } from '../position.js';
import { putSpaceId, readPayloadSize, sealedCrc, sealLocal, stampPlace } from './entry.js';

/** Of a run that is shorter a shipper sums what it sends: it may go out with others. */
const SUMMED_FROM_BYTES = 4 * 1024;

const NO_ID: SpaceIdWords = [0, 0, 0, 0];

/** What the main thread asks of a sealer. */
export interface SealJob {
  /** Index of the slab in which the group was staged. */
  readonly staging: number;
  /** Where the sealed group is to stand; `staging` itself when its runs are grouped already. */
  readonly target: number;
  readonly runs: number;
  readonly bytes: number;
  readonly startLsn: Lsn;
  /** The durable end that the entries' `back` is to name. */
  readonly durableLsn: Lsn;
  readonly salt: number;
}

/** Scratch for grouping, one per thread. */
export class Sealer {
  readonly #memory: NodeMemory;
  /** By slot: the group in which the slot was last met, and its last run there. */
  readonly #metIn: Float64Array;
  readonly #lastRun: Int32Array;
  #groups = 0;
  readonly #kernelOf: KernelOf;

  /** @param kernelOf what does many small entries at once, where there is such a thing */
  constructor(memory: NodeMemory, kernelOf: KernelOf = entriesKernel) {
    this.#memory = memory;
    this.#kernelOf = kernelOf;
    this.#metIn = new Float64Array(memory.memory.maxSpaces + 1);
    this.#lastRun = new Int32Array(memory.memory.maxSpaces + 1);
  }

  /** Seals one group. @returns the number of runs in the target's run table */
  seal(job: SealJob): number {
    const staging = this.#memory.slabs[job.staging]!;
    const target = this.#memory.slabs[job.target]!;
    const runs = job.staging === job.target ? job.runs : this.#group(staging, target, job.runs);
    let marks = 0;
    for (let r = 0; r < runs; ) {
      const to = shortRunsFrom(target.runs, r, runs);
      if (this.#finishShort(target, r, to, job)) {
        r = to;
        continue;
      }
      const end = Math.max(r + 1, to);
      for (; r < end; r++) marks = this.#finishRun(target, r * RUN_FIELDS, job, marks);
    }
    target.marks[marks] = 0;
    target.bytes.fill(0, job.bytes, job.bytes + TRAILER_BYTES);
    return runs;
  }

  /**
   * Copies the runs into the target in the order in which their spaces first appear, and joins
   * those of one space. The order within a space stays: its sequences are contiguous.
   */
  #group(staging: Slab, target: Slab, runs: number): number {
    const from = staging.runs;
    const next = new Int32Array(runs).fill(-1);
    const heads: number[] = [];
    const stamp = ++this.#groups;
    for (let r = 0; r < runs; r++) {
      const slot = from[r * RUN_FIELDS + RUN_SLOT]!;
      if (this.#metIn[slot] === stamp) next[this.#lastRun[slot]!] = r;
      else heads.push(r);
      this.#metIn[slot] = stamp;
      this.#lastRun[slot] = r;
    }
    const to = target.runs;
    let at = 0;
    let made = 0;
    for (const head of heads) {
      const row = made * RUN_FIELDS;
      const first = head * RUN_FIELDS;
      for (let field = 0; field < RUN_FIELDS; field++) to[row + field] = from[first + field]!;
      to[row + RUN_OFFSET] = at;
      to[row + RUN_COUNT] = 0;
      to[row + RUN_BYTES] = 0;
      for (let r = head; r >= 0; r = next[r]!) {
        const source = r * RUN_FIELDS;
        const offset = from[source + RUN_OFFSET]!;
        const bytes = from[source + RUN_BYTES]!;
        copyBytes(target.bytes, at, staging.bytes.subarray(offset, offset + bytes));
        to[row + RUN_COUNT]! += from[source + RUN_COUNT]!;
        to[row + RUN_BYTES]! += bytes;
        at += bytes;
      }
      made++;
    }
    return made;
  }

  /**
   * The runs from `r` up to `to`, all of them short: many entries at a time, whatever their spaces.
   * @returns false: they are too few, or too long, for that to pay
   */
  #finishShort({ bytes, view, runs }: Slab, r: number, to: number, job: SealJob): boolean {
    if (to - r < 2) return false;
    const last = (to - 1) * RUN_FIELDS;
    const begin = runs[r * RUN_FIELDS + RUN_OFFSET]!;
    const end = runs[last + RUN_OFFSET]! + runs[last + RUN_BYTES]!;
    let entries = 0;
    for (let run = r; run < to; run++) entries += runs[run * RUN_FIELDS + RUN_COUNT]!;
    const kernel = areSmall(entries, end - begin) ? this.#kernelOf() : undefined;
    if (!kernel) return false;
    let at = begin;
    for (let row = r * RUN_FIELDS; row <= last; row += RUN_FIELDS) {
      const id = this.#memory.spaceId(runs[row + RUN_SLOT]!);
      const count = runs[row + RUN_COUNT]!;
      for (let n = 0; n < count; n++) {
        putSpaceId(view, at, id);
        runs[row + RUN_LAST] = at;
        at += ENTRY_HEADER_BYTES + readPayloadSize(view, at);
      }
      runs[row + RUN_CRC] = NO_CRC;
      if (at !== runs[row + RUN_OFFSET]! + runs[row + RUN_BYTES]!) torn(runs, row);
    }
    for (at = begin; at < end; at += kernel.bytes) {
      const lsn = job.startLsn + at;
      const back = lsn - job.durableLsn;
      const sealed = kernel.seal(
        bytes,
        at,
        end,
        end,
        entries,
        undefined,
        job.salt,
        lsn,
        back,
        false,
      );
      assert(sealed > 0, 'an entry of a short run that is longer than what is sealed at once');
      entries -= sealed;
    }
    return true;
  }

  /** @param marks words of marks so far @returns the same, with those of this run */
  #finishRun(slab: Slab, row: number, job: SealJob, marks: number): number {
    const { bytes, view, runs } = slab;
    const received = runs[row + RUN_RECEIVED] === 1;
    // What came sealed has its own, and there are as many runs as spaces.
    const id = received ? NO_ID : this.#memory.spaceId(runs[row + RUN_SLOT]!);
    const count = runs[row + RUN_COUNT]!;
    const end = runs[row + RUN_OFFSET]! + runs[row + RUN_BYTES]!;
    let at = runs[row + RUN_OFFSET]!;
    let last = at;
    // Marked where an index divides it and where a batch is full, with what the parts sum up to, so
    // that nobody walks over the entries once more.
    const partBytes = end - at > INDEX_EVERY_BYTES ? INDEX_PART_BYTES : end;
    let next = at + partBytes;
    let begun = 0;
    let marked = marks;
    const isSummed = !received && end - at >= SUMMED_FROM_BYTES && this.#memory.isShipped;
    let crc = 0;
    const kernel = received || !areSmall(count, end - at) ? undefined : this.#kernelOf();
    for (let n = 0; n < count; ) {
      const lsn = job.startLsn + at;
      const back = lsn - job.durableLsn;
      const left = Math.min(count, begun + BATCH_MAX_ENTRIES) - n;
      if (kernel) kernel.crc = crc;
      const sealed = kernel?.seal(bytes, at, end, next, left, id, job.salt, lsn, back, isSummed);
      if (sealed) {
        last = at + kernel!.last;
        at += kernel!.bytes;
        n += sealed;
        crc = kernel!.crc;
      } else {
        if (received) stampPlace(view, at, job.salt, lsn, back);
        else sealLocal(bytes, view, at, id, job.salt, lsn, back);
        if (isSummed) crc = sealedCrc(view, at, crc);
        last = at;
        at += ENTRY_HEADER_BYTES + readPayloadSize(view, at);
        n++;
      }
      if ((at < next && n - begun < BATCH_MAX_ENTRIES) || at === end) continue;
      slab.marks[marked] = at;
      slab.marks[marked + MARK_COUNT] = n;
      slab.marks[marked + MARK_CRC] = isSummed ? crc : NO_CRC;
      marked += MARK_FIELDS;
      next = at + partBytes;
      begun = n;
      crc = 0;
    }
    runs[row + RUN_LAST] = last;
    runs[row + RUN_CRC] = isSummed ? crc : NO_CRC;
    if (at !== end) torn(runs, row);
    return marked;
  }
}

/** Where the runs end that are short, were staged here, and stand behind each other from `r` on. */
function shortRunsFrom(table: Float64Array, r: number, runs: number): number {
  let to = r;
  while (to < runs) {
    const row = to * RUN_FIELDS;
    if (table[row + RUN_RECEIVED] === 1 || table[row + RUN_BYTES]! >= SUMMED_FROM_BYTES) break;
    to++;
  }
  return to;
}

/** The text is made only where it is needed: there are as many runs as spaces. */
function torn(runs: Float64Array, row: number): never {
  assert(false, `run of slot ${runs[row + RUN_SLOT]} from ${runs[row + RUN_FIRST]} is torn`);
}
