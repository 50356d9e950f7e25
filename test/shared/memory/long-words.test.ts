import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import { expect, test } from 'vitest';
import { loadLong, storeLong } from '#src/shared/memory/long-words.js';

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
    longs[1] = BigInt(before);
    storeLong(words, longs, 1, value);
    expect(longs[1]).toBe(BigInt(value));
    expect(loadLong(words, 1)).toBe(value);
  }
  expect([longs[0], longs[2]]).toEqual([0n, 0n]);
});

test('another thread never reads what was not stored', async () => {
  // Both values have halves that fit neither the other one nor what lies between.
  const values = [2 ** 33 + 1, 5 * 2 ** 32 + 0xffff_fff0] as const;
  const buffer = new SharedArrayBuffer(16);
  const [words, longs] = [new Int32Array(buffer), new BigInt64Array(buffer)];
  storeLong(words, longs, 0, values[0]);
  const file = new URL('../../../dist/shared/memory/long-words.js', import.meta.url).href;
  const worker = new Worker(
    `const { workerData: { buffer, values, file } } = require('node:worker_threads');
    import(file).then(({ storeLong }) => {
      const [words, longs] = [new Int32Array(buffer), new BigInt64Array(buffer)];
      for (let n = 0; Atomics.load(words, 2) === 0; n++) storeLong(words, longs, 0, values[n % 2]);
    });`,
    { eval: true, workerData: { buffer, values, file } },
  );
  const found = new Set<number>();
  for (let n = 0; n < 1_000_000 || found.size < 2; n++) {
    found.add(loadLong(words, 0));
    // The other thread may not have begun.
    if (n % 10_000 === 0) await new Promise((resolve) => setImmediate(resolve));
  }
  Atomics.store(words, 2, 1);
  await once(worker, 'exit');
  expect([...found].sort((a, b) => a - b)).toEqual(values);
});
