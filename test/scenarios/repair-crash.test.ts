/**
 * FAULT-16 for a repair: a primary whose log is damaged mends it from a replica, and its process or
 * its machine dies at each call to the disk on the way. Whatever is left opens, and is mended.
 * ENGRAM_TEST_FULL=1 takes every call; otherwise a sample.
 */
import fs from 'node:fs';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { type Node, openNode } from '#src/main/index.js';
import { openNodeOn } from '#src/main/node/open-node.js';
import { contentOf, makeFolder, openSmall, removeFolder, until } from '../support/cluster.js';
import { TINY } from '../support/fake-cluster.js';
import { chanceFrom, FakeDisk } from '../support/fake-disk.js';

const SEED = Number(process.env.ENGRAM_TEST_SEED ?? Math.floor(Math.random() * 2 ** 31));
const IS_FULL = process.env.ENGRAM_TEST_FULL === '1';
const STEP = IS_FULL ? 1 : 29;
const NAMES = ['s', 't'];
const ALONE = { ...TINY, dataDir: '/data', nodeId: 'a', openConfirmMs: 0 };

let folder: string;
let replica: Node;
const unhandled: unknown[] = [];
const onUnhandled = (error: unknown): void => void unhandled.push(error);

beforeEach(async () => {
  folder = makeFolder();
  const listen = { host: '127.0.0.1', port: 0 };
  replica = await openSmall(path.join(folder, 'b'), 'b', { listen, lead: false });
  unhandled.length = 0;
  process.on('unhandledRejection', onUnhandled);
});

afterEach(async () => {
  process.off('unhandledRejection', onUnhandled);
  await replica.close();
  removeFolder(folder);
});

function open(disk: FakeDisk): Promise<Node> {
  const replicas = [{ nodeId: 'b', ...replica.address! }];
  const options = { ...TINY, dataDir: '/data', nodeId: 'a', replicas, openConfirmMs: 5_000 };
  return openNodeOn(disk.mount(), options);
}

/** Segments on both nodes, the primary's on a fake disk. @returns what they hold */
async function fill(disk: FakeDisk): Promise<string[][]> {
  const dataDir = path.join(folder, 'a');
  const replicas = [{ nodeId: 'b', ...replica.address! }];
  // A shipper is a thread, and reads a real disk.
  const node = await openNode({ ...TINY, dataDir, nodeId: 'a', replicas });
  const spaces = await Promise.all(NAMES.map((name) => node.openSpace(name)));
  for (let i = 0; node.status().segments < 4; i++) {
    const payloads = [Buffer.alloc(300 + i, i), Buffer.alloc(90, i)];
    await Promise.all(spaces.map((s) => s.appendBatch(1, payloads)));
  }
  for (const s of spaces) {
    await s.flushed(s.status().lastSequence, { replicas: 1, timeoutMs: 20_000 });
  }
  const content = await Promise.all(spaces.map((s) => contentOf(s)));
  await node.close();
  disk.restore(new Map());
  for (const name of fs.readdirSync(dataDir)) {
    disk.put(path.join('/data', name), fs.readFileSync(path.join(dataDir, name)));
  }
  return content;
}

const isWhole = (node: Node): boolean =>
  node.status().holes.length === 0 &&
  node.status().spaces.every((s) => s.damage.length === 0 && s.repair === undefined);

function damage(disk: FakeDisk, how: string, seed = SEED): void {
  const [first, second] = disk.list('/data').filter((name) => /^wal-.*\.log$/.test(name));
  const image = disk.image();
  const isBad = how.startsWith('bad');
  if (!isBad) image.delete(`/data/${how === 'missing' ? second : first}`);
  disk.restore(image);
  if (!isBad) return;
  const chance = chanceFrom(seed);
  disk.edit(`/data/${first}`, (bytes) => {
    for (let i = 0; i < 6; i++) bytes[2_000 + chance(9_000)]! ^= 1 << chance(8);
  });
}

/** Somebody reads: that is how damage before the newest state is found. */
async function read(node: Node): Promise<void> {
  for (const name of NAMES) await contentOf(node.space(name)).catch(() => undefined);
}

describe(`a repair, cut off, seed ${SEED}`, () => {
  test.each([
    ['SIGKILL', 'bad'],
    ['power loss', 'bad'],
    ['power loss', 'missing'],
    ['SIGKILL', 'first, and missing'],
  ] as const)('FAULT-16 %s at every call, a segment that is %s', async (death, how) => {
    const disk = new FakeDisk();
    const content = await fill(disk);
    damage(disk, how);
    const image = disk.image();
    let repaired = 0;
    for (let n = 1 + (SEED % STEP), isOver = false; !isOver; n += STEP) {
      disk.restore(image);
      // From the n-th call on nothing reaches the disk: as if the process had ended there.
      disk.inject({ call: n, errno: 'EIO', isLasting: true });
      const dying = await open(disk).catch(() => undefined);
      if (dying) {
        await read(dying);
        await until('its death, or the end', () => disk.calls.length >= n || isWhole(dying));
        isOver = disk.calls.length < n;
      }
      const what = `${death} at call ${n} (${disk.calls[n - 1]})`;
      if (death === 'SIGKILL') disk.kill();
      else disk.crash(chanceFrom(SEED + n));
      disk.inject(undefined);
      await dying?.close().catch(() => undefined);
      const node = await open(disk);
      try {
        await read(node);
        await until(`${what}: whole again`, () => isWhole(node));
        for (const [i, name] of NAMES.entries()) {
          expect(await contentOf(node.space(name)), what).toEqual(content[i]);
        }
        repaired++;
      } finally {
        await node.close();
      }
      const again = await open(disk);
      expect(isWhole(again), `${what}, opened again`).toBe(true);
      expect(await contentOf(again.space('t')), what).toEqual(content[1]);
      await again.close();
    }
    expect(repaired).toBeGreaterThan(5);
    expect(unhandled).toEqual([]);
  });
});

/** A life whose indexes are lost makes them of what it can read, and nobody gives it the rest. */
async function indexAnew(disk: FakeDisk): Promise<void> {
  const isIndex = (name: string): boolean => name.endsWith('.idx');
  const image = disk.image();
  const lost = [...image.keys()].filter(isIndex);
  for (const name of lost) image.delete(name);
  disk.restore(image);
  const node = await openNodeOn(disk.mount(), ALONE);
  await read(node);
  // What a pass makes of a segment the next one writes.
  for (const name of NAMES) await node.space(name).checkpoint(1);
  await until('its indexes', () => disk.list('/data').filter(isIndex).length === lost.length);
  await node.close();
}

describe('FAULT-101 a repair, and a directory fsync that fails in it', () => {
  test.each([
    ['bad'],
    ['bad, as its index says'],
    ['missing'],
  ] as const)('a segment that is %s', async (how) => {
    // Where the fault model leaves a choice, the worse: nothing of a failed one is durable.
    const disk = new FakeDisk(() => 0);
    const content = await fill(disk);
    // Entries of both spaces are lost, and nothing else.
    damage(disk, how, 3);
    if (how === 'bad, as its index says') await indexAnew(disk);
    const image = disk.image();
    const listen = { host: '127.0.0.1', port: replica.address!.port };
    for (let call = 1; ; call++) {
      disk.restore(image);
      disk.inject({ call, errno: 'EIO', only: 'syncdir' });
      const count = (): number => disk.calls.filter((made) => made.startsWith('syncdir')).length;
      const dying = await open(disk).catch(() => undefined);
      if (dying) {
        await read(dying);
        await until('its death, or the end', () => count() >= call || isWhole(dying));
      }
      const isOver = count() < call;
      const what = `directory fsync ${call}: ${disk.calls.slice(-3)}`;
      disk.kill();
      disk.inject(undefined);
      disk.brokeAt = undefined;
      await dying?.close().catch(() => undefined);
      // It goes on as the cache has it, and is whole.
      const next = await open(disk);
      await read(next);
      await until(`${what}: whole again`, () => isWhole(next));
      disk.crash(() => 0);
      // Whoever gave it what it lacked is gone.
      await replica.close();
      await next.close().catch(() => undefined);
      const last = await openNodeOn(disk.mount(), ALONE);
      await read(last);
      expect(last.status().holes, what).toEqual([]);
      for (const [i, name] of NAMES.entries()) {
        expect(await contentOf(last.space(name)), what).toEqual(content[i]);
      }
      expect(isWhole(last), what).toBe(true);
      await last.close();
      replica = await openSmall(path.join(folder, 'b'), 'b', { listen, lead: false });
      if (isOver) break;
    }
    expect(unhandled).toEqual([]);
  });
});
