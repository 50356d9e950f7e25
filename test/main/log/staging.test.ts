/** Staging makes no garbage: counted in a process of its own whose heap is not collected. */
import { execFileSync } from 'node:child_process';
import path from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { makeFolder, removeFolder } from '../../support/cluster.js';

const HOST = path.join(import.meta.dirname, '../../support/staging.mjs');
/** So many MiB are young: more than all that a round could make. */
const FLAGS = ['--min-semi-space-size=64', '--max-semi-space-size=64'];
/**
 * The smallest object of ours takes 48. In one process of six V8 inlines a callee less, and a
 * number is boxed for it, in 16.
 */
const MOST_BYTES = 24;

test.each([
  ['of one space', 1, 16],
  ['of one space, longer', 1, 300],
  ['of sixteen spaces in turn', 16, 100],
])('an entry %s takes nothing of the heap', (_, spaces, bytes) => {
  const folder = makeFolder();
  onTestFinished(() => removeFolder(folder));
  const args = [...FLAGS, HOST, path.join(folder, 'a'), `${spaces}`, `${bytes}`];
  const took = JSON.parse(execFileSync(process.execPath, args, { encoding: 'utf8' })) as number[];
  // Compiling goes on now and then, and takes some of the heap: half of the rounds are without.
  expect(took[Math.floor(took.length / 2)]).toBeLessThan(MOST_BYTES);
});
