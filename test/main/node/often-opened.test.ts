/** A host that opens and closes nodes again and again keeps nothing of those that have closed. */
import { execFile } from 'node:child_process';
import path from 'node:path';
import { promisify } from 'node:util';
import { expect, test } from 'vitest';

// In a process of its own: what a test's runner holds on to is its own affair.
const HOST = path.join(import.meta.dirname, '../../support/often-opened.mjs');

test.each([
  ['away', ['AckTimeout', 'Closed']],
  ['alone', ['no error']],
  ['pair', []],
])('three times %s: nothing is left in memory', async (name, each) => {
  const { stdout } = await promisify(execFile)(process.execPath, [HOST, name]);
  const said = [1, 2, 3].flatMap(() => each);
  expect(JSON.parse(stdout)).toEqual({ said, kept: 0 });
});
