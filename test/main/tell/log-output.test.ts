/** The log's own output is full, or read by nobody (row 95). */
import { type ChildProcess, execFileSync, fork, spawn } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { afterEach, expect, test } from 'vitest';
import { EachTest, openSmall, until } from '../../support/cluster.js';
import { freePort } from '../../support/etcd.js';

const CLI = path.join(import.meta.dirname, '../../../dist/main/cli.js');
const LINES = path.join(import.meta.dirname, '../../support/log-lines.mjs');
const each = new EachTest();
const children: ChildProcess[] = [];

afterEach(() => {
  for (const child of children.splice(0)) child.kill('SIGKILL');
});

/** A pipe that is full, whose reader reads nothing. @returns where a child is to write */
function fullPipe(): number {
  const fifo = path.join(each.folder, 'fifo');
  execFileSync('mkfifo', [fifo]);
  const { O_RDWR, O_NONBLOCK, O_WRONLY } = fs.constants;
  const held = fs.openSync(fifo, O_RDWR | O_NONBLOCK);
  try {
    for (;;) fs.writeSync(held, Buffer.alloc(4_096));
  } catch (error) {
    expect(error).toMatchObject({ code: 'EAGAIN' });
  }
  const given = fs.openSync(fifo, O_WRONLY);
  each.finally(() => {
    fs.closeSync(held);
    fs.closeSync(given);
  });
  return given;
}

/** Serves with this output; resolves when it answers. */
async function serve(output: number) {
  const port = await freePort();
  const config = {
    ...{ dataDir: 'data', nodeId: 'a', clusterId: 'c', http: { port } },
    ...{ spaces: ['s'], logLevel: 'debug' },
  };
  const file = path.join(each.folder, 'wal.json');
  fs.writeFileSync(file, JSON.stringify(config));
  const stdio = ['ignore', output, output] as const;
  const child = spawn(process.execPath, [CLI, 'serve', '--config', file], { stdio: [...stdio] });
  children.push(child);
  const ended = new Promise<number | string>((resolve) => {
    child.on('exit', (code, signal) => resolve(code ?? signal ?? 'nothing'));
  });
  const url = `http://127.0.0.1:${port}`;
  let isUp = false;
  const asking = setInterval(() => {
    fetch(`${url}/live`).then(
      ({ status }) => (isUp ||= status === 200),
      () => undefined,
    );
  }, 50);
  each.finally(() => clearInterval(asking));
  await until('it answers', () => isUp);
  clearInterval(asking);
  return { url, child, ended };
}

async function droppedLines(url: string): Promise<number> {
  const text = await (await fetch(`${url}/metrics`)).text();
  return Number(/^engram_node_log_lines_dropped_total (\d+)$/m.exec(text)?.[1]);
}

async function within<T>(work: Promise<T>, ms: number): Promise<T | 'late'> {
  const late = new Promise<'late'>((resolve) => setTimeout(() => resolve('late'), ms));
  return await Promise.race([work, late]);
}

test('FAULT-95 a full pipe that nobody reads: it starts, works and ends', async () => {
  const { url, child, ended } = await serve(fullPipe());
  expect(await droppedLines(url)).toBe(0);
  child.kill('SIGTERM');
  expect(await within(ended, 20_000)).toBe(0);
});

test('FAULT-95 a full disk: lines are dropped, and a metric counts them', async () => {
  const full = fs.openSync('/dev/full', 'w');
  each.finally(() => fs.closeSync(full));
  const { url, child, ended } = await serve(full);
  while ((await droppedLines(url)) === 0) await new Promise((r) => setTimeout(r, 20));
  child.kill('SIGTERM');
  expect(await within(ended, 20_000)).toBe(0);
});

test('FAULT-95 a second signal ends it although nobody reads', async () => {
  const { child, ended } = await serve(fullPipe());
  child.kill('SIGTERM');
  child.kill('SIGTERM');
  expect([0, 143]).toContain(await within(ended, 20_000));
});

test('FAULT-95 what waits is bounded, and the gap is told where it is', async () => {
  const child = fork(LINES, { stdio: ['ignore', 'pipe', 'inherit', 'ipc'] });
  children.push(child);
  const told: { dropped: number }[] = [];
  child.on('message', (message) => void told.push(message as { dropped: number }));
  await until('it has written', () => told.length === 1);
  // 4 MB of lines: a megabyte waits, and what the pipe itself holds.
  expect(told[0]!.dropped).toBeGreaterThan(2_000);
  let text = '';
  child.stdout!.on('data', (chunk) => (text += chunk));
  child.send('go on');
  await until('it has ended', () => told.length === 2 && child.exitCode !== null);
  expect(told[1]!.dropped).toBe(told[0]!.dropped);
  const lines = text
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line));
  const [gap, last] = lines.slice(-2);
  expect(gap).toMatchObject({ event: 'lines-dropped', count: told[0]!.dropped });
  expect(last).toEqual({ msg: 'the last' });
  expect(lines.length).toBe(4_000 - told[0]!.dropped + 2);
});

test('FAULT-95 a host’s logger that throws, or counts what it drops, is counted', async () => {
  const log = () => {
    throw new Error('no room');
  };
  const logger = { debug: log, info: log, warn: log, error: log, dropped: 5 };
  const node = await openSmall(path.join(each.folder, 'a'), 'a', { logger });
  each.finally(() => node.close());
  await node.openSpace('s');
  const { body } = await node.metrics();
  const count = Number(/^engram_node_log_lines_dropped_total (\d+)$/m.exec(body)?.[1]);
  expect(count).toBeGreaterThan(5);
});
