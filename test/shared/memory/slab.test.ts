import { expect, test } from 'vitest';
import { ENTRY_HEADER_BYTES, GROUP_MAX_RUNS, TRAILER_BYTES } from '#src/shared/limits.js';
import { allocateMemory, NodeMemory, RUN_FIELDS } from '#src/shared/memory/slab.js';

test.each([
  4 * 1024,
  64 * 1024,
  4 * 1024 * 1024,
])('a group of %i bytes has room for a run of each of its entries, no more', (groupBytes) => {
  const memory = allocateMemory(groupBytes, 4 * groupBytes, 8);
  const entries = Math.ceil((groupBytes + TRAILER_BYTES) / ENTRY_HEADER_BYTES);
  for (const { runs } of new NodeMemory(memory).slabs) {
    expect(runs.length / RUN_FIELDS).toBe(Math.min(entries, GROUP_MAX_RUNS));
  }
  // What a node reserves follows from its budget.
  expect(memory.runs.byteLength).toBeLessThan(1.1 * memory.slabs.byteLength + 1_024);
});
