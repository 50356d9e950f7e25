/** Threads of a node die: the sealer, the log's writer. (The shipper: replication-faults.) */
import path from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { Worker } from 'node:worker_threads';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import type { Node, Space } from '#src/main/index.js';
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

/** Kills the thread that was started last, which is the log's writer here. */
async function killWriter(): Promise<void> {
  await [...threads].at(-1)!.terminate();
}

/** Appends, one behind the other, until it is told to stop; what was acknowledged, and what not. */
function load(space: Space): { stop(): Promise<{ acked: string[]; codes: string[] }> } {
  const acked: string[] = [];
  const codes: string[] = [];
  let isOver = false;
  const one = async (lane: number): Promise<void> => {
    for (let n = 0; !isOver; n++) {
      const text = `${lane} ${n}`;
      await space.append(1, Buffer.from(text)).then(
        () => acked.push(text),
        (error: { code: string }) => codes.push(error.code),
      );
      await new Promise((resolve) => setImmediate(resolve));
    }
  };
  const lanes = Promise.all([0, 1, 2, 3].map(one));
  return {
    stop: async () => {
      isOver = true;
      await lanes;
      return { acked, codes };
    },
  };
}

test('FAULT-76 the log’s writer dies: its write is made again, nobody notices', async () => {
  const space = await node.openSpace('s');
  await space.append(1, Buffer.from('before'));
  const running = load(space);
  for (let deaths = 1; deaths <= 2; deaths++) {
    await pause(50);
    await killWriter();
    const { durableSequence } = space.status();
    await until('it goes on', () => space.status().durableSequence > durableSequence + 20);
    // With a thread of its own again.
    expect(threads.size).toBe(1 + deaths);
  }
  const { acked, codes } = await running.stop();
  expect(codes).toEqual([]);
  expect(node.status()).toMatchObject({ failure: undefined, log: { state: 'ok' } });
  const found = await contentOf(space);
  expect(found).toHaveLength(1 + acked.length);
  await node.close();
  node = await openSmall(path.join(folder, 'a'), 'a', LARGE);
  expect(await contentOf(node.space('s'))).toEqual(found);
});

test('FAULT-76 a writer that dies over and over: the log has failed, no promise lies', async () => {
  const space = await node.openSpace('s');
  const fatal: Error[] = [];
  node.on('fatal', ({ error }) => fatal.push(error));
  const running = load(space);
  while (fatal.length === 0) {
    await pause(20);
    await killWriter();
  }
  expect(threads.size).toBeGreaterThanOrEqual(3);
  await expect(space.append(1, Buffer.from('after'))).rejects.toMatchObject({ code: 'WalFailed' });
  const { acked, codes } = await running.stop();
  expect(new Set(codes)).toEqual(new Set(['WalFailed']));
  await node.close();
  node = await openSmall(path.join(folder, 'a'), 'a', LARGE);
  const again = node.space('s');
  const found: string[] = [];
  for await (const { payload } of again.read()) found.push(Buffer.from(payload).toString());
  // Every acknowledged one is there; the others have an open fate.
  expect(found).toEqual(expect.arrayContaining(acked));
  expect(found.length).toBeLessThanOrEqual(acked.length + 4);
  expect(await again.append(1, Buffer.from('again'))).toMatchObject({ sequence: found.length + 1 });
});
