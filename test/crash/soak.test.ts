/** A short soak; the long one is `npm run soak`, its result is kept. */
import { expect, test } from 'vitest';
import { Soak } from '../campaign/soak.js';

test('a soak: kills, stops and a bad network under 20,000 entries/s lose nothing', async () => {
  const seed = Number(process.env.ENGRAM_TEST_SEED ?? Math.floor(Math.random() * 1_000_000));
  const done = await new Soak(seed, 22_000)
    .run(15, () => undefined)
    .catch((error) => {
      throw new Error(`seed ${seed}: ${String(error)}`, { cause: error });
    });
  expect(done.offeredPerSecond).toBeGreaterThan(20_000);
  expect(done.compared).toBeGreaterThanOrEqual(done.acknowledged);
  expect(Object.values(done.faults).reduce((sum, n) => sum + n, 0)).toBeGreaterThan(4);
  // How flat memory is takes longer to see; what 15 s must never show is a leak of a queue.
  expect(done.memory.mostMiB).toBeLessThan(400);
}, 240_000);
