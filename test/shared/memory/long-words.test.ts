import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import { expect, test } from 'vitest';
import { loadLong, ownLong, putLong, storeLong } from '#src/shared/memory/long-words.js';

test.each([
  0,
  1,
  2 ** 31,
  2 ** 32 - 1,
  2 ** 32,
  2 ** 40 + 5,
  Number.MAX_SAFE_INTEGER,
])('%i comes back, whatever stood there before', (value) => {
  const buffer = new SharedArrayBuffer(24);
  const [words, longs] = [new Int32Array(buffer), new BigInt64Array(buffer)];
  for (const before of [0, 7, 2 ** 32, 2 ** 45 + 9]) {
    for (const store of [storeLong, putLong]) {
      longs[1] = BigInt(before);
      store(words, longs, 1, value);
      expect(longs[1]).toBe(BigInt(value));
      expect([loadLong(words, longs, 1), ownLong(words, 1)]).toEqual([value, value]);
    }
  }
  expect([longs[0], longs[2]]).toEqual([0n, 0n]);
});

// What is stored grows, over a multiple of 2^32 and on: read in halves it would go back again.
test.each([
  ['by one', 2 ** 32 - 20_000, 1, 'storeLong'],
  ['by halves', 2 ** 32 - 1, 2 ** 31 + 1, 'storeLong'],
  ['by one', 2 ** 32 - 20_000, 1, 'putLong'],
  ['by halves', 2 ** 32 - 1, 2 ** 31 + 1, 'putLong'],
])('another thread reads only what was stored: %s from %i, %i, %s', async (_, first, step, by) => {
  const file = new URL('../../../dist/shared/memory/long-words.js', import.meta.url).href;
  const buffer = new SharedArrayBuffer(24);
  const [words, longs] = [new Int32Array(buffer), new BigInt64Array(buffer)];
  const last = first + 40_000 * step;
  const worker = new Worker(
    `const { workerData: { buffer, first, last, step, file } } = require('node:worker_threads');
    import(file).then(({ ${by}: store, storeLong: reset }) => {
      const [words, longs] = [new Int32Array(buffer), new BigInt64Array(buffer)];
      for (let round = 1; round <= 100; round++) {
        Atomics.store(words, 2, round);
        Atomics.notify(words, 2);
        for (let value = first; value <= last; value += step) store(words, longs, 0, value);
        Atomics.wait(words, 4, round - 1);
        reset(words, longs, 0, 0);
      }
    });`,
    { eval: true, workerData: { buffer, first, last, step, file } },
  );
  const found = new Set<number>();
  for (let round = 1; round <= 100; round++) {
    while (Atomics.load(words, 2) !== round) await new Promise((resolve) => setImmediate(resolve));
    for (let before = 0; before < last; ) {
      const value = loadLong(words, longs, 0);
      // Of the round before, or of this one.
      if (value < before || (value > 0 && (value - first) % step !== 0)) {
        throw new Error(`${value} behind ${before}`);
      }
      found.add(value);
      before = value;
    }
    Atomics.store(words, 4, round);
    Atomics.notify(words, 4);
  }
  await once(worker, 'exit');
  expect(found).toContain(last);
});
