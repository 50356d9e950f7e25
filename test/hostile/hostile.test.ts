/** A few seconds of `npm run hostile`, with a key and with certificates. */
import { expect, test } from 'vitest';
import { FRAME_KINDS } from '#src/shared/wire/protocol.js';
import { Hostile } from './hostile.js';

/** What a node may take for strangers, beside what it takes for itself. */
const MEMORY_MIB = 200;

test.each([
  'key',
  'tls',
] as const)('whoever attacks a pair (%s) changes nothing of it', async (how) => {
  const done = await new Hostile(1, how).run(20_000, 400, 6, () => undefined, 1);
  expect(done.frames).toBeGreaterThan(1_000);
  expect(done.admitted).toBeGreaterThan(20);
  expect(done.entries).toBeGreaterThan(0);
  expect(done.why).toBeUndefined();
  expect(Object.keys(done.framesByKind).sort()).toEqual(Object.keys(FRAME_KINDS).sort());
  for (const [before, most] of Object.values(done.memoryMiB)) {
    expect(most).toBeLessThan(before + MEMORY_MIB);
  }
}, 120_000);
