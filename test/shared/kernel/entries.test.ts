import { createHash } from 'node:crypto';
import { once } from 'node:events';
import fs from 'node:fs';
import { Worker } from 'node:worker_threads';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { idWords } from '#src/shared/bytes.js';
import { crc32c } from '#src/shared/crc.js';
import { areSmall, entriesKernel, type KernelOf } from '#src/shared/kernel/entries.js';
import { ENTRY_HEADER_BYTES, INDEX_PART_BYTES, TRAILER_BYTES } from '#src/shared/limits.js';
import { sealLocal, stageHeader } from '#src/shared/log/entry.js';
import { Sealer } from '#src/shared/log/seal.js';
import {
  allocateMemory,
  MARK_FIELDS,
  NO_CRC,
  NodeMemory,
  RUN_BYTES,
  RUN_CRC,
} from '#src/shared/memory/slab.js';
import { checkEntries, type ReadBatch } from '#src/shared/wire/batch.js';
import { BatchRuns } from '#src/shared/wire/batches/mixed-batch.js';
import { COMPILED, compiled } from './compile.js';

const ID = idWords('0123456789abcdef0123456789abcdef');
const OTHER = idWords('0123456789abcdef0123456789abcdee');
const SALT = 0xfedcba98;
const FIRST = 2 ** 32 - 3;
const MAX = 30_000;

/** Each entry is done by itself. */
const oneByOne: KernelOf = () => undefined;

test('where there is no WebAssembly, entries are done one by one', async () => {
  const url = JSON.stringify(import.meta.resolve('#src/shared/kernel/entries.js'));
  const asks = `import(${url}).then((m) => post(m.entriesKernel() === undefined))`;
  const post = "const post = (told) => require('node:worker_threads').parentPort.postMessage(told)";
  for (const [without, is] of [
    ['delete globalThis.WebAssembly;', true],
    ['', false],
  ] as const) {
    const thread = new Worker(`${without} ${post}; ${asks}`, { eval: true, execArgv: [] });
    expect((await once(thread, 'message'))[0]).toBe(is);
    await thread.terminate();
  }
});

test('compiled.ts is what entries.wat says', async () => {
  expect(fs.readFileSync(COMPILED, 'utf8')).toBe(await compiled());
});

/** A slab with one run of staged entries, sealed. */
function sealedSlab(
  kernelOf: KernelOf,
  sizes: readonly number[],
  startLsn: number,
  isReceived = false,
  isShipped = true,
) {
  const bytes = sizes.reduce((sum, size) => sum + ENTRY_HEADER_BYTES + size, 0);
  const memory = new NodeMemory(allocateMemory(bytes, 0, 2));
  memory.setSpace(1, ID, 1, 0);
  if (isShipped) memory.ship();
  const slab = memory.slabs[1]!;
  let at = 0;
  for (const [n, size] of sizes.entries()) {
    stageHeader(slab.view, at, FIRST + n, 7 * n, 9, 1_000 + n, size, 3);
    slab.bytes.fill(n * 37 + 1, at + ENTRY_HEADER_BYTES, at + ENTRY_HEADER_BYTES + size);
    at += ENTRY_HEADER_BYTES + size;
  }
  slab.runs.set([1, FIRST, sizes.length, 0, bytes, isReceived ? 1 : 0]);
  const places = { staging: 1, target: 1 };
  const job = { ...places, runs: 1, bytes, startLsn, durableLsn: startLsn - 77, salt: SALT };
  expect(new Sealer(memory, kernelOf).seal(job)).toBe(1);
  const all = createHash('sha256').update(slab.bytes.subarray(0, bytes + TRAILER_BYTES));
  const marks: number[][] = [];
  for (let m = 0; slab.marks[m]! > 0; m += MARK_FIELDS) {
    marks.push([...slab.marks.subarray(m, m + MARK_FIELDS)]);
  }
  return { all: all.digest('hex'), runs: [...slab.runs.subarray(0, 8)], marks, slab };
}

const size = fc.oneof(
  { weight: 20, arbitrary: fc.integer({ min: 0, max: 90 }) },
  { weight: 4, arbitrary: fc.integer({ min: 0, max: 2_000 }) },
  { weight: 1, arbitrary: fc.integer({ min: 20_000, max: MAX }) },
);

test('entries sealed many at a time are those that are sealed one by one', () => {
  const sizes = fc.array(size, { minLength: 1, maxLength: 300 });
  const lsn = fc.oneof(fc.constant(4_096), fc.constant(2 ** 32 - 9_000), fc.constant(2 ** 41));
  fc.assert(
    fc.property(sizes, lsn, (given, startLsn) => {
      const { slab: _, ...found } = sealedSlab(entriesKernel, given, startLsn);
      expect(sealedSlab(oneByOne, given, startLsn)).toMatchObject(found);
    }),
    { numRuns: 150 },
  );
});

test.each([
  ['where a batch is full', 9_000, 61, 1_000],
  ['where an index divides it', 3_000, 400, 600],
  ['nowhere, where it is short', 900, 200, 900],
  ['where an index divides it, of long entries', 300, 7_000, 200],
])('a run is marked %s, and each part summed', (_, count, modulus, most) => {
  const sizes = Array.from({ length: count }, (_, n) => (n * 17) % modulus);
  for (const kernelOf of [entriesKernel, oneByOne]) {
    const { marks, runs, slab } = sealedSlab(kernelOf, sizes, 2 ** 32 - 300_000);
    let [at, n] = [0, 0];
    for (const [end, counted, crc] of [...marks, [runs[RUN_BYTES], count, runs[RUN_CRC]]]) {
      expect(counted! - n).toBeLessThanOrEqual(most);
      if (end !== runs[RUN_BYTES]) {
        expect(counted! - n === 1_000 || end! - at >= INDEX_PART_BYTES).toBe(true);
      }
      expect(crc).toBe(crc32c(slab.bytes.subarray(at, end)));
      [at, n] = [end!, counted!];
    }
  }
});

test('what came sealed, what is short, and what nobody ships, is not summed', () => {
  const long = sealedSlab(entriesKernel, Array<number>(1_500).fill(10), 4_096, true);
  expect([long.runs[RUN_CRC], long.marks]).toEqual([NO_CRC, [[74_000, 1_000, NO_CRC]]]);
  expect(sealedSlab(entriesKernel, [10, 20, 30], 4_096).runs[RUN_CRC]).toBe(NO_CRC);
  const alone = sealedSlab(entriesKernel, Array<number>(90).fill(10), 4_096, false, false);
  expect(alone.runs[RUN_CRC]).toBe(NO_CRC);
});

/** What is wrong with one entry of a batch before it is sealed, or a bit of it changed behind. */
interface Wrong {
  readonly at: number;
  readonly what:
    | 'magic'
    | 'sequence'
    | 'space'
    | 'older'
    | 'newer'
    | 'members'
    | 'bit'
    | 'cut'
    | 'none';
  readonly bit: number;
}

function batchOf(sizes: readonly number[], { at: wrongAt, what, bit }: Wrong) {
  const bytes = new Uint8Array(sizes.reduce((sum, one) => sum + ENTRY_HEADER_BYTES + one, 0));
  const view = new DataView(bytes.buffer);
  const places: number[] = [];
  let at = 0;
  for (const [n, payload] of sizes.entries()) {
    const is = (wrong: Wrong['what']): boolean => wrong === what && n === wrongAt % sizes.length;
    const sequence = FIRST + n + (is('sequence') ? 2 ** 32 : 0);
    const middle = n < sizes.length / 2 ? 4 : 5;
    const epoch = is('older') ? 3 : is('newer') ? 7 : middle;
    const type = is('members') ? 7 : 1_000;
    stageHeader(view, at, sequence, n, 1, type, payload, epoch);
    if (is('magic')) view.setUint32(at, 0xdeadbeee, true);
    bytes.fill(n, at + ENTRY_HEADER_BYTES, at + ENTRY_HEADER_BYTES + payload);
    sealLocal(bytes, view, at, is('space') ? OTHER : ID, SALT, 4_096 + at, 64);
    places.push(at);
    at += ENTRY_HEADER_BYTES + payload;
  }
  const place = wrongAt % sizes.length;
  const entryBits = 8 * (ENTRY_HEADER_BYTES + sizes[place]!);
  const changed = bit % entryBits;
  if (what === 'bit') bytes[places[place]! + (changed >> 3)]! ^= 1 << (changed & 7);
  const totalSize = what === 'cut' ? Math.max(1, at - (bit % 200)) : at;
  const facts = { startSequence: FIRST, entryCount: sizes.length, totalSize, epoch: 6 };
  return { bytes, view, batch: { ...facts, spaceWords: ID } as unknown as ReadBatch };
}

function told(kernelOf: KernelOf, given: ReturnType<typeof batchOf>, largest: number): string {
  const { bytes, view, batch } = given;
  try {
    return `good, ${checkEntries(bytes, view, 0, batch, largest, kernelOf)}`;
  } catch (error) {
    return String(error);
  }
}

/** The runs of the same entries, as a batch of several spaces has them. */
function runsTold(kernelOf: KernelOf, given: ReturnType<typeof batchOf>, largest: number): string {
  const { bytes, view, batch } = given;
  const { entryCount, totalSize } = batch;
  const runs = new BatchRuns(bytes, view, 0, totalSize, entryCount, largest, false, kernelOf);
  const found: unknown[] = [];
  try {
    while (runs.next()) {
      const { spaceId, epoch, start, end, startSequence, left, holdsMembers } = runs;
      found.push([spaceId, epoch, start, end, startSequence, runs.entryCount, left, holdsMembers]);
    }
  } catch (error) {
    found.push(String(error));
  }
  return JSON.stringify(found);
}

test('a batch that is looked at many entries at a time is judged as one by one', () => {
  const wrong = fc.record<Wrong>({
    at: fc.nat(300),
    what: fc.constantFrom(
      ...([
        'magic',
        'sequence',
        'space',
        'older',
        'newer',
        'members',
        'bit',
        'cut',
        'none',
      ] as const),
    ),
    bit: fc.nat(2 ** 20),
  });
  const list = fc.array(size, { minLength: 8, maxLength: 300 });
  const seen = new Set<string>();
  fc.assert(
    fc.property(list, wrong, fc.constantFrom(1_900, MAX), (sizes, given, largest) => {
      const made = batchOf(sizes, given);
      fc.pre(areSmall(made.batch.entryCount, made.batch.totalSize));
      const found = told(entriesKernel, made, largest);
      seen.add(`${given.what}: ${found.startsWith('good')}`);
      expect(found).toBe(told(oneByOne, made, largest));
      expect(runsTold(entriesKernel, made, largest)).toBe(runsTold(oneByOne, made, largest));
    }),
    { numRuns: 1_000, seed: 7 },
  );
  // Each was met; a changed bit of what is local to a log, [56, 64), is no fault.
  for (const what of ['magic', 'sequence', 'space', 'older', 'newer', 'members', 'bit', 'cut']) {
    expect(seen).toContain(`${what}: false`);
  }
  expect(seen).toContain('none: true');
});
