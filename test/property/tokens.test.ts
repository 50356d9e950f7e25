import { test } from 'vitest';
import { tokensHold } from './tokens.js';

const SEED = Number(process.env.ENGRAM_TEST_SEED ?? Math.floor(Math.random() * 2 ** 31));

test(`three nodes do what a model of a few lines means, seed ${SEED}`, async () => {
  await tokensHold(3, SEED);
});
