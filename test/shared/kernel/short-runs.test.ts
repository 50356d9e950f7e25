/** Short runs of many spaces, sealed many entries at a time: the bytes are those of one by one. */
import fc from 'fast-check';
import { expect, test, vi } from 'vitest';
import { idWords } from '#src/shared/bytes.js';
import { entriesKernel, type KernelOf } from '#src/shared/kernel/entries.js';
import { ENTRY_HEADER_BYTES, TRAILER_BYTES } from '#src/shared/limits.js';
import { stageHeader } from '#src/shared/log/entry.js';
import { Sealer } from '#src/shared/log/seal.js';
import { allocateMemory, MARK_FIELDS, NodeMemory, RUN_FIELDS } from '#src/shared/memory/slab.js';

const SPACES = 40;
const SALT = 0x89abcdef;
const FIRST = 2 ** 32 - 2;

interface StagedRun {
  readonly slot: number;
  readonly sizes: readonly number[];
}

const isReceived = (slot: number): boolean => slot % 4 === 0;
const idOf = (slot: number): string => slot.toString(16).padStart(2, '0').repeat(16);

/** The group as it is sealed, where it stands or beside it. */
function sealed(kernelOf: KernelOf, staged: readonly StagedRun[], startLsn: number) {
  const all = staged.flatMap(({ sizes }) => sizes);
  const length = all.reduce((sum, size) => sum + ENTRY_HEADER_BYTES + size, 0);
  const memory = new NodeMemory(allocateMemory(length, 0, SPACES));
  for (let slot = 1; slot <= SPACES; slot++) memory.setSpace(slot, idWords(idOf(slot)), 1, 0);
  memory.ship();
  const { bytes, view, runs } = memory.slabs[1]!;
  const next = new Map<number, number>();
  let at = 0;
  for (const [r, { slot, sizes }] of staged.entries()) {
    const first = next.get(slot) ?? FIRST;
    const begin = at;
    for (const [n, size] of sizes.entries()) {
      stageHeader(view, at, first + n, 7 * n, r, 1_000 + n, size, 3);
      bytes.fill(n * 37 + r, at + ENTRY_HEADER_BYTES, at + ENTRY_HEADER_BYTES + size);
      at += ENTRY_HEADER_BYTES + size;
    }
    next.set(slot, first + sizes.length);
    runs.set(
      [slot, first, sizes.length, begin, at - begin, isReceived(slot) ? 1 : 0],
      r * RUN_FIELDS,
    );
  }
  const target = next.size < staged.length ? 2 : 1;
  const job = { staging: 1, target, runs: staged.length, bytes: length, startLsn, salt: SALT };
  const made = new Sealer(memory, kernelOf).seal({ ...job, durableLsn: startLsn - 77 });
  const slab = memory.slabs[target]!;
  const marks: number[] = [];
  for (let m = 0; slab.marks[m]! > 0; m += MARK_FIELDS) {
    marks.push(...slab.marks.subarray(m, m + MARK_FIELDS));
  }
  return {
    bytes: Buffer.from(slab.bytes.slice(0, length + TRAILER_BYTES)).toString('hex'),
    runs: [...slab.runs.subarray(0, made * RUN_FIELDS)],
    marks,
  };
}

const size = fc.oneof(
  { weight: 20, arbitrary: fc.integer({ min: 0, max: 400 }) },
  { weight: 1, arbitrary: fc.integer({ min: 3_000, max: 6_000 }) },
  { weight: 1, arbitrary: fc.integer({ min: 20_000, max: 30_000 }) },
);
const count = fc.oneof(
  { weight: 20, arbitrary: fc.integer({ min: 1, max: 3 }) },
  { weight: 1, arbitrary: fc.integer({ min: 10, max: 90 }) },
);
// A space is received or led: never both in a group.
const run = count.chain((entries) =>
  fc.record({
    slot: fc.integer({ min: 1, max: SPACES }),
    sizes: fc.array(size, { minLength: entries, maxLength: entries }),
  }),
);

test('what is sealed of many spaces at once is what is sealed one by one', () => {
  const lsns = fc.constantFrom(4_096, 2 ** 32 - 9_000, 2 ** 41);
  const groups = fc.array(run, { minLength: 1, maxLength: 120 });
  fc.assert(
    fc.property(groups, lsns, (staged, lsn) => {
      expect(sealed(entriesKernel, staged, lsn)).toEqual(sealed(() => undefined, staged, lsn));
    }),
    { numRuns: 150 },
  );
});

test('a piece at a time, and not entry by entry', () => {
  const kernel = entriesKernel()!;
  const sealing = vi.spyOn(kernel, 'seal');
  const staged = [1, 2, 3, 5, 6, 7, 9, 10, 11].map((slot) => ({ slot, sizes: [256] }));
  sealed(() => kernel, staged, 4_096);
  expect(sealing).toHaveBeenCalledTimes(1);
  sealing.mockRestore();
});
