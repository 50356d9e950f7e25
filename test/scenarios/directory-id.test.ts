/** A directory has an id of its own (DESIGN 14), also where an older release has made it. */
import fs from 'node:fs';
import path from 'node:path';
import { describe, expect, test } from 'vitest';
import { renewDirectoryId } from '#src/main/cli/closed-node.js';
import type { Node } from '#src/main/index.js';
import { openNodeFile, readNodeFile } from '#src/main/recovery/node-file.js';
import { newestState } from '#src/main/recovery/recovery.js';
import { crc32c } from '#src/shared/crc.js';
import { EachTest, heard } from '../support/cluster.js';
import { openFake, TINY } from '../support/fake-cluster.js';
import { chanceFrom, FakeDisk } from '../support/fake-disk.js';
import { expectOld, OLD, putOldDirectory, putOldOnFake } from '../support/old-directory.js';

const OWN = { nodeId: 'a', clusterId: 'golden' };
const DIR = '/data';
const life = new EachTest();

/** Nobody is there whom it could ask, so it is not to wait for one. */
function openOld(disk: FakeDisk): Promise<Node> {
  return openFake(disk, { ...OWN, openConfirmMs: 0 });
}

async function idOf(disk: FakeDisk): Promise<string | undefined> {
  return (await readNodeFile(disk.mount(), DIR)).directoryId;
}

async function raised(): Promise<FakeDisk> {
  const disk = new FakeDisk();
  putOldOnFake(disk);
  await (await openOld(disk)).close();
  return disk;
}

function restoreFile(disk: FakeDisk, name: string, from: FakeDisk): void {
  const file = path.join(DIR, name);
  disk.restore(new Map([...disk.image(), [file, from.image().get(file)!]]));
}

function lose(disk: FakeDisk, ...names: string[]): void {
  const image = disk.image();
  for (const name of names) image.delete(path.join(DIR, name));
  disk.restore(image);
}

describe('a directory of the first release', () => {
  test('opens, is raised and keeps every entry; its id stays, others differ', async () => {
    const dir = path.join(life.folder, 'a');
    putOldDirectory(dir);
    const open = () => life.start('a', { ...TINY, ...OWN });
    let node = await open();
    const told = heard(node, 'node-file-raised');
    await expectOld(node);
    const file = JSON.parse(fs.readFileSync(path.join(dir, 'node.json'), 'utf8'));
    expect(file).toMatchObject({ formatVersion: 2, ...OWN, madeAs: 1 });
    expect(file.directoryId).toMatch(/^[0-9a-f]{32}$/);
    expect(told).toEqual([{ dataDir: dir, directoryId: file.directoryId }]);
    await node.space('t').append(1, Buffer.from('goes on'));
    await node.close();
    const salt = JSON.parse(await oldNodeJson()).logSalt;
    node = await open();
    expect(heard(node, 'node-file-raised')).toEqual([]);
    expect(JSON.parse(fs.readFileSync(path.join(dir, 'node.json'), 'utf8'))).toEqual(file);
    expect(file.logSalt).toBe(salt);
    expect(node.space('t').status().durableSequence).toBe(OLD.spaces.t!.entries.length + 1);
    const other = await life.start('b', { ...TINY, clusterId: 'golden' });
    const made = JSON.parse(fs.readFileSync(path.join(life.folder, 'b/node.json'), 'utf8'));
    expect(made).toMatchObject({ formatVersion: 2, madeAs: 2 });
    expect(made.directoryId).not.toBe(file.directoryId);
    await other.close();
  });

  test.each([
    'SIGKILL',
    'power loss',
  ])('%s at every call of the raising: 1 or 2, whole', async (how) => {
    let isOver = false;
    let atTwo = 0;
    for (let n = 1; !isOver; n++) {
      const disk = new FakeDisk();
      putOldOnFake(disk);
      disk.inject({ call: n, errno: 'EIO', isLasting: true });
      const file = await openNodeFile(disk.mount(), DIR, OWN).catch(() => undefined);
      isOver = file !== undefined;
      const what = `${how} at call ${n} (${disk.calls.at(-1)})`;
      disk.inject(undefined);
      if (how === 'SIGKILL') disk.kill();
      else disk.crash(chanceFrom(n));
      // Throws where it is neither, or does not fit its crc.
      const found = await readNodeFile(disk.mount(), DIR);
      expect(found, what).toMatchObject({ ...OWN, madeAs: 1 });
      if (found.directoryId !== undefined) atTwo++;
      if (file) expect(found.directoryId, what).toBe(file.directoryId);
      const again = await openNodeFile(disk.mount(), DIR, OWN);
      if (found.directoryId !== undefined) expect(again.directoryId, what).toBe(found.directoryId);
      if (n % 6 > 0 && !isOver) continue;
      const node = await openOld(disk);
      await expectOld(node);
      await node.close();
      expect(await idOf(disk), what).toBe(again.directoryId);
    }
    expect(atTwo).toBeGreaterThan(0);
  });

  test('an older node.json in its place again: the state names the directory', async () => {
    const disk = await raised();
    const id = await idOf(disk);
    const old = new FakeDisk();
    putOldOnFake(old);
    restoreFile(disk, 'node.json', old);
    const node = await openOld(disk);
    await expectOld(node);
    await node.close();
    expect(await idOf(disk)).toBe(id);
  });

  test('node.json lost before it was raised: a new id', async () => {
    const ids = new Set<string>();
    for (let i = 0; i < 2; i++) {
      const disk = new FakeDisk();
      putOldOnFake(disk);
      lose(disk, 'node.json');
      const node = await openOld(disk);
      await expectOld(node);
      await node.close();
      ids.add((await idOf(disk))!);
    }
    expect(ids.size).toBe(2);
  });
});

describe('the id of a directory', () => {
  test('node.json lost: the state has it, whichever generation is left', async () => {
    const disk = await raised();
    const id = await idOf(disk);
    for (const state of ['state-0', 'state-1']) {
      // Two lives, so that both generations are of this format.
      await (await openOld(disk)).close();
      const copy = new FakeDisk();
      copy.restore(disk.image());
      lose(copy, 'node.json', state);
      await (await openOld(copy)).close();
      expect(await idOf(copy)).toBe(id);
      expect(await readNodeFile(copy.mount(), DIR)).toMatchObject({ madeAs: 1 });
    }
  });

  test('a format from the future is refused, in node.json and in the state', async () => {
    const disk = await raised();
    const harms: ((copy: FakeDisk) => void)[] = [
      (copy) => {
        copy.edit(`${DIR}/node.json`, (bytes) => bytes.set(Buffer.from('{"formatVersion":3')));
      },
      (copy) => {
        copy.edit(`${DIR}/state-0`, (bytes) => {
          const view = new DataView(bytes.buffer);
          view.setUint32(4, 4, true);
          view.setUint32(bytes.length - 4, crc32c(bytes.subarray(0, -4)), true);
        });
      },
    ];
    for (const harm of harms) {
      const copy = new FakeDisk();
      copy.restore(disk.image());
      harm(copy);
      await expect(openOld(copy)).rejects.toMatchObject({ code: 'UnsupportedVersion' });
    }
  });

  test.each([
    'SIGKILL',
    'power loss',
  ])('%s at every call of renewing it: old or new', async (how) => {
    let isOver = false;
    const disk = await raised();
    const old = await idOf(disk);
    const image = disk.image();
    for (let n = 1; !isOver; n++) {
      disk.restore(image);
      disk.inject({ call: n, errno: 'EIO', isLasting: true });
      const renewed = await renewDirectoryId(disk.mount(), DIR).catch(() => undefined);
      isOver = renewed !== undefined;
      const what = `${how} at call ${n} (${disk.calls.at(-1)})`;
      disk.inject(undefined);
      if (how === 'SIGKILL') disk.kill();
      else disk.crash(chanceFrom(n));
      const id = await idOf(disk);
      if (renewed) expect(id, what).toBe(renewed);
      else expect(id, what).toMatch(/^[0-9a-f]{32}$/);
      // A node that opens now is this one: now and then looked at, it takes long.
      if (n % 8 === 0 || renewed) {
        const node = await openOld(disk);
        // A directory that has a new id is a copy: it leads by force alone.
        await expectOld(node, renewed !== undefined || id !== old);
        await node.close();
        expect(await idOf(disk), what).toBe(id);
      }
      if (!renewed) continue;
      expect(renewed).not.toBe(old);
      // Neither generation brings the old one back.
      for (const state of ['state-0', 'state-1']) {
        const copy = new FakeDisk();
        copy.restore(disk.image());
        lose(copy, 'node.json', state);
        expect((await newestState(copy.mount(), DIR))?.directoryId).toBe(renewed);
        await (await openOld(copy)).close();
        expect(await idOf(copy)).toBe(renewed);
      }
    }
  });
});

async function oldNodeJson(): Promise<string> {
  const old = new FakeDisk();
  putOldOnFake(old);
  let text = '';
  old.edit(`${DIR}/node.json`, (bytes) => {
    text = Buffer.from(bytes).toString();
  });
  return text;
}
