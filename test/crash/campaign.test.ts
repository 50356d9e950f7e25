/** A short crash campaign; the long one is `npm run campaign`, its result is kept. */
import { expect, test } from 'vitest';
import { campaign } from '../campaign/campaign.js';

test('FAULT-16 SIGKILL under append, roll, recycling and checkpoint', async () => {
  const seed = Number(process.env.ENGRAM_TEST_SEED ?? Math.floor(Math.random() * 1_000_000));
  const done = await campaign(20, seed).catch((error) => {
    throw new Error(`seed ${seed}: ${String(error)}`, { cause: error });
  });
  expect(done.kills).toBe(20);
  expect(done.acknowledged).toBeGreaterThan(1_000);
  expect(done.recycled).toBeGreaterThan(0);
}, 120_000);
