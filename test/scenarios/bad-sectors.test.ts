/**
 * Sectors that the disk cannot read (EIO): the usual face of rot on a real disk. Damage like any
 * other (FAULTS rows 5-7): named, brought back from a replica, never skipped.
 */
import fs from 'node:fs';
import path from 'node:path';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import type { Node, NodeOptions } from '#src/main/index.js';
import { verifyLog } from '#src/main/repair/verify.js';
import { nodeDisk } from '#src/main/segments/node-disk.js';
import { contentOf, makeFolder, openSmall, removeFolder, until } from '../support/cluster.js';

const PAGE = 4096;
const FIRST = 'wal-0000000000000000.log';

let folder: string;
let nodes: Node[];
/** The file and the page of it that cannot be read. */
let bad: { inode: number; from: number } | undefined;

beforeEach(() => {
  folder = makeFolder();
  nodes = [];
  bad = undefined;
  const real = fs.read;
  const read = (...args: Parameters<typeof real>): void => {
    const [fd, , , length, position, done] = args as unknown as [
      number,
      Uint8Array,
      number,
      number,
      number,
      (error: Error | null, bytes: number) => void,
    ];
    const isHit = bad && position < bad.from + PAGE && position + length > bad.from;
    if (!isHit || fs.fstatSync(fd).ino !== bad!.inode) {
      real(...args);
      return;
    }
    const error = Object.assign(new Error('EIO: i/o error, read'), { code: 'EIO' });
    setImmediate(() => done(error, 0));
  };
  vi.spyOn(fs, 'read').mockImplementation(read as typeof real);
});

afterEach(async () => {
  for (const node of nodes) await node.close();
  vi.restoreAllMocks();
  removeFolder(folder);
});

async function start(id: string, more: Partial<NodeOptions>): Promise<Node> {
  const node = await openSmall(path.join(folder, id), id, more);
  nodes.push(node);
  return node;
}

function spoil(id: string, name: string, from: number): void {
  bad = { inode: fs.statSync(path.join(folder, id, name)).ino, from };
}

/** Entries over three segments. */
async function fill(node: Node): Promise<void> {
  const space = await node.openSpace('s');
  for (let i = 0; node.status().segments <= 3; i++) {
    await space.appendBatch(
      1,
      Array.from({ length: 8 }, () => Buffer.alloc(900, i)),
    );
  }
}

test('FAULT-5 a sector that cannot be read comes back from a replica', async () => {
  const listen = { host: '127.0.0.1', port: 0 };
  const b = await start('b', { listen, lead: false });
  const a = await start('a', { replicas: [{ nodeId: 'b', ...b.address! }] });
  await fill(a);
  const space = a.space('s');
  await space.flushed(space.status().lastSequence, { replicas: 1, timeoutMs: 20_000 });
  const before = await contentOf(space);
  spoil('a', FIRST, 8 * PAGE);
  const damaged = vi.fn();
  a.on('damaged', damaged);
  await expect(contentOf(space)).rejects.toMatchObject({ code: 'Repairing' });
  expect(damaged).toHaveBeenCalledOnce();
  await until('it is whole', () => a.status().holes.length === 0);
  expect(await contentOf(space)).toEqual(before);
});

test('FAULT-6 without a replica: named, and all around it is read, before and after', async () => {
  const a = await start('a', {});
  await fill(a);
  const space = a.space('s');
  const before = await contentOf(space);
  spoil('a', FIRST, 8 * PAGE);
  const error = await contentOf(space).catch((e) => e);
  expect(error).toMatchObject({ code: 'CorruptionDetected' });
  const { from, to } = error.details;
  expect(to - from).toBeLessThan(PAGE / 900 + 1);
  const rest: string[] = [];
  for await (const entry of space.read({ from: to + 1 })) rest.push(`${entry.sequence}`);
  expect(rest).toHaveLength(before.length - to);
  await nodes.pop()!.close();
  const report = await verifyLog(nodeDisk, path.join(folder, 'a'));
  expect(report.rot).toBeGreaterThan(0);
});

test('FAULT-19 a state that cannot be read: the other generation counts', async () => {
  const a = await start('a', {});
  await fill(a);
  const before = await contentOf(a.space('s'));
  await nodes.pop()!.close();
  for (const name of ['state-0', 'state-1']) {
    spoil('a', name, 0);
    const again = await start('a', {});
    expect(await contentOf(again.space('s'))).toEqual(before);
    await nodes.pop()!.close();
  }
});

test('a last segment that cannot be read is not cut: opening says so', async () => {
  const a = await start('a', {});
  await fill(a);
  const before = await contentOf(a.space('s'));
  const { durableLsn } = a.status();
  await nodes.pop()!.close();
  const logs = fs.readdirSync(path.join(folder, 'a')).filter((name) => name.endsWith('.log'));
  const lsnOf = (name: string): number => Number.parseInt(name.slice(4, 20), 16);
  const last = logs
    .filter((name) => lsnOf(name) < durableLsn)
    .sort()
    .at(-1)!;
  // Where the log ends: what stands there decides whether it is cut.
  const end = durableLsn - lsnOf(last);
  spoil('a', last, end - (end % PAGE));
  const opening = start('a', {});
  await expect(opening).rejects.toMatchObject({ code: 'Io' });
  bad = undefined;
  expect(await contentOf((await start('a', {})).space('s'))).toEqual(before);
});
