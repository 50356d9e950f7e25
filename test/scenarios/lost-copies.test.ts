/**
 * What is kept beside the log, behind a directory fsync that has failed: the copy that the next try
 * makes counts, and so its names outlive a loss of power (P8; FAULTS rows 64, 102).
 */
import { expect, test } from 'vitest';
import type { SpaceState } from '#src/main/log/space-table.js';
import type { LogReader } from '#src/main/read/reader.js';
import type { Disk } from '#src/main/segments/disk.js';
import { makeDirDurably } from '#src/main/segments/disk.js';
import { clearFolders } from '#src/main/segments/folders.js';
import { keepCopy } from '#src/main/segments/log-end.js';
import { keepSuffix, listQuarantine, readQuarantine } from '#src/main/snapshot/quarantine.js';
import { Spool } from '#src/main/snapshot/spool.js';
import { newSpaceFacts } from '#src/shared/log/space-facts.js';
import type { NodeMemory } from '#src/shared/memory/slab.js';
import { openFake } from '../support/fake-cluster.js';
import { FakeDisk } from '../support/fake-disk.js';

const ID = 'ab'.repeat(16);

function spaceOf(): SpaceState {
  const facts = newSpaceFacts(ID, 's');
  facts.position = { epoch: 1, sequence: 2, headerCrc: 7 };
  return { facts, slot: 1 } as unknown as SpaceState;
}

const entry = { sequence: 2, epoch: 1, type: 1, timestamp: 1n, payload: Buffer.from('kept') };
const reader = {
  read: async function* () {
    yield [entry];
  },
} as unknown as LogReader;
const memory = { spaceId: () => [1, 2, 3, 4] } as unknown as NodeMemory;

/** What is kept, and what of it must be there in the end. */
const KEPT: readonly [string, (disk: Disk) => Promise<unknown>, (disk: Disk) => Promise<void>][] = [
  [
    'entries that are taken back',
    (disk) => keepSuffix(disk, '/data', memory, reader, spaceOf(), 2),
    async (disk) => {
      const { rewinds } = await listQuarantine(disk, '/data');
      expect(rewinds).toHaveLength(1);
      const found = [];
      for await (const e of readQuarantine(disk, '/data', rewinds[0]!.file)) found.push(e.sequence);
      expect(found).toEqual([2]);
    },
  ],
  [
    'bytes from behind a torn tail',
    async (disk) => {
      const file = await disk.open('/data/wal', 'read');
      await keepCopy(disk, '/data', file, { start: 0, size: 64 }, 0, 64).finally(() =>
        file.close(),
      );
    },
    async (disk) => {
      const { others } = await listQuarantine(disk, '/data');
      expect(others).toContainEqual(expect.objectContaining({ bytes: 64 }));
    },
  ],
  [
    'a snapshot that is being received',
    async (disk) => {
      const position = { epoch: 1, sequence: 2, headerCrc: 7 };
      const facts = { id: 'x', position, timestamp: 0n, history: [], sets: [] };
      const spool = await Spool.create(disk, '/data', ID, facts as never);
      await spool.sync();
      await spool.close();
    },
    async (disk) => {
      const spool = await Spool.open(disk, '/data', ID);
      expect(spool).toBeDefined();
      await spool!.close();
    },
  ],
];

test.each(
  KEPT,
)('%s: each directory fsync fails in turn, in a life or as it ends', async (...kept) => {
  const [, keep, check] = kept;
  for (let call = 1; ; call++) {
    // Where the fault model leaves a choice, the worse: nothing of a failed one is durable.
    const disk = new FakeDisk(() => 0);
    disk.put('/data/node.json', Buffer.from('{}'));
    disk.put('/data/wal', Buffer.alloc(64, 1));
    disk.inject({ call, errno: 'EIO', only: 'syncdir' });
    const hasFailed = await keep(disk.mount()).then(
      () => false,
      () => true,
    );
    if (!hasFailed) {
      expect(call).toBeGreaterThan(2);
      return;
    }
    disk.kill();
    // The next life.
    await clearFolders(disk.mount(), '/data');
    await keep(disk.mount());
    disk.crash(() => 0);
    await check(disk.mount()).catch((error) => {
      throw new Error(`the directory fsync ${call}: ${error.message}`);
    });
  }
});

test('node.json: one that the cache alone has lasts before anything is acknowledged', async () => {
  for (let call = 1; ; call++) {
    const disk = new FakeDisk(() => 0);
    disk.inject({ call, errno: 'EIO', only: 'syncdir' });
    const first = await openFake(disk).catch(() => undefined);
    await first?.close();
    if (first) {
      expect(call).toBeGreaterThan(5);
      return;
    }
    disk.kill();
    disk.inject(undefined);
    const second = await openFake(disk);
    const { directoryId } = second.status();
    await (await second.openSpace('s')).append(1, Buffer.from('x'));
    disk.crash(() => 0);
    await second.close().catch(() => undefined);
    const third = await openFake(disk).catch((error) => {
      throw new Error(`the directory fsync ${call}: ${error.message}`);
    });
    expect(third.status().directoryId).toBe(directoryId);
    expect(third.space('s').status().lastSequence).toBe(1);
    await third.close();
  }
});

test('a node.json that has its place in the cache alone is durable as well', async () => {
  const disk = new FakeDisk(() => 0);
  await (await openFake(disk)).close();
  // As maxEntryBytes is noted, or an id renewed: node.json is written anew, and the fsync fails.
  disk.inject({ call: 2, errno: 'EIO', only: 'syncdir' });
  await expect(openFake(disk, { maxEntryBytes: 1_024 })).rejects.toThrow('EIO');
  disk.kill();
  disk.inject(undefined);
  const node = await openFake(disk, { maxEntryBytes: 1_024 });
  const before = await disk.mount().open('/data/node.json', 'read');
  const bytes = new Uint8Array(await before.size());
  await before.read(bytes, 0);
  await before.close();
  disk.crash(() => 0);
  await node.close().catch(() => undefined);
  const after = await disk.mount().open('/data/node.json', 'read');
  const again = new Uint8Array(await after.size());
  await after.read(again, 0);
  expect(Buffer.from(again).toString()).toBe(Buffer.from(bytes).toString());
  await after.close();
});

test('FAULT-102 a directory of a process that died before its name was durable', async () => {
  const disk = new FakeDisk(() => 0);
  disk.inject({ call: 1, errno: 'EIO', only: 'syncdir' });
  disk.when(
    (call) => call.startsWith('rmdir'),
    1,
    () => disk.kill(),
  );
  await openFake(disk).catch(() => undefined);
  disk.inject(undefined);
  disk.brokeAt = undefined;
  expect(disk.list('/')).toEqual(['data']);
  const node = await openFake(disk);
  await (await node.openSpace('s')).append(1, Buffer.from('x'));
  disk.crash(() => 0);
  await node.close().catch(() => undefined);
  expect(disk.list('/')).toEqual(['data']);
  const again = await openFake(disk);
  expect(again.space('s').status().durableSequence).toBe(1);
  await again.close();
});

test('what is left of a copy that was cut short goes, at once or at the next opening', async () => {
  const disk = new FakeDisk(() => 0);
  await (await openFake(disk)).close();
  const keep = () => keepSuffix(disk.mount(), '/data', memory, reader, spaceOf(), 2);
  const isBegun = (call: string): boolean => call.startsWith('write rewind-');
  disk.inject({ call: 1, errno: 'ENOSPC', only: 'write rewind-' });
  await expect(keep()).rejects.toMatchObject({ code: 'DiskFull' });
  expect(disk.list('/data/quarantine')).toEqual([]);
  disk.inject(undefined);
  disk.when(isBegun, 1, () => disk.kill());
  await expect(keep()).rejects.toMatchObject({ code: 'Io' });
  expect(disk.list('/data/quarantine')).toHaveLength(1);
  // Somebody else's stays.
  disk.put('/data/quarantine/notes.tmp', Buffer.from('x'));
  await (await openFake(disk)).close();
  expect(disk.list('/data/quarantine')).toEqual(['notes.tmp']);
});

test('a backup whose name could not be made durable does not stand there like one', async () => {
  const disk = new FakeDisk(() => 0);
  const node = await openFake(disk);
  await (await node.openSpace('s')).append(1, Buffer.from('x'));
  await makeDirDurably(disk.mount(), '/backups');
  disk.inject(undefined);
  await node.backup('/backups/whole');
  const last = disk.calls.filter((call) => call === 'syncdir backups').length;
  disk.inject({ call: last, errno: 'EIO', only: 'syncdir backups' });
  await expect(node.backup('/backups/one')).rejects.toMatchObject({ code: 'Io' });
  expect(disk.list('/backups')).toEqual(['whole']);
  await node.close();
});
