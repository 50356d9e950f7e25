/** Processes in which nothing but a wait for the log keeps the event loop alive. */
import { spawn } from 'node:child_process';
import path from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { makeFolder, removeFolder } from '../support/cluster.js';

const NODE = path.join(import.meta.dirname, 'consumer-node.mjs');

let folder: string;

beforeEach(() => {
  folder = makeFolder();
});

afterEach(() => removeFolder(folder));

interface Ended {
  readonly code: number | null;
  readonly out: string;
  readonly err: string;
}

function run(what: string): Promise<Ended> {
  const child = spawn(process.execPath, [NODE, path.join(folder, 'a'), what]);
  let out = '';
  let err = '';
  child.stdout.on('data', (part: Buffer) => {
    out += part;
  });
  child.stderr.on('data', (part: Buffer) => {
    err += part;
  });
  return new Promise((resolve) => {
    child.on('close', (code) => resolve({ code, out: out.trim(), err: err.trim() }));
  });
}

test.each([
  ['subscribe', 'late'],
  ['subscribe, called by hand', 'late'],
  ['subscribe, aborted', 'aborted'],
  ['flushed', 'flushed'],
  ['flushed too late', 'AckTimeout'],
  ['append and read', '30000'],
  ['calls of a node', 'done'],
  ['a loop that was left', 'left'],
])('FAULT-97 a process lives while it waits, and ends then: %s', async (what, out) => {
  expect(await run(what)).toEqual({ code: 0, out, err: '' });
});
