/** The fake disk has each nastiness that its head names: what is tested on it withstands them. */
import { beforeEach, describe, expect, test } from 'vitest';
import type { Disk, DiskFile } from '#src/main/segments/disk.js';
import { chanceFrom, FakeDisk, SECTOR } from './fake-disk.js';

const FILE = '/data/f';

let disk: FakeDisk;
let mount: Disk;

async function newDisk(seed: number): Promise<void> {
  disk = new FakeDisk(chanceFrom(seed));
  mount = disk.mount();
  await mount.makeDir('/data');
  await mount.syncDir('/');
}

beforeEach(() => newDisk(1));

function filled(byte: number, bytes = SECTOR): Uint8Array {
  return new Uint8Array(bytes).fill(byte);
}

/** A file of zeros, durable. */
async function fileOf(bytes: number, name = FILE): Promise<DiskFile> {
  const file = await mount.open(name, 'create');
  await file.truncate(bytes);
  await file.syncAll();
  await mount.syncDir('/data');
  return file;
}

/** First bytes of the sectors of the file, by the next process. */
async function firstBytes(name = FILE): Promise<number[]> {
  const file = await disk.mount().open(name, 'read');
  const bytes = new Uint8Array(await file.size());
  await file.read(bytes, 0);
  return Array.from({ length: Math.ceil(bytes.length / SECTOR) }, (_, i) => bytes[i * SECTOR]!);
}

/** What is seen in any of so many tries, as text. */
async function seen(times: number, once: (seed: number) => Promise<unknown>): Promise<Set<string>> {
  const found = new Set<string>();
  for (let seed = 1; seed <= times; seed++) {
    await newDisk(seed);
    found.add(JSON.stringify(await once(seed)));
  }
  return found;
}

describe('the fake disk', () => {
  test('FAULT-104 a second fdatasync after EIO says ok and makes nothing durable', async () => {
    const left = await seen(40, async () => {
      const file = await fileOf(SECTOR);
      await file.write(filled(1), 0);
      disk.inject({ call: 1, errno: 'EIO', only: 'fdatasync' });
      await expect(file.sync()).rejects.toMatchObject({ code: 'Io' });
      await file.sync();
      disk.crash();
      return firstBytes();
    });
    expect(left).toEqual(new Set(['[0]', '[1]']));
    // Written again, it is as good as any write.
    await newDisk(1);
    const file = await fileOf(SECTOR);
    await file.write(filled(1), 0);
    disk.inject({ call: 1, errno: 'EIO', only: 'fdatasync' });
    await expect(file.sync()).rejects.toMatchObject({ code: 'Io' });
    await file.write(filled(2), 0);
    await file.sync();
    disk.crash();
    expect(await firstBytes()).toEqual([2]);
  });

  test('FAULT-104 what a failed fdatasync leaves in the cache may vanish later', async () => {
    const left = await seen(40, async () => {
      const file = await fileOf(SECTOR);
      await file.write(filled(1), 0);
      disk.inject({ call: 1, errno: 'EIO', only: 'fdatasync' });
      await expect(file.sync()).rejects.toMatchObject({ code: 'Io' });
      disk.kill();
      return firstBytes();
    });
    expect(left).toEqual(new Set(['[0]', '[1]']));
    const read = await seen(80, async () => {
      const file = await fileOf(SECTOR);
      await file.write(filled(1), 0);
      disk.inject({ call: 1, errno: 'EIO', only: 'fdatasync' });
      await expect(file.sync()).rejects.toMatchObject({ code: 'Io' });
      const once = new Uint8Array(1);
      const twice = new Uint8Array(1);
      await file.read(once, 0);
      await file.read(twice, 0);
      return [once[0], twice[0]];
    });
    expect(read).toEqual(new Set(['[1,1]', '[1,0]', '[0,0]']));
  });

  test('FAULT-104 it may stay beyond the end of the process, for so many reads', async () => {
    const left = await seen(20, async () => {
      const file = await fileOf(SECTOR);
      await file.write(filled(1), 0);
      disk.inject({ call: 1, errno: 'EIO', only: 'fdatasync' });
      await expect(file.sync()).rejects.toMatchObject({ code: 'Io' });
      disk.readsLeft = 2;
      disk.kill();
      return [await firstBytes(), await firstBytes(), await firstBytes()];
    });
    expect(left).toEqual(new Set(['[[1],[1],[0]]', '[[1],[1],[1]]']));
  });

  test('FAULT-104 every version of a sector since its fdatasync may be what stays', async () => {
    const left = await seen(200, async () => {
      const file = await fileOf(SECTOR);
      for (const byte of [1, 2, 3]) await file.write(filled(byte), 0);
      disk.crash();
      return firstBytes();
    });
    for (const one of ['[0]', '[1]', '[2]', '[3]']) expect(left).toContain(one);
  });

  test('FAULT-104 sectors stay by themselves; a torn one keeps what did not change', async () => {
    const left = await seen(200, async () => {
      const file = await fileOf(2 * SECTOR);
      await file.write(filled(7, 100), 0);
      await file.sync();
      await file.write(filled(9, 2 * SECTOR - 100), 100);
      disk.crash();
      const bytes = new Uint8Array(2 * SECTOR);
      await (await disk.mount().open(FILE, 'read')).read(bytes, 0);
      expect([...bytes.subarray(0, 100)]).toEqual([...filled(7, 100)]);
      const first = bytes.subarray(100, SECTOR);
      if (!first.every((byte) => byte === first[0])) return 'torn';
      return [first[0], bytes[SECTOR]];
    });
    for (const one of ['"torn"', '[0,9]', '[9,0]', '[9,9]', '[0,0]']) expect(left).toContain(one);
  });

  test('FAULT-104 a new directory can be lost, and all that is in it', async () => {
    const left = await seen(40, async () => {
      await mount.makeDir('/data/a/b');
      const file = await mount.open('/data/a/b/f', 'create');
      await file.write(filled(1), 0);
      await file.syncAll();
      await mount.syncDir('/data/a/b');
      await mount.syncDir('/data/a');
      disk.crash();
      return disk.list('/data/a/b');
    });
    expect(left).toEqual(new Set(['[]', '["f"]']));
    await expect(mount.open('/none/f', 'create')).rejects.toMatchObject({ code: 'Io' });
  });

  test('FAULT-104 names are durable in their order, before the data or after it', async () => {
    const left = await seen(100, async () => {
      const file = await mount.open('/data/t', 'create');
      await file.write(filled(1), 0);
      await mount.rename('/data/t', FILE);
      disk.crash();
      const names = disk.list('/data');
      return names.includes('f') ? ['f', ...(await firstBytes())] : names;
    });
    // No bytes, bytes that are zeros, and the bytes; the old name, and none.
    for (const one of ['["f"]', '["f",0]', '["f",1]', '["t"]', '[]']) expect(left).toContain(one);
  });

  test('FAULT-104 an fdatasync covers what was written before it began', async () => {
    const left = await seen(60, async () => {
      const file = await fileOf(2 * SECTOR);
      await file.write(filled(1), 0);
      disk.delay = { only: 'fdatasync', ms: 20 };
      const syncing = file.sync();
      await file.write(filled(2), SECTOR);
      await syncing;
      expect(disk.firstUnsettled(FILE, 0, 2 * SECTOR)).toBe(SECTOR);
      disk.crash();
      return firstBytes();
    });
    expect(left).toContain('[1,0]');
    expect(left).toContain('[1,2]');
    expect([...left].every((one) => one.startsWith('[1,'))).toBe(true);
  });

  test('FAULT-104 calls of a killed process land, in part or not at all, never later', async () => {
    const left = await seen(100, async () => {
      const file = await fileOf(16 * SECTOR);
      disk.delay = { only: 'write', ms: 20 };
      const writing = expect(file.write(filled(1, 16 * SECTOR), 0)).rejects.toThrow('ENODEV');
      await new Promise((resolve) => setTimeout(resolve, 1));
      disk.kill();
      const bytes = await firstBytes();
      await writing;
      await expect(file.write(filled(2), 0)).rejects.toMatchObject({ code: 'Io' });
      await expect(mount.remove(FILE)).rejects.toMatchObject({ code: 'Io' });
      expect(await firstBytes()).toEqual(bytes);
      return bytes.filter((byte) => byte === 1).length;
    });
    expect(left).toEqual(new Set(['0', '8', '16']));
  });

  test('FAULT-104 a failed write has written pages; a failed close has closed', async () => {
    const left = await seen(60, async () => {
      const file = await fileOf(16 * SECTOR);
      disk.inject({ call: 1, errno: 'EIO', only: 'write' });
      const writing = file.write(filled(1, 16 * SECTOR), 0);
      await expect(writing).rejects.toMatchObject({ code: 'Io' });
      return (await firstBytes()).filter((byte) => byte === 1).length;
    });
    expect(left).toEqual(new Set(['0', '8', '16']));
    await newDisk(1);
    const file = await fileOf(SECTOR);
    disk.inject({ call: 1, errno: 'EIO', only: 'close' });
    await expect(file.close()).rejects.toMatchObject({ code: 'Io' });
    await expect(file.read(new Uint8Array(1), 0)).rejects.toMatchObject({ code: 'Io' });
    expect(disk.misuse).toHaveLength(1);
  });

  test('FAULT-104 a bad sector fails what reads it, until it is written again', async () => {
    const file = await fileOf(3 * SECTOR);
    disk.spoil(FILE, SECTOR, SECTOR + 1);
    const all = new Uint8Array(3 * SECTOR);
    await expect(file.read(all, 0)).rejects.toMatchObject({ code: 'Io' });
    await expect(file.read(all.subarray(0, 1), 2 * SECTOR - 1)).rejects.toThrow('EIO');
    expect(await file.read(all, 2 * SECTOR)).toBe(SECTOR);
    disk.crash();
    await expect(firstBytes()).rejects.toThrow('EIO');
    await (await disk.mount().open(FILE, 'write')).write(filled(1), SECTOR);
    expect(await firstBytes()).toEqual([0, 1, 0]);
  });

  test('FAULT-104 room ends in the middle of a write', async () => {
    const file = await mount.open(FILE, 'create');
    disk.capacityBytes = disk.usedBytes + 2 * SECTOR;
    const writing = file.write(filled(1, 4 * SECTOR), 0);
    await expect(writing).rejects.toMatchObject({ code: 'DiskFull' });
    expect(await file.size()).toBe(2 * SECTOR);
    // A file that was removed takes its room until nobody has it open.
    await mount.remove(FILE);
    expect(await mount.freeBytes('/data')).toBe(0);
    await file.close();
    expect(await mount.freeBytes('/data')).toBe(2 * SECTOR);
  });

  test('FAULT-104 what no process may do fails the run', async () => {
    const file = await fileOf(SECTOR);
    const bytes = filled(1);
    const writing = file.write(bytes, 0);
    bytes[0] = 2;
    await writing;
    const reading = file.read(new Uint8Array(1), 0);
    await file.close();
    await reading;
    await expect(file.write(bytes, 0)).rejects.toMatchObject({ code: 'Io' });
    await expect(file.close()).rejects.toThrow();
    const lock = await mount.lock('/data');
    lock.release();
    await mount.open(FILE, 'create');
    expect(disk.misuse).toEqual([
      'bytes change during write f 512@0',
      'close f while a call on it is under way',
      'write f 512@0 on a closed handle',
      'close f on a closed handle',
      'open f after the lock was given back',
    ]);
    expect(() => disk.mount()).toThrow('misuse of the disk');
  });
});
