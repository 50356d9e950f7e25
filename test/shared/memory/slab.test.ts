import { expect, test, vi } from 'vitest';
import {
  ENTRY_HEADER_BYTES,
  GROUP_MAX_RUNS,
  SLAB_PLACES,
  TRAILER_BYTES,
} from '#src/shared/limits.js';
import { allocateProgress, ReplicaProgress } from '#src/shared/memory/progress.js';
import { allocateMemory, NodeMemory, RUN_FIELDS } from '#src/shared/memory/slab.js';

test.each([
  4 * 1024,
  64 * 1024,
  4 * 1024 * 1024,
])('a group of %i bytes has room for a run of each of its entries, no more', (groupBytes) => {
  const memory = allocateMemory(groupBytes, 4 * groupBytes, 8);
  const entries = Math.ceil((groupBytes + TRAILER_BYTES) / ENTRY_HEADER_BYTES);
  const { slabs } = new NodeMemory(memory);
  for (const { runs } of slabs.slice(0, memory.slabCount)) {
    expect(runs.length / RUN_FIELDS).toBe(Math.min(entries, GROUP_MAX_RUNS));
  }
  // At its later places there is room for what the rest of the slab can hold.
  expect(slabs).toHaveLength(memory.slabCount * SLAB_PLACES);
  for (const { bytes, runs } of slabs) {
    const most = Math.ceil(bytes.length / ENTRY_HEADER_BYTES);
    expect(runs.length % RUN_FIELDS).toBe(0);
    if (entries <= GROUP_MAX_RUNS) expect(runs.length / RUN_FIELDS).toBeGreaterThanOrEqual(most);
  }
  // Marks of a place are its own: those of groups behind each other are read at one time.
  const tables = slabs.slice(0, memory.slabCount).map(({ runs }) => runs);
  const taken = [...tables, ...slabs.map(({ marks }) => marks)]
    .map(({ byteOffset, byteLength }) => [byteOffset, byteOffset + byteLength] as const)
    .sort(([a], [b]) => a - b);
  for (const [i, [from]] of taken.entries()) {
    expect(from).toBeGreaterThanOrEqual(taken[i - 1]?.[1] ?? 0);
  }
  // What a node reserves follows from its budget.
  expect(memory.runs.byteLength).toBeLessThan(1.1 * memory.slabs.byteLength + 1_024);
});

test('what a replica acknowledges it has received, and received does not go back', () => {
  const buffer = allocateProgress(4);
  const [written, read] = [new ReplicaProgress(buffer), new ReplicaProgress(buffer)];
  const stand = () => [read.received(2), read.flushed(2), read.applied(2)];
  const far = 2 ** 32;
  written.begin(2, 7, far - 2, far - 3);
  written.setReceived(2, far + 5);
  written.acked(2, far - 1, far - 2);
  expect(stand()).toEqual([far + 5, far - 1, far - 2]);
  written.acked(2, far + 5, far + 1);
  expect(stand()).toEqual([far + 5, far + 5, far + 1]);
  written.acked(2, 2 * far + 6, far - 1);
  expect(stand()).toEqual([2 * far + 6, 2 * far + 6, far - 1]);
  expect([read.sent(2), read.received(3), read.flushed(1)]).toEqual([far - 2, 0, 0]);
});

test.each([
  1,
  2 ** 31 - 3,
  2 ** 32 - 4,
  2 ** 45 - 4,
])('sequences from %i on follow each other', (from) => {
  const memory = new NodeMemory(allocateMemory(4_096, 0, 3));
  const id = [1, 2, 3, 4] as const;
  memory.setSpace(2, id, 1, from);
  expect([memory.allocated(2), memory.durable(2)]).toEqual([from, from]);
  let last = from;
  for (const count of [1, 3, 2 ** 20, 1]) {
    expect(memory.allocate(2, count)).toBe(last + 1);
    last += count;
    expect(memory.allocated(2)).toBe(last);
  }
  memory.setAllocated(2, from - 1);
  expect([memory.allocated(2), memory.allocate(2, 1)]).toEqual([from - 1, from]);
  memory.setDurable(2, last);
  expect([memory.durable(2), memory.allocated(1), memory.durable(3)]).toEqual([last, 0, 0]);
  expect(memory.spaceId(2)).toEqual(id);
});

test('a row that is begun anew is nobody’s until all of it is there', () => {
  const buffer = allocateProgress(4);
  const [written, read] = [new ReplicaProgress(buffer), new ReplicaProgress(buffer)];
  written.begin(2, 7, 5, 5);
  const epochs: number[] = [];
  const store = Atomics.store;
  const spy = vi.spyOn(Atomics, 'store').mockImplementation(((
    ...stored: Parameters<typeof store>
  ) => {
    const value = store(...stored);
    epochs.push(read.epoch(2));
    return value;
  }) as never);
  written.begin(2, 9, 3, 3);
  spy.mockRestore();
  expect(epochs.length).toBeGreaterThan(2);
  expect(epochs).toEqual([...Array(epochs.length - 1).fill(0), 9]);
  for (const slot of [1, 4]) written.begin(slot, 9, 1, 1);
  written.forget();
  expect([1, 2, 3, 4].map((slot) => read.epoch(slot))).toEqual([0, 0, 0, 0]);
});
