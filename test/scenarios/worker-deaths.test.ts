/** Threads of a node die: the sealer, the log's writer. (The shipper: replication-faults.) */
import path from 'node:path';
import { Worker } from 'node:worker_threads';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import type { Node } from '#src/main/index.js';
import { contentOf, makeFolder, openSmall, removeFolder, until } from '../support/cluster.js';

/** Groups so large that they are worth a task of the pool. */
const LARGE = {
  segmentBytes: 8 << 20,
  groupBytes: 1 << 20,
  maxEntryBytes: 64 << 10,
  memoryBudgetBytes: 8 << 20,
};

let folder: string;
let threads: Set<Worker>;
let node: Node;

beforeEach(async () => {
  folder = makeFolder();
  threads = new Set();
  // Whoever starts a thread says whether it keeps the process alive; that tells us of it.
  for (const name of ['ref', 'unref'] as const) {
    const real = Worker.prototype[name];
    vi.spyOn(Worker.prototype, name).mockImplementation(function (this: Worker) {
      threads.add(this);
      return real.call(this);
    });
  }
  node = await openSmall(path.join(folder, 'a'), 'a', LARGE);
});

afterEach(async () => {
  vi.restoreAllMocks();
  await node.close();
  removeFolder(folder);
});

test('FAULT-76 a sealer that dies: its group is sealed again, nobody notices', async () => {
  const space = await node.openSpace('s');
  const payload = Buffer.alloc(32 << 10, 7);
  const batch = Array.from({ length: 64 }, () => payload);
  await space.append(1, payload);
  const before = new Set(threads);
  // The first large group starts the pool, the others use it.
  for (let n = 0; n < 3; n++) await space.appendBatch(1, batch);
  await until('the pool has started', () => threads.size > before.size);
  const sealers = [...threads].filter((t) => !before.has(t));
  const appends = Array.from({ length: 6 }, () => space.appendBatch(1, batch));
  for (const sealer of sealers) void sealer.terminate();
  await Promise.all(appends);
  const { sequence } = await space.append(1, payload);
  expect(sequence).toBe(9 * 64 + 2);
  expect(await contentOf(space)).toHaveLength(sequence);
  expect(node.status()).toMatchObject({ failure: undefined, log: { state: 'ok' } });
});

test('FAULT-76 the writer of the log dies: no promise hangs, none lies', async () => {
  const space = await node.openSpace('s');
  const fatal: Error[] = [];
  node.on('fatal', ({ error }) => fatal.push(error));
  await space.append(1, Buffer.from('before'));
  const [writer] = threads;
  const inFlight = Array.from({ length: 50 }, (_, i) =>
    space.append(1, Buffer.from(`during ${i}`)).then(
      ({ sequence }) => sequence,
      (error: { code: string }) => error.code,
    ),
  );
  void writer!.terminate();
  const outcomes = await Promise.all(inFlight);
  const acked = outcomes.filter((o) => typeof o === 'number');
  await until('it is told', () => fatal.length > 0);
  await expect(space.append(1, Buffer.from('after'))).rejects.toMatchObject({ code: 'WalFailed' });
  await node.close();
  node = await openSmall(path.join(folder, 'a'), 'a', LARGE);
  const again = node.space('s');
  const found = await contentOf(again);
  // Every acknowledged one is there; the others have an open fate, and are whole or absent.
  expect(found.length).toBeGreaterThanOrEqual(1 + acked.length);
  expect(found.length).toBeLessThanOrEqual(51);
  expect(await again.append(1, Buffer.from('again'))).toMatchObject({ sequence: found.length + 1 });
});
