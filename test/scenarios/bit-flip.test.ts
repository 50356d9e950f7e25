/** A sample of the bit-flip run; the whole run is `npm run bit-flip`, its result is kept. */
import { expect, test } from 'vitest';
import { flipBits } from '../campaign/bit-flip.js';

const SEED = Number(process.env.ENGRAM_TEST_SEED ?? Math.floor(Math.random() * 2 ** 31));

test(`every flipped bit is detected or harmless, a sample from bit ${SEED % 149} on`, async () => {
  const flips = await flipBits(149, SEED);
  expect(flips.wrong).toEqual([]);
  expect(flips.bits).toBeGreaterThan(500);
  // Stamps of entries that nobody needs to trust are the only bits that may be wrong in peace.
  expect(flips.detected).toBeGreaterThan(0.9 * flips.bits);
});
