/**
 * Groups of any runs, staged in pieces, sealed, and shipped over links that stand anywhere: what
 * the seal has summed is what a replica finds, in whatever frames it comes.
 */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { idWords } from '#src/shared/bytes.js';
import { areSmall } from '#src/shared/kernel/entries.js';
import {
  BATCH_HEADER_BYTES,
  ENTRY_HEADER_BYTES,
  FRAME_HEADER_BYTES,
  FRAME_SMALLEST_BYTES,
} from '#src/shared/limits.js';
import { readSequence, readSpaceIdWord, stageHeader } from '#src/shared/log/entry.js';
import { Sealer } from '#src/shared/log/seal.js';
import {
  allocateMemory,
  NodeMemory,
  RUN_BYTES,
  RUN_COUNT,
  RUN_FIELDS,
  RUN_FIRST,
  RUN_OFFSET,
  RUN_RECEIVED,
  RUN_SLOT,
} from '#src/shared/memory/slab.js';
import { idOf } from '#src/shared/names.js';
import { checkEntries, decodeBatch, decodeWhole, FEATURE_MIXED } from '#src/shared/wire/batch.js';
import { FrameBuilder } from '#src/shared/wire/batches/frame-builder.js';
import { BatchRuns } from '#src/shared/wire/batches/mixed-batch.js';
import {
  type Codec,
  CompressionCode,
  codecOf,
  decompressed,
  featureOf,
} from '#src/shared/wire/compression.js';
import { BatchSource } from '#src/workers/ship/batch-source.js';
import type { SegmentReader } from '#src/workers/ship/segment-reader.js';

const SLAB = 2 << 20;
const SPACES = 4;
const EPOCH = 2;
const MAX_ENTRY_BYTES = 300_000;
const TERMS = { features: FEATURE_MIXED | featureOf('lz4'), maxBytes: SLAB };
const WORDS = Array.from({ length: SPACES }, (_, slot) => idWords(idOf(`${slot}`)));

/** Entries of one space, staged behind each other. */
interface Piece {
  readonly slot: number;
  readonly count: number;
  /** Of the first entry; those behind it differ by `step`. */
  readonly size: number;
  readonly step: number;
}

const piece = fc.record({
  slot: fc.nat(SPACES - 1),
  count: fc.oneof(
    fc.integer({ min: 1, max: 20 }),
    fc.integer({ min: 21, max: 900 }),
    fc.integer({ min: 998, max: 2_003 }),
  ),
  size: fc.oneof(fc.constant(0), fc.integer({ min: 0, max: 500 }), fc.constant(250_000)),
  step: fc.nat(40),
});

/** Groups as a node seals them, one behind the other in its log. @returns what was taken, too */
function sealedGroups(groups: readonly (readonly Piece[])[]) {
  const memory = new NodeMemory(allocateMemory(SLAB, 8 * SLAB, SPACES));
  const sealer = new Sealer(memory);
  memory.ship();
  const last = new Array<number>(SPACES).fill(0);
  for (const [slot, words] of WORDS.entries()) memory.setSpace(slot, words, 1, 0);
  let start = 0;
  for (const [index, group] of groups.entries()) {
    const [staging, target] = [2 * index, 2 * index + 1];
    const { bytes, view, runs } = memory.slabs[staging]!;
    let [at, made, entries] = [0, 0, 0];
    for (const { slot, count, size, step } of group) {
      const from = at;
      const first = last[slot]! + 1;
      for (let n = 0; n < count; n++) {
        const payload = size > 1_000 ? size : (size + n * step) % 700;
        const next = at + ENTRY_HEADER_BYTES + payload;
        if (next > SLAB) break;
        last[slot]!++;
        // Of each space the first entry is of the epoch before.
        const epoch = last[slot]! === 1 ? 1 : EPOCH;
        stageHeader(view, at, last[slot]!, n, 0, 1, payload, epoch);
        bytes.fill(last[slot]! + n, at + ENTRY_HEADER_BYTES, next);
        at = next;
      }
      if (at === from) continue;
      const row = RUN_FIELDS * made++;
      runs[row + RUN_SLOT] = slot;
      runs[row + RUN_FIRST] = first;
      runs[row + RUN_COUNT] = last[slot]! - first + 1;
      runs[row + RUN_OFFSET] = from;
      runs[row + RUN_BYTES] = at - from;
      runs[row + RUN_RECEIVED] = 0;
      entries += runs[row + RUN_COUNT]!;
    }
    // What a group before left there.
    memory.slabs[target]!.marks.fill(97);
    const place = { bytes: at, startLsn: start, durableLsn: start, salt: 7 };
    const sealed = sealer.seal({ staging, target, runs: made, ...place });
    memory.withdrawSlab(target);
    const said = { previousEnd: start, start, bytes: at, entries, runs: sealed };
    if (at > 0) memory.publishSlab(target, said);
    start += at;
  }
  memory.publishDurable(start);
  return { memory, last };
}

/** Checks a frame as a replica does. @returns `slot:sequence` of each entry */
function entriesOf(frame: Uint8Array): string[] {
  const view = new DataView(frame.buffer, frame.byteOffset, frame.length);
  const found: string[] = [];
  const slotAt = (of: DataView, at: number): number =>
    WORDS.findIndex((words) => words[0] === readSpaceIdWord(of, at, 0));
  for (let at = FRAME_HEADER_BYTES; at < frame.length; ) {
    const end = at + 4 + view.getUint32(at, true);
    const batch = decodeBatch(frame, view, at + 4, end, TERMS);
    const { compression, totalSize, sentSize, entryCount, isMixed } = batch;
    const isDerived = !isMixed || areSmall(entryCount, totalSize);
    const start = at + 4 + BATCH_HEADER_BYTES;
    const isPlain = compression === CompressionCode.none;
    const bytes = isPlain
      ? frame.subarray(start, end)
      : decompressed(compression, frame.subarray(start, start + sentSize), totalSize);
    const of = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    const whole = decodeWhole(frame, view, at + 4, end, TERMS, MAX_ENTRY_BYTES);
    expect(whole?.batch).toEqual(isPlain && isDerived ? batch : undefined);
    if (!isMixed) checkEntries(bytes, of, 0, batch, MAX_ENTRY_BYTES);
    else {
      const runs = new BatchRuns(bytes, of, 0, totalSize, entryCount, MAX_ENTRY_BYTES);
      while (runs.next()) expect(runs.epoch).toBe(EPOCH);
    }
    for (let n = 0, to = 0; n < entryCount; n++) {
      found.push(`${slotAt(of, to)}:${readSequence(of, to)}`);
      to += ENTRY_HEADER_BYTES + of.getUint32(to + 24, true);
    }
    at = end;
  }
  return found;
}

const link = fc.record({
  /** Entries that its replica has of each space, in thousandths. */
  has: fc.array(fc.nat(1_000), { minLength: SPACES, maxLength: SPACES }),
  limits: fc.array(
    fc.oneof(fc.integer({ min: FRAME_SMALLEST_BYTES, max: 300_000 }), fc.constant(SLAB)),
    { minLength: 1, maxLength: 4 },
  ),
  mixes: fc.boolean(),
  isCompressed: fc.boolean(),
  /** Of the first space from there on all is void. */
  isVoided: fc.boolean(),
});

test('each entry comes once, whole, in batches whose sums are right', () => {
  const codec: Codec = codecOf('lz4')!;
  const groups = fc.array(fc.array(piece, { minLength: 1, maxLength: 6 }), { maxLength: 3 });
  fc.assert(
    fc.property(groups, fc.array(link, { minLength: 1, maxLength: 3 }), (given, links) => {
      const { memory, last } = sealedGroups(given);
      for (const { has, limits, mixes, isCompressed, isVoided } of links) {
        const source = new BatchSource(memory, {} as SegmentReader, MAX_ENTRY_BYTES);
        const wanted: string[] = [];
        for (let slot = 1; slot < SPACES; slot++) {
          const [id, words] = [idOf(`${slot}`), WORDS[slot]!];
          const next = 1 + Math.floor((has[slot]! * last[slot]!) / 1_000);
          const end = isVoided && slot === 1 ? Math.floor(last[slot]! / 2) : last[slot]!;
          const voided = end < last[slot]! ? [{ first: end + 1, lsn: 2 ** 40 }] : [];
          source.add({ slot, id, words, epoch: EPOCH, voided, next });
          for (let n = next; n <= end; n++) wanted.push(`${slot}:${n}`);
        }
        const frame = new FrameBuilder(SLAB + 4_096, idOf('a'));
        const found: string[] = [];
        let filled = 'full';
        for (let n = 0; filled === 'full'; n++) {
          frame.reset(limits[n % limits.length]!, isCompressed ? codec : undefined, mixes);
          filled = source.fill(frame);
          expect(filled === 'full' && frame.isEmpty).toBe(false);
          found.push(...entriesOf(frame.finish()));
        }
        expect(filled).toBe('caught-up');
        for (let slot = 1; slot < SPACES; slot++) {
          const its = (of: string): boolean => of.startsWith(`${slot}:`);
          expect(found.filter(its)).toEqual(wanted.filter(its));
        }
        expect(found.length).toBe(wanted.length);
      }
    }),
    { numRuns: 60 },
  );
});
