/** SIGKILL in the midst of a snapshot, on either side: real processes, real disks, real sockets. */
import { type ChildProcess, fork } from 'node:child_process';
import path from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { makeFolder, removeFolder } from '../support/cluster.js';

const PROGRAM = path.join(import.meta.dirname, 'snapshot-node.ts');
const WAIT_MS = 40_000;

interface Status {
  digest: string;
  snapshots: number;
  restores: number;
  pulled: number;
  isReached: boolean;
  segments: number;
  first: number;
  durable: number;
  chunks: number;
}

interface Told {
  event: string;
  chunk?: number;
  sequence?: number;
}

let folder: string;
let children: ChildProcess[];

beforeEach(() => {
  folder = makeFolder();
  children = [];
});

afterEach(() => {
  for (const child of children) child.kill('SIGKILL');
  removeFolder(folder);
});

class Process {
  readonly #child: ChildProcess;
  readonly told: Told[] = [];
  readonly #opened: Promise<number>;
  #answers: ((status: Status) => void)[] = [];

  constructor(role: string, argument: string) {
    const args = [role, path.join(folder, role), argument];
    this.#child = fork(PROGRAM, args, { execArgv: ['--import', 'tsx'] });
    children.push(this.#child);
    this.#opened = new Promise((resolve) => {
      this.#child.on('message', (message: { open?: number; status?: Status } & Told) => {
        if (message.open !== undefined) resolve(message.open);
        else if (message.status) this.#answers.shift()?.(message.status);
        else this.told.push(message);
      });
    });
  }

  opened(): Promise<number> {
    return this.#opened;
  }

  /** Does what it is told, in order. */
  order(order: Record<string, unknown> = {}): Promise<Status> {
    return new Promise((resolve) => {
      this.#answers.push(resolve);
      this.#child.send(order);
    });
  }

  async until(what: string, check: (status: Status) => boolean): Promise<Status> {
    const deadline = performance.now() + WAIT_MS;
    for (;;) {
      const status = await this.order();
      if (check(status)) return status;
      if (performance.now() > deadline) {
        throw new Error(`not within ${WAIT_MS} ms: ${what}; ${JSON.stringify(status)}`);
      }
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }

  async kill(): Promise<void> {
    const ended = new Promise((resolve) => this.#child.once('exit', resolve));
    this.#child.kill('SIGKILL');
    await ended;
  }
}

/** The replica has lost its slot, and is back; its snapshot stands still before the n-th piece. */
async function midway(
  hold: number,
): Promise<{ a: Process; b: Process; replicas: string; port: string }> {
  let b = new Process('replica', '0');
  const port = String(await b.opened());
  const replicas = JSON.stringify([{ nodeId: 'replica', host: '127.0.0.1', port: Number(port) }]);
  const a = new Process('primary', replicas);
  await a.opened();
  await a.order({ append: 5 });
  await b.until('it has them', (s) => s.durable === 5);
  await b.kill();
  await a.order({ append: 100 });
  await a.order({ giveUp: true });
  await a.until('segments are freed', (s) => s.segments <= 2);
  await a.order({ hold });
  b = new Process('replica', port);
  await b.opened();
  await a.until('it is in the middle', (s) => s.isReached && s.chunks >= 10);
  return { a, b, replicas, port };
}

async function same(a: Process, b: Process): Promise<Status> {
  const { digest, durable } = await a.order({ append: 3 });
  const status = await b.until('it has all', (s) => s.digest === digest);
  expect(status.durable).toBe(durable);
  return status;
}

test('FAULT-56 SIGKILL of the replica: it goes on at the next chunk, none is twice', async () => {
  const { a, b, port } = await midway(60);
  await b.kill();
  const again = new Process('replica', port);
  await again.opened();
  await a.order({ go: true });
  const status = await same(a, again);
  const [started] = again.told.filter((t) => t.event === 'snapshot-started');
  expect(started!.chunk).toBeGreaterThanOrEqual(10);
  expect(status).toMatchObject({ restores: 1, first: 106 });
  // 105 pieces, each once.
  expect(await a.order()).toMatchObject({ snapshots: 1, pulled: 105 });
});

test('FAULT-56 SIGKILL of the primary: another one, and nothing of the old is used', async () => {
  const { a, b, replicas } = await midway(60);
  await a.kill();
  // What the replica had is what it has.
  expect(await b.order()).toMatchObject({ durable: 5, first: 1, restores: 0 });
  const again = new Process('primary', replicas);
  await again.opened();
  const status = await same(again, b);
  expect(b.told.filter((t) => t.event === 'snapshot-started').map((t) => t.chunk)).toEqual([0, 0]);
  expect(status).toMatchObject({ restores: 1 });
  expect(await again.order()).toMatchObject({ snapshots: 1, pulled: 105 });
});
