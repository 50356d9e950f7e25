/** The exact behaviour of each disk fault (FAULTS.md), on a disk that fails on demand. */
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import type { Node, NodeEventName, NodeEvents } from '#src/main/index.js';
import { nodeDisk } from '#src/main/segments/node-disk.js';
import { PLACE_LOOK_MS } from '#src/shared/limits.js';
import { segmentName } from '#src/shared/log/segment.js';
import { makeFolder, openSmall, removeFolder, until } from '../support/cluster.js';
import { openFake, TINY } from '../support/fake-cluster.js';
import { chanceFrom, FakeDisk } from '../support/fake-disk.js';
import { SpaceLedger } from '../support/space-ledger.js';

const SEED = Number(process.env.ENGRAM_TEST_SEED ?? Math.floor(Math.random() * 2 ** 31));
const FILE = '/data/wal-0000000000000000.log';

let disk: FakeDisk;
let node: Node;
let ledger: SpaceLedger;

beforeEach(async () => {
  disk = new FakeDisk();
  ledger = new SpaceLedger('s');
});

afterEach(async () => {
  vi.restoreAllMocks();
  disk.inject(undefined);
  await node?.close().catch(() => undefined);
});

async function open(): Promise<void> {
  node = await openFake(disk);
  await node.openSpace('s');
}

function heard<K extends NodeEventName>(name: K): NodeEvents[K][] {
  const events: NodeEvents[K][] = [];
  node.on(name, (event) => events.push(event));
  return events;
}

/** Everything acknowledged is there after the node was opened again, and it goes on. */
async function soundAgain(): Promise<void> {
  disk.inject(undefined);
  await node.close().catch(() => undefined);
  disk.kill();
  await open();
  await ledger.check(node.space('s'), 'opened again');
  expect(await ledger.append(node.space('s'), 100)).toBe(true);
}

describe(`disk faults, seed ${SEED}`, () => {
  test('FAULT-5 a bit flips in a sealed segment: that entry alone, typed, told once', async () => {
    await open();
    const space = node.space('s');
    const other = await node.openSpace('t');
    while (node.status().segments < 3) await ledger.append(space, 700);
    await other.append(1, Buffer.from('t'));
    disk.edit(FILE, (bytes) => {
      bytes[3_000]! ^= 8;
    });
    const damaged = heard('damaged');
    const read = async (): Promise<number> => {
      let n = 0;
      for await (const _ of space.read()) n++;
      return n;
    };
    await expect(read()).rejects.toMatchObject({ code: 'CorruptionDetected' });
    await expect(read()).rejects.toMatchObject({ code: 'CorruptionDetected' });
    expect(damaged).toHaveLength(1);
    const { entries, holes } = damaged[0]!;
    expect(holes).toHaveLength(1);
    expect(entries).toEqual([{ space: 's', from: entries[0]!.from, to: entries[0]!.from }]);
    await expect(space.append(1, Buffer.from('x'))).rejects.toMatchObject({
      code: 'CorruptionDetected',
    });
    await other.append(1, Buffer.from('other spaces go on'));
    // Known from then on, without anybody reading it.
    await node.close();
    await open();
    expect(node.space('s').status().damage).toMatchObject([{ from: entries[0]!.from }]);
  });

  test('FAULT-81 however many entries are bad, opening reads the log about once', async () => {
    const sizes = {
      segmentBytes: 512 * 1024,
      groupBytes: 64 * 1024,
      memoryBudgetBytes: 512 * 1024,
    };
    node = await openFake(disk, sizes);
    const space = await node.openSpace('s');
    const payloads = Array.from({ length: 500 }, () => Buffer.alloc(100, 1));
    for (let n = 0; n < 4; n++) await space.appendBatch(1, payloads);
    disk.kill();
    let bad = 0;
    disk.edit(FILE, (bytes) => {
      const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
      for (let at = 0; view.getUint32(at, true) === 0xdeadbeef; ) {
        const size = view.getUint32(at + 24, true);
        // Payloads, and headers here and there.
        if (size === 100) bytes[at + (bad++ % 7 === 0 ? 30 : 80)]! ^= 1;
        at += 64 + size;
      }
    });
    expect(bad).toBe(2_000);
    await node.close().catch(() => undefined);
    disk.inject(undefined);
    node = await openFake(disk, sizes);
    const damaged = heard('damaged');
    await until('it is told', () => damaged.length > 0);
    expect(damaged).toHaveLength(1);
    expect(node.space('s').status().damage).toMatchObject([{ from: 1 }]);
    const reads = disk.calls
      .filter((call) => call.startsWith('read wal'))
      .map((call) => Number(/ (\d+)@/.exec(call)![1]));
    expect(reads.reduce((sum, bytes) => sum + bytes, 0)).toBeLessThan(10 * sizes.segmentBytes);
    expect(reads.length).toBeLessThan(100);
  });

  test('FAULT-10 fdatasync fails with EIO: final, not tried again, no ack', async () => {
    await open();
    const space = node.space('s');
    await ledger.append(space, 100);
    const fatal = heard('fatal');
    const states = heard('log-state');
    disk.inject({ call: 1, errno: 'EIO', only: 'fdatasync' });
    // Not acknowledged: it may be there afterwards, or not.
    ledger.tried(2, Buffer.from('a'));
    await expect(space.append(1, Buffer.from('a'))).rejects.toMatchObject({ code: 'WalFailed' });
    expect(() => space.tryAppend(1, Buffer.from('b'))).toThrow(/WalFailed/);
    await expect(space.checkpoint(1)).rejects.toMatchObject({ code: 'WalFailed' });
    expect(fatal).toHaveLength(1);
    expect(states).toMatchObject([{ state: 'failed' }]);
    expect(node.status().log.state).toBe('failed');
    await new Promise((resolve) => setTimeout(resolve, 700));
    expect(disk.calls.filter((call) => call.startsWith('fdatasync'))).toHaveLength(1);
    await soundAgain();
  });

  test('FAULT-104 pages of a failed fdatasync may vanish between two reads: no rot', async () => {
    for (let n = 0; n < 40; n++) {
      disk = new FakeDisk(chanceFrom(SEED + n));
      ledger = new SpaceLedger('s');
      await open();
      await ledger.append(node.space('s'), 100);
      disk.inject({ call: 1, errno: 'EIO', only: 'fdatasync' });
      // Over several sectors, each of which may vanish by itself, at any reading.
      expect(await ledger.appendBatch(node.space('s'), [900, 900, 900])).toBe(false);
      await soundAgain();
      expect(node.status().holes).toEqual([]);
      await node.close();
      await open();
      await ledger.check(node.space('s'), `seed ${SEED + n}`);
      expect(node.status().holes).toEqual([]);
      await node.close();
    }
  });

  test('FAULT-12 a short write is completed; EIO while writing is final', async () => {
    const folder = makeFolder();
    const write = fs.write;
    const sizes: number[] = [];
    vi.spyOn(fs, 'write').mockImplementation(((
      fd: number,
      bytes: Uint8Array,
      offset: number,
      length: number,
      position: number,
      done: (error: Error | null, written: number) => void,
    ) => {
      sizes.push(length);
      write(fd, bytes, offset, Math.ceil(length / 3), position, done);
    }) as unknown as typeof fs.write);
    const file = await nodeDisk.open(path.join(folder, 'f'), 'create');
    const bytes = Uint8Array.from({ length: 1_000 }, (_, i) => i);
    await file.write(bytes, 10);
    vi.restoreAllMocks();
    expect(sizes.length).toBeGreaterThan(3);
    const read = new Uint8Array(1_000);
    expect(await file.read(read, 10)).toBe(1_000);
    expect(read).toEqual(bytes);
    await file.close();
    removeFolder(folder);

    await open();
    ledger.tried(1, bytes);
    disk.inject({ call: 1, errno: 'EIO', only: 'write' });
    await expect(node.space('s').append(1, bytes)).rejects.toMatchObject({ code: 'WalFailed' });
    await soundAgain();
  });

  test('FAULT-12 an error names the segment as it is called, not as when it was made', async () => {
    await open();
    const space = node.space('s');
    while (node.status().segments < 2) await ledger.append(space, 1_000);
    const name = segmentName(TINY.segmentBytes);
    disk.inject({ call: 1, errno: 'EIO', only: `write ${name}` });
    ledger.tried(space.status().lastSequence + 1, Buffer.from('a'));
    await expect(space.append(1, Buffer.from('a'))).rejects.toThrow(name);
    await soundAgain();
  });

  test('FAULT-13 a disk that is full behind a close: it is opened', async () => {
    await open();
    await ledger.append(node.space('s'), 800);
    await node.close();
    disk.capacityBytes = disk.usedBytes;
    await open();
    await ledger.check(node.space('s'), 'while it is full');
  });

  test('FAULT-13 what is found at opening is written again where that takes room', async () => {
    await open();
    for (let i = 0; i < 5; i++) await ledger.append(node.space('s'), 800);
    disk.kill();
    await node.close().catch(() => undefined);
    // As on a file system that copies on write.
    disk.inject({ call: 1, errno: 'ENOSPC', only: 'write wal-' });
    await open();
    expect(disk.calls).toContain('remove reserve');
    await ledger.check(node.space('s'), 'opened');
  });

  test('FAULT-13 a full disk: read-only, nothing lost, goes on by itself', async () => {
    await open();
    const space = node.space('s');
    for (let i = 0; i < 5; i++) await ledger.append(space, 800);
    const lost = heard('appends-lost');
    const states = heard('log-state');
    const { durableSequence } = space.status();
    disk.capacityBytes = disk.usedBytes + 512;
    const handed: number[] = [];
    for (let i = 0; i < 3; i++) handed.push(space.tryAppend(1, Buffer.alloc(900, 1))!);
    await expect(space.append(1, Buffer.alloc(900))).rejects.toMatchObject({
      code: 'DiskFull',
      retryable: true,
      details: { reason: 'disk-full' },
    });
    // Handed out, and void: the same sequences come again.
    expect(handed[0]).toBe(durableSequence + 1);
    expect(lost).toEqual([{ space: 's', from: durableSequence + 1, to: durableSequence + 4 }]);
    expect(states).toEqual([{ state: 'read-only', reason: 'disk-full' }]);
    expect(() => space.tryAppend(1, Buffer.from('x'))).toThrow(/DiskFull/);
    await ledger.check(space, 'while it is full');
    // The host can still say what it needs no more.
    await space.checkpoint(3);
    expect(space.status().checkpoint).toBe(3);
    ledger.checkpoint = 3;
    await new Promise((resolve) => setTimeout(resolve, 1_200));
    expect(node.status().log).toEqual({ state: 'read-only', reason: 'disk-full' });
    disk.capacityBytes = Number.POSITIVE_INFINITY;
    await until('it goes on', () => node.status().log.state === 'ok');
    expect(await ledger.append(space, 500)).toBe(true);
    expect(space.status().durableSequence).toBe(durableSequence + 1);
    disk.crash(chanceFrom(SEED));
    await soundAgain();
    expect(node.space('s').status().checkpoint).toBe(3);
  });

  test('FAULT-13 a torn tail on a full disk: the reserve is given up for quarantine', async () => {
    await open();
    const space = node.space('s');
    await ledger.append(space, 700);
    const torn = node.status().durableLsn;
    await space.appendBatch(1, [Buffer.alloc(600, 1), Buffer.alloc(600, 2)]);
    disk.kill();
    await node.close().catch(() => undefined);
    // The group's head was lost: what stands behind it is to be kept.
    disk.edit(FILE, (bytes) => bytes.fill(0, torn, torn + 64));
    const image = disk.image();
    for (const hasReserve of [true, false]) {
      disk.restore(image);
      if (!hasReserve) await disk.mount().remove('/data/reserve');
      disk.capacityBytes = disk.usedBytes;
      const opening = openFake(disk);
      if (!hasReserve) {
        await expect(opening).rejects.toMatchObject({ code: 'DiskFull' });
        await expect(openFake(disk)).rejects.toMatchObject({ code: 'DiskFull' });
        expect(disk.list('/data/quarantine')).toEqual([]);
        disk.capacityBytes = Number.POSITIVE_INFINITY;
      }
      node = hasReserve ? await opening : await openFake(disk);
      expect(disk.list('/data/quarantine')).toHaveLength(1);
      await ledger.check(node.space('s'), `reserve: ${hasReserve}`);
      disk.capacityBytes = Number.POSITIVE_INFINITY;
      await node.close();
    }
  });

  test('FAULT-14 ENOSPC at fdatasync is final: pages may be gone', async () => {
    await open();
    disk.inject({ call: 1, errno: 'ENOSPC', only: 'fdatasync' });
    ledger.tried(1, Buffer.from('a'));
    const append = node.space('s').append(1, Buffer.from('a'));
    await expect(append).rejects.toMatchObject({ code: 'WalFailed' });
    expect(node.status().log.state).toBe('failed');
    await soundAgain();
  });

  test('FAULT-15 EROFS: read-only until it is mended; EMFILE: waited for', async () => {
    await open();
    const space = node.space('s');
    await ledger.append(space, 100);
    disk.inject({ call: 1, errno: 'EROFS', only: 'write', isLasting: true });
    await expect(space.append(1, Buffer.from('a'))).rejects.toMatchObject({
      code: 'ReadOnly',
      details: { reason: 'read-only-file-system' },
    });
    expect(node.status().log.state).toBe('read-only');
    disk.inject(undefined);
    await until('it goes on', () => node.status().log.state === 'ok');
    expect(await ledger.append(space, 100)).toBe(true);
    for (const [errno, reason] of [
      ['EACCES', 'access-denied'],
      ['EMFILE', 'too-many-open-files'],
    ] as const) {
      // Making the next segment is what fails; the one that is written is open.
      disk.inject({ call: 1, errno, only: 'open segment', isLasting: true });
      while (await ledger.append(space, 900));
      expect(node.status().log).toEqual({ state: 'read-only', reason });
      await ledger.check(space, errno);
      disk.inject(undefined);
      await until('it goes on', () => node.status().log.state === 'ok');
      expect(await ledger.append(space, 100)).toBe(true);
    }

    const folder = makeFolder();
    const { open: realOpen } = fs;
    let refused = 0;
    vi.spyOn(fs, 'open').mockImplementation(((...args: unknown[]) => {
      const done = args.at(-1) as (error: Error) => void;
      const error = Object.assign(new Error('EMFILE: too many open files'), { code: 'EMFILE' });
      if (refused++ < 2) done(error);
      else (realOpen as (...all: unknown[]) => void)(...args);
    }) as unknown as typeof fs.open);
    const file = await nodeDisk.open(path.join(folder, 'f'), 'create');
    await file.close();
    expect(refused).toBe(3);
    removeFolder(folder);
  });

  test('FAULT-17 power is lost while the next segment is being made', async () => {
    for (let n = 0; n < 24; n++) {
      disk = new FakeDisk();
      ledger = new SpaceLedger('s');
      await open();
      const calls = ['open segment', 'truncate segment', 'fsync segment', 'rename', 'syncdir'];
      disk.inject({ call: 1 + (n % 3), errno: 'EIO', only: calls[n % 5]!, isLasting: true });
      for (let i = 0; i < 40; i++) if (!(await ledger.append(node.space('s'), 900))) break;
      await node.close().catch(() => undefined);
      disk.inject(undefined);
      disk.crash(chanceFrom(SEED + n));
      await soundAgain();
      await node.close();
    }
  });

  test('FAULT-18 power is lost while the state takes its name: either one', async () => {
    for (let n = 0; n < 24; n++) {
      disk = new FakeDisk();
      ledger = new SpaceLedger('s');
      await open();
      const only = ['write state', 'fsync state', 'rename state', 'syncdir'][n % 4]!;
      while (node.status().segments < 2) await ledger.append(node.space('s'), 900);
      disk.inject({ call: 1 + (n % 2), errno: 'EIO', only, isLasting: true });
      for (let i = 0; i < 40; i++) if (!(await ledger.append(node.space('s'), 900))) break;
      await node.close().catch(() => undefined);
      disk.inject(undefined);
      disk.crash(chanceFrom(SEED + n));
      await soundAgain();
      expect(node.space('s').status()).toMatchObject({ role: 'primary', epoch: 1 });
      await node.close();
    }
  });

  test('FAULT-78 a libuv pool that is full of other work: appends go on', async () => {
    const folder = makeFolder();
    const real = await openSmall(path.join(folder, 'a'), 'a');
    node = real;
    const space = await real.openSpace('s');
    await space.append(1, Buffer.from('before'));
    // Opening a pipe for reading waits for a writer: every thread of the pool, and more in line.
    const pipes = Array.from({ length: 16 }, (_, i) => path.join(folder, `pipe-${i}`));
    for (const pipe of pipes) execFileSync('mkfifo', [pipe]);
    const opened = pipes.map((pipe) => fs.promises.open(pipe, 'r'));
    try {
      let isFree = false;
      void fs.promises.stat(folder).then(() => {
        isFree = true;
      });
      for (let i = 0; i < 20; i++) await space.append(1, Buffer.alloc(1_000, i));
      // So long that the log looks after its place before it acknowledges anything.
      await new Promise((resolve) => setTimeout(resolve, 3 * PLACE_LOOK_MS + 200));
      await space.append(1, Buffer.from('late'));
      expect(isFree).toBe(false);
      const { fdatasync } = real.status();
      expect(fdatasync.count).toBeGreaterThanOrEqual(20);
      expect(fdatasync.lastCallMs).toBeGreaterThan(0);
      expect(fdatasync.lastWaitMs).toBeGreaterThanOrEqual(0);
    } finally {
      for (const pipe of pipes) fs.closeSync(fs.openSync(pipe, fs.constants.O_RDWR));
      // One that was not opened for reading yet needs its writer then.
      const writers = pipes.map((pipe) => fs.openSync(pipe, fs.constants.O_RDWR));
      for (const file of await Promise.all(opened)) await file.close();
      for (const fd of writers) fs.closeSync(fd);
    }
    await real.close();
    removeFolder(folder);
  });

  test('FAULT-24 a slow disk: named, Backpressure at the budget, then acks', async () => {
    await open();
    const space = node.space('s');
    const states = heard('log-state');
    disk.delay = { only: 'fdatasync', ms: 2_500 };
    const pending = ledger.append(space, 100);
    let ticks = 0;
    const timer = setInterval(() => ticks++, 10);
    await until('it is called slow', () => states.length > 0);
    expect(states[0]).toMatchObject({ state: 'slow-disk' });
    let taken = 0;
    while (space.tryAppend(1, Buffer.alloc(TINY.maxEntryBytes)) !== undefined) taken++;
    expect(taken * TINY.maxEntryBytes).toBeLessThanOrEqual(TINY.memoryBudgetBytes);
    const refused = space.append(1, Buffer.alloc(TINY.maxEntryBytes), { wait: false });
    await expect(refused).rejects.toMatchObject({ code: 'Backpressure' });
    // The event loop has gone on meanwhile.
    expect(ticks).toBeGreaterThan(20);
    disk.delay = undefined;
    expect(await pending).toBe(true);
    await until('the disk has answered', () => node.status().log.state === 'ok');
    await space.flushed(space.status().lastSequence);
    clearInterval(timer);
  });
});
