import { type ChildProcess, fork } from 'node:child_process';
import { createHash } from 'node:crypto';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { contentOf, makeFolder, openSmall, removeFolder, until } from '../support/cluster.js';

/** A few of each: `npm run campaign` and `npm run soak` do the many, campaign.test.ts twenty. */
const KILLS = 4;
const SPACES = 3;
const PROGRAM = path.join(import.meta.dirname, 'crash-node.mjs');

type Acked = [space: string, sequence: number, hash: string];
type Message = { kind: 'open'; port?: number } | { kind: 'acked'; acked: Acked[] };

let folder: string;
let children: ChildProcess[];
/** What the parent was told: by space and sequence, the hash of the payload. */
let acked: Map<string, Map<number, string>>;
/** Sequences that were told with two payloads. */
let told: number;

beforeEach(() => {
  folder = makeFolder();
  children = [];
  acked = new Map();
  told = 0;
});

afterEach(async () => {
  for (const child of children) if (child.exitCode === null) child.kill('SIGKILL');
  removeFolder(folder);
});

function start(...args: string[]): { child: ChildProcess; open: Promise<number> } {
  const child = fork(PROGRAM, args);
  children.push(child);
  const open = new Promise<number>((resolve, reject) => {
    child.on('message', (message: Message) => {
      if (message.kind === 'open') resolve(message.port ?? 0);
      else for (const row of message.acked) note(row);
    });
    child.once('exit', (code, signal) => reject(new Error(`died: ${signal ?? code}`)));
  });
  open.catch(() => undefined);
  return { child, open };
}

function note([space, sequence, hash]: Acked): void {
  told++;
  let entries = acked.get(space);
  if (!entries) {
    entries = new Map();
    acked.set(space, entries);
  }
  const before = entries.get(sequence);
  if (before !== undefined && before !== hash) throw new Error(`${space} ${sequence} twice`);
  entries.set(sequence, hash);
}

function ended(child: ChildProcess): Promise<void> {
  return new Promise((resolve) => {
    if (child.exitCode !== null || child.signalCode !== null) resolve();
    else child.once('exit', () => resolve());
  });
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

async function kill(child: ChildProcess): Promise<void> {
  child.kill('SIGKILL');
  await ended(child);
  // What it had put into the pipe before it died is still to be read.
  await pause(20);
}

/** Every acknowledged entry is there with its payload, and no sequence is missing. */
async function checkLog(dataDir: string): Promise<void> {
  const node = await openSmall(dataDir, 'primary', { replicas: [] });
  try {
    for (const [name, entries] of acked) {
      let last = 0;
      const wanted = new Map(entries);
      for await (const entry of node.space(name).read()) {
        expect(entry.sequence, `a gap in ${name}`).toBe(++last);
        const hash = wanted.get(entry.sequence);
        if (hash === undefined) continue;
        expect(createHash('sha256').update(entry.payload).digest('base64')).toBe(hash);
        wanted.delete(entry.sequence);
      }
      expect([...wanted.keys()], `acknowledged and not in ${name}`).toEqual([]);
    }
  } finally {
    await node.close();
  }
}

describe('SIGKILL', () => {
  test(`a primary, ${KILLS} times under load: every acknowledged entry stays, no gap`, async () => {
    const dataDir = path.join(folder, 'primary');
    for (let round = 0; round < KILLS; round++) {
      const before = told;
      const { child, open } = start('primary', dataDir, '[]', String(SPACES));
      await open;
      await until(`acks in round ${round}`, () => told > before);
      await pause(Math.random() * 150);
      await kill(child);
      await checkLog(dataDir);
    }
    expect(told).toBeGreaterThan(50 * KILLS);
  }, 180_000);

  test(`a replica, ${KILLS} times under load: it catches up to identical`, async () => {
    const replicaDir = path.join(folder, 'replica');
    const primaryDir = path.join(folder, 'primary');
    let replica = start('replica', replicaDir, '0');
    const port = await replica.open;
    const members = JSON.stringify([{ nodeId: 'replica', host: '127.0.0.1', port }]);
    const primary = start('primary', primaryDir, members, String(SPACES));
    await primary.open;
    for (let round = 0; round < KILLS; round++) {
      await pause(30 + Math.random() * 150);
      await kill(replica.child);
      await pause(Math.random() * 60);
      replica = start('replica', replicaDir, String(port));
      await replica.open;
    }
    primary.child.send('end');
    await ended(primary.child);
    expect(primary.child.exitCode).toBe(0);
    replica.child.send('end');
    await ended(replica.child);
    const a = await openSmall(primaryDir, 'primary', { replicas: [] });
    const b = await openSmall(replicaDir, 'replica');
    try {
      for (let i = 0; i < SPACES; i++) {
        const content = await contentOf(a.space(`space-${i}`));
        expect(content.length).toBeGreaterThan(100);
        expect(await contentOf(b.space(`space-${i}`))).toEqual(content);
      }
    } finally {
      await a.close();
      await b.close();
    }
    await checkLog(primaryDir);
  }, 180_000);

  test('SIGSTOP of one replica: appends go on, memory stays in budget, it catches up', async () => {
    const replicaDir = path.join(folder, 'replica');
    const stopped = start('replica', replicaDir, '0');
    const port = await stopped.open;
    const other = await openSmall(path.join(folder, 'other'), 'other', {
      listen: { host: '127.0.0.1', port: 0 },
    });
    const node = await openSmall(path.join(folder, 'primary'), 'primary', {
      windowBytes: 1024 * 1024,
      replicas: [
        { nodeId: 'replica', host: '127.0.0.1', port },
        { nodeId: 'other', ...other.address! },
      ],
    });
    try {
      const space = await node.openSpace('s');
      const payload = Buffer.alloc(1_000, 7);
      const append = async (entries: number): Promise<number> => {
        const batch = Array.from({ length: 100 }, () => payload);
        for (let i = 0; i < entries; i += 100) await space.appendBatch(1, batch);
        return space.status().durableSequence;
      };
      const first = await append(1_000);
      await space.flushed(first, { replicas: 2, timeoutMs: 20_000 });
      stopped.child.kill('SIGSTOP');
      const rssBefore = process.memoryUsage.rss();
      const last = await append(30_000);
      expect(last).toBe(31_000);
      await space.flushed(last, { replicas: 1, timeoutMs: 20_000 });
      const status = space.status().replicas.find((r) => r.replicaId === 'replica')!;
      expect(status.ackedSequence).toBeLessThan(last);
      expect(status.lagMs).toBeGreaterThan(0);
      // 30 MB were appended against a budget of 1 MiB; a queue in memory would show.
      const { memory } = node.status();
      expect(memory.bytes).toBeLessThanOrEqual(1024 * 1024);
      expect(memory.inUse).toBeLessThan(memory.slabs);
      expect(process.memoryUsage.rss() - rssBefore).toBeLessThan(100 * 1024 * 1024);
      stopped.child.kill('SIGCONT');
      await until(
        'the replica has caught up',
        () => space.status().replicas.every((r) => r.ackedSequence === last),
        50_000,
      );
      const content = await contentOf(space);
      stopped.child.send('end');
      await ended(stopped.child);
      const replica = await openSmall(replicaDir, 'replica');
      expect(await contentOf(replica.space('s'))).toEqual(content);
      await replica.close();
    } finally {
      stopped.child.kill('SIGCONT');
      await node.close();
      await other.close();
    }
  }, 120_000);
});
