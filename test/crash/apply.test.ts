import { type ChildProcess, fork } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import type { Node } from '#src/main/index.js';
import { makeFolder, openSmall, removeFolder, until } from '../support/cluster.js';

const PROGRAM = path.join(import.meta.dirname, 'apply-node.mjs');
const KILLS = 8;

let folder: string;
let child: ChildProcess | undefined;
let primary: Node | undefined;

beforeEach(() => {
  folder = makeFolder();
});

afterEach(async () => {
  child?.kill('SIGKILL');
  await primary?.close();
  removeFolder(folder);
});

/** What the host told last, and how often it told anything. */
const told = { applied: 0, times: 0 };

async function start(file: string, port: number): Promise<number> {
  const started = fork(PROGRAM, [path.join(folder, 'b'), file, String(port)]);
  child = started;
  return await new Promise((resolve, reject) => {
    started.on('message', (m: { port?: number; applied?: number }) => {
      if (m.port !== undefined) resolve(m.port);
      if (m.applied !== undefined) {
        told.applied = m.applied;
        told.times++;
      }
    });
    started.once('exit', (code, signal) => reject(new Error(`died: ${signal ?? code}`)));
  });
}

test('FAULT-51 SIGKILL while the host applies: from its commit on, each entry once', async () => {
  const file = path.join(folder, 'host.json');
  const committed = () =>
    JSON.parse(fs.readFileSync(file, 'utf8')) as { applied: number; texts: string[] };
  const port = await start(file, 0);
  const replicas = [{ nodeId: 'b', host: '127.0.0.1', port }];
  primary = await openSmall(path.join(folder, 'a'), 'a', { replicas });
  const space = await primary.openSpace('s');
  let last = 0;
  for (let kill = 0; kill < KILLS; kill++) {
    const before = told.times;
    for (let n = 0; n < 10; n++) {
      const payloads = Array.from({ length: 5 }, () => Buffer.from(`text ${++last}`));
      await space.appendBatch(1, payloads);
      await space.flushed(last, { replicas: 1, timeoutMs: 20_000 });
    }
    // It is applying now; what is flushed and not applied must come again, and only that.
    await until('it applies', () => told.times > before);
    const dying = child!;
    const gone = new Promise((resolve) => dying.once('exit', resolve));
    dying.kill('SIGKILL');
    await gone;
    expect(committed().applied).toBeGreaterThanOrEqual(told.applied);
    await start(file, port);
  }
  // What it had committed when it was killed, and not told, it never tells.
  await until('all is applied', () => committed().applied === last);
  expect(committed().texts).toEqual(
    Array.from({ length: last }, (_, i) => `${i + 1} text ${i + 1}`),
  );
  // And the primary knows it.
  await until('it is told', () => space.status().replicas[0]!.appliedSequence >= last);
});
