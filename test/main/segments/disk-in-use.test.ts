/** A directory fsync that fails while others count on the next one. */
import { expect, test } from 'vitest';
import { DiskInUse } from '#src/main/segments/disk-in-use.js';
import { openFake } from '../../support/fake-cluster.js';
import { FakeDisk } from '../../support/fake-disk.js';

const EIO = { call: 1, errno: 'EIO', only: 'syncdir' } as const;

async function inUse(): Promise<{ disk: FakeDisk; own: DiskInUse }> {
  // Where the fault model leaves a choice, the worse: nothing of a failed one is durable.
  const disk = new FakeDisk(() => 0);
  const own = await DiskInUse.take(disk.mount(), '/data');
  await own.makeDir('/data/quarantine');
  await (await own.open('/data/before', 'create')).close();
  await own.syncDir('/');
  await own.syncDir('/data');
  return { disk, own };
}

test.each([
  ['the directory', '/data', '/data/before', '/data/after'],
  ['a folder in it', '/data/quarantine', '/data/before', '/data/quarantine/after'],
])('FAULT-10 whoever waits for an fsync of %s behind a failed one is told', async (_, ...names) => {
  const [dir, from, to] = names as [string, string, string];
  const { disk, own } = await inUse();
  await own.rename(from, to);
  disk.inject(EIO);
  await expect(own.syncDir(dir)).rejects.toMatchObject({ code: 'Io' });
  await expect(own.syncDir(dir)).rejects.toMatchObject({ code: 'Io' });
  await expect(own.rename(to, from)).rejects.toMatchObject({ code: 'Io' });
  expect(await own.displaced()).toContain('EIO');
});

test('FAULT-10 and so is who waits for one that was under way when the other failed', async () => {
  const { disk, own } = await inUse();
  await own.rename('/data/before', '/data/after');
  disk.inject(EIO);
  const both = await Promise.allSettled([own.syncDir('/data'), own.syncDir('/data')]);
  expect(both.map(({ status }) => status)).toEqual(['rejected', 'rejected']);
});

test('FAULT-15 a directory that could not be opened for it has lost nothing', async () => {
  const { disk, own } = await inUse();
  await own.rename('/data/before', '/data/after');
  disk.inject({ ...EIO, errno: 'EMFILE' });
  await expect(own.syncDir('/data')).rejects.toMatchObject({ code: 'Io' });
  await own.syncDir('/data');
  expect(await own.displaced()).toBeUndefined();
});

test('a directory that is none of the data directory is its own affair', async () => {
  const { disk, own } = await inUse();
  disk.inject(EIO);
  await expect(own.syncDir('/')).rejects.toMatchObject({ code: 'Io' });
  await own.syncDir('/data');
});

test('FAULT-10 the log has failed where the name of a state could not last', async () => {
  const disk = new FakeDisk(() => 0);
  const node = await openFake(disk);
  const fatal = new Promise<Error>((resolve) => node.on('fatal', ({ error }) => resolve(error)));
  const space = await node.openSpace('s');
  await space.append(1, Buffer.from('x'));
  disk.inject({ call: 1, errno: 'EIO', only: 'syncdir' });
  const state = space.checkpoint(1);
  for (let n = 0; n < 12; n++) void space.append(1, Buffer.alloc(1_200)).catch(() => undefined);
  expect((await fatal).message).toContain('syncdir');
  await state.catch(() => undefined);
  await expect(space.append(1, Buffer.from('y'))).rejects.toMatchObject({ code: 'WalFailed' });
  await node.close().catch(() => undefined);
});
