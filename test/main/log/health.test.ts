/** A slow disk is told from a host that has kept the event loop to itself. */
import fs from 'node:fs/promises';
import { expect, test } from 'vitest';
import { LogHealth, type LogStatus } from '#src/main/log/health.js';
import { SLOW_DISK_MS } from '#src/shared/limits.js';

test('a call that was over while the host blocked the event loop was not slow', async () => {
  const told: LogStatus[] = [];
  const health = new LogHealth((status) => told.push(status));
  const done = health.timed(fs.stat('.').then(() => undefined));
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1.5 * SLOW_DISK_MS);
  await done;
  expect(told).toEqual([]);
  let answer = (): void => undefined;
  const slow = health.timed(new Promise((resolve) => (answer = resolve)));
  await expect.poll(() => told.length, { timeout: 20_000 }).toBe(1);
  answer();
  await slow;
  expect(told.map(({ state }) => state)).toEqual(['slow-disk', 'ok']);
  await health.close();
});
