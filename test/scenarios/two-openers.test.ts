/**
 * An empty data directory takes its name anew: two that open it at once, and one that is killed in
 * the middle of that. Nothing of anybody else's goes, and one of them opens it (rows 25, 102).
 */
import fs from 'node:fs';
import path from 'node:path';
import { expect, test } from 'vitest';
import type { Node } from '#src/main/index.js';
import { openNodeOn } from '#src/main/node/open-node.js';
import { type Disk, ioError } from '#src/main/segments/disk.js';
import { nodeDisk } from '#src/main/segments/node-disk.js';
import { EachTest, SMALL } from '../support/cluster.js';
import { openFake } from '../support/fake-cluster.js';
import { FakeDisk } from '../support/fake-disk.js';

const each = new EachTest();

function openOn(dataDir: string, disk: Disk = nodeDisk): Promise<Node> {
  return openNodeOn(disk, { ...SMALL, dataDir, nodeId: 'a', lead: true });
}

/** An empty directory, as somebody has made it. */
function emptyDirectory(name = 'data'): string {
  const dir = path.join(each.folder, name);
  fs.mkdirSync(dir, { recursive: true });
  return dir;
}

/** Of a process that dies once it has moved a directory. */
function dying(): { disk: Disk; hasMoved: () => boolean } {
  let isDead = false;
  const gone = async (): Promise<never> => {
    throw ioError('a call of a process that was killed', new Error('SIGKILL'));
  };
  const rename: Disk['rename'] = async (from, to) => {
    if (isDead) return await gone();
    const isDirectory = fs.statSync(from).isDirectory();
    await nodeDisk.rename(from, to);
    isDead = isDirectory;
    if (isDead) await gone();
  };
  const alive: Disk = { ...nodeDisk, rename };
  const disk = new Proxy(alive, {
    get: (target, name: keyof Disk) => (isDead ? gone : target[name]),
  });
  return { disk, hasMoved: () => isDead };
}

test('FAULT-25 of two at once one opens it, the other one is told that it is in use', async () => {
  for (let round = 0; round < 20; round++) {
    const dir = emptyDirectory(`round-${round}`);
    const opened = await Promise.allSettled([openOn(dir), openOn(dir)]);
    const nodes = opened.flatMap((o) => (o.status === 'fulfilled' ? [o.value] : []));
    const refused = opened.flatMap((o) => (o.status === 'rejected' ? [o.reason.code] : []));
    expect(refused).toEqual(['Locked']);
    await (await nodes[0]!.openSpace('s')).append(1, Buffer.from('x'));
    await nodes[0]!.close();
    expect(fs.readdirSync(each.folder)).toEqual([`round-${round}`]);
    fs.rmSync(dir, { recursive: true });
  }
});

test('one that is killed while it names it anew takes nothing with it', async () => {
  const dir = emptyDirectory();
  const { disk, hasMoved } = dying();
  let goOn = (): void => undefined;
  const goesOn = new Promise<void>((resolve) => {
    goOn = resolve;
  });
  let looked = (): void => undefined;
  const hasLooked = new Promise<void>((resolve) => {
    looked = resolve;
  });
  // It has seen that the directory is empty, and is not heard of for a while.
  const list: Disk['list'] = async (of) => {
    const names = await nodeDisk.list(of);
    looked();
    await goesOn;
    return names;
  };
  const slow = openOn(
    dir,
    new Proxy(disk, {
      get: (target, name: keyof Disk) => (name === 'list' && !hasMoved() ? list : target[name]),
    }),
  );
  const died = slow.catch((error) => error.message);
  await hasLooked;
  const other = await openOn(dir).catch(() => undefined);
  const space = await other?.openSpace('s');
  await space?.append(1, Buffer.from('x'));
  goOn();
  expect(await died).toContain('killed');
  await other?.close().catch(() => undefined);
  const again = await openOn(dir);
  each.finally(() => again.close());
  expect(again.status().spaces.map((s) => s.name)).toEqual(space ? ['s'] : []);
  expect(fs.readdirSync(each.folder)).toEqual(['data']);
});

test('it is the same directory afterwards, and a link stays one', async () => {
  const dir = emptyDirectory();
  const link = path.join(each.folder, 'link');
  fs.symlinkSync(emptyDirectory('real'), link);
  fs.chmodSync(dir, 0o750);
  const { ino } = fs.statSync(dir);
  for (const name of [dir, link]) {
    const { disk, hasMoved } = dying();
    const node = await openOn(name, disk).catch(() => undefined);
    await node?.close().catch(() => undefined);
    expect(hasMoved()).toBe(name === dir);
    await (await openOn(name)).close();
  }
  expect(fs.statSync(dir)).toMatchObject({
    ino,
    mode: expect.toSatisfy((m) => (m & 0o777) === 0o750),
  });
  expect(fs.lstatSync(link).isSymbolicLink()).toBe(true);
  expect(fs.readdirSync(each.folder).sort()).toEqual(['data', 'link', 'real']);
});

test('who has made the directory meanwhile keeps it, and nothing is left aside', async () => {
  const dir = emptyDirectory();
  const rename: Disk['rename'] = async (from, to) => {
    await nodeDisk.rename(from, to);
    if (from !== dir) return;
    fs.mkdirSync(dir);
    fs.writeFileSync(path.join(dir, 'theirs'), 'theirs');
  };
  const opened = openOn(dir, { ...nodeDisk, rename }).catch((error) => error.code);
  expect(await opened).toBe('Locked');
  expect(fs.readdirSync(each.folder)).toEqual(['data']);
  expect(fs.readdirSync(dir)).toEqual(['theirs']);
});

test('what stands where it is moved to is somebody’s, and stays', async () => {
  for (const dir of [emptyDirectory(), path.join(each.folder, 'none')]) {
    const file = `${dir}.engram-wal.tmp`;
    fs.writeFileSync(file, 'not ours');
    await (await openOn(dir)).close();
    expect(fs.readFileSync(file, 'utf8')).toBe('not ours');
  }
});

test.each([
  'SIGKILL',
  'power loss',
])('FAULT-16 %s at each call of its first opening', async (how) => {
  const live = async (disk: FakeDisk): Promise<boolean> => {
    const node = await openFake(disk).catch(() => undefined);
    const space = await node?.openSpace('s').catch(() => undefined);
    const appended = await space?.append(1, Buffer.from('x')).catch(() => undefined);
    await node?.close().catch(() => undefined);
    return appended !== undefined;
  };
  // Behind that it is as any other: every-call.test.ts goes through it.
  for (let n = 1; n <= 16; n++) {
    const disk = new FakeDisk(() => 0);
    await disk.mount().makeDir('/data');
    await disk.mount().syncDir('/');
    disk.inject(undefined);
    const end = (): void => (how === 'SIGKILL' ? disk.kill() : disk.crash(() => 0));
    disk.when(() => true, n, end);
    const isAcked = await live(disk);
    expect(disk.calls).toHaveLength(n);
    disk.unwatch();
    end();
    const again = await openFake(disk);
    const names = again.status().spaces.map(({ name, lastSequence }) => `${name} ${lastSequence}`);
    if (isAcked) expect(names, `call ${n}`).toEqual(['s 1']);
    await again.close();
    expect(disk.list('/'), `call ${n}`).toEqual(['data']);
    expect(disk.misuse).toEqual([]);
  }
});
