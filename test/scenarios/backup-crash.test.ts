/** Power is lost, or a call fails, at each call of a backup: nothing of that name, or a whole. */
import path from 'node:path';
import { expect, test } from 'vitest';
import type { Node } from '#src/main/index.js';
import { contentOf } from '../support/cluster.js';
import { openFake } from '../support/fake-cluster.js';
import { chanceFrom, FakeDisk } from '../support/fake-disk.js';

const IS_FULL = process.env.ENGRAM_TEST_FULL === '1';
const TARGET = '/backups/one';

async function filled(disk: FakeDisk): Promise<Node> {
  const node = await openFake(disk);
  const space = await node.openSpace('s');
  for (let round = 0; round < 6; round++) {
    await space.appendBatch(
      1,
      [900, 0, 1_200].map((size) => Buffer.alloc(size, round)),
    );
  }
  return node;
}

async function callsOfABackup(): Promise<number> {
  const disk = new FakeDisk(chanceFrom(1));
  const node = await filled(disk);
  disk.inject(undefined);
  await node.backup(TARGET);
  const { length } = disk.calls;
  await node.close();
  return length;
}

/** What stands there opens, and has what was appended. @returns whether anything does */
async function isWhole(disk: FakeDisk): Promise<boolean> {
  const names = await disk.mount().list(path.dirname(TARGET));
  if (!names.includes(path.basename(TARGET))) return false;
  const copy = await openFake(disk, { dataDir: TARGET });
  expect(copy.status().holes).toEqual([]);
  expect(await contentOf(copy.space('s'))).toHaveLength(18);
  await copy.close();
  return true;
}

test('what a backup has resolved for outlives a loss of power', async () => {
  for (let seed = 1; seed <= 12; seed++) {
    const disk = new FakeDisk(chanceFrom(seed));
    const node = await filled(disk);
    await node.backup(TARGET);
    disk.crash();
    await node.close().catch(() => undefined);
    expect(await isWhole(disk)).toBe(true);
  }
});

test('a backup that is cut short leaves nothing of its name, a finished one is whole', async () => {
  const calls = await callsOfABackup();
  expect(calls).toBeGreaterThan(30);
  const step = IS_FULL ? 1 : 7;
  let whole = 0;
  for (let n = 1; n <= calls; n += step) {
    const disk = new FakeDisk(chanceFrom(n));
    const node = await filled(disk);
    disk.inject(undefined);
    disk.when(
      () => true,
      n,
      () => disk.crash(),
    );
    await node.backup(TARGET).catch((error) => expect(error).toHaveProperty('code'));
    disk.unwatch();
    disk.crash();
    await node.close().catch(() => undefined);
    if (await isWhole(disk)) whole++;
  }
  // The last calls are behind the name.
  expect(whole).toBeLessThan(calls / step);
  for (let n = 1; n <= calls; n += step) {
    const disk = new FakeDisk(chanceFrom(n));
    const node = await filled(disk);
    disk.inject({ call: n, errno: 'EIO' });
    const isDone = await node.backup(TARGET).then(
      () => true,
      (error) => {
        expect(error).toHaveProperty('code');
        return false;
      },
    );
    disk.inject(undefined);
    await node.close().catch(() => undefined);
    disk.crash();
    if (isDone) expect(await isWhole(disk)).toBe(true);
    else await isWhole(disk);
  }
}, 120_000);
