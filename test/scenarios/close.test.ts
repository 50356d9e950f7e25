/**
 * `close()` whatever the disk is doing: at every call of a life with rolls, checkpoints, a full
 * disk and a failed fdatasync. Nothing is asked of a file that is closed or being closed, nothing
 * of the disk once `close()` has resolved, and what was acknowledged is there afterwards.
 */
import fs from 'node:fs';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Node, NodeOptions } from '#src/main/index.js';
import { openNodeOn } from '#src/main/node/open-node.js';
import { type Disk, type DiskFile, ioError } from '#src/main/segments/disk.js';
import { nodeDisk } from '#src/main/segments/node-disk.js';
import { EachTest, SMALL, until } from '../support/cluster.js';
import { TINY } from '../support/fake-cluster.js';
import { FakeDisk } from '../support/fake-disk.js';
import { SpaceLedger } from '../support/space-ledger.js';

const IS_FULL = process.env.ENGRAM_TEST_FULL === '1';
const SEED = Number(process.env.ENGRAM_TEST_SEED ?? Math.floor(Math.random() * 2 ** 31));
const MODES: NonNullable<NodeOptions['fsync']>[] = [
  'per-batch',
  'per-write',
  { timerMs: 1 },
  'none',
];
const LIVES_AT_ONCE = 16;

const each = new EachTest();
const unhandled: unknown[] = [];
const note = (error: unknown): void => {
  unhandled.push(error);
};

beforeAll(() => {
  process.on('unhandledRejection', note);
});

afterAll(() => {
  process.off('unhandledRejection', note);
});

/** Another disk, watched: what is asked of it that must never be asked. */
class Watched {
  calls = 0;
  isOver = false;
  readonly misuse: string[] = [];
  /** Called at the call of that number. */
  at: { readonly call: number; run(): void } | undefined;

  async #call<T>(what: string, call: () => Promise<T>): Promise<T> {
    this.calls++;
    if (this.isOver) this.misuse.push(`${what} after close() has resolved`);
    const { at } = this;
    if (at?.call === this.calls) at.run();
    return await call();
  }

  wrap(disk: Disk): Disk {
    const on =
      <A extends unknown[], T>(what: string, call: (...given: A) => Promise<T>) =>
      (...given: A): Promise<T> =>
        this.#call(`${what} ${String(given[0])}`, () => call(...given));
    return {
      ...disk,
      open: async (...asked) =>
        this.#file(await this.#call(`open ${asked[0]}`, () => disk.open(...asked))),
      rename: on('rename', disk.rename),
      remove: on('remove', disk.remove),
      list: on('list', disk.list),
      makeDir: on('mkdir', disk.makeDir),
      removeDir: on('rmdir', disk.removeDir),
      syncDir: on('syncdir', disk.syncDir),
      freeBytes: on('statfs', disk.freeBytes),
    };
  }

  #file(file: DiskFile): DiskFile {
    let underWay = 0;
    let isClosed = false;
    const run = async <T>(what: string, call: () => Promise<T>): Promise<T> => {
      if (isClosed) this.misuse.push(`${what} of ${file.path}, which is closed`);
      underWay++;
      try {
        return await this.#call(`${what} of ${file.path}`, call);
      } finally {
        underWay--;
      }
    };
    return {
      path: file.path,
      write: (bytes, position) => run('write', () => file.write(bytes, position)),
      sync: () => run('fdatasync', () => file.sync()),
      syncAll: () => run('fsync', () => file.syncAll()),
      read: (into, position) => run('read', () => file.read(into, position)),
      truncate: (bytes) => run('truncate', () => file.truncate(bytes)),
      size: () => run('stat', () => file.size()),
      close: async () => {
        if (isClosed) this.misuse.push(`close of ${file.path}, which is closed`);
        if (underWay > 0) this.misuse.push(`close of ${file.path} while a call is under way`);
        isClosed = true;
        await this.#call(`close of ${file.path}`, () => file.close());
      },
    };
  }
}

interface Life {
  readonly disk: FakeDisk;
  readonly watched: Watched;
  readonly ledger: SpaceLedger;
  readonly fsync: (typeof MODES)[number];
  readonly fault: Fault;
}

type Fault = 'none' | 'full' | 'EIO';

function newLife(fault: Fault, fsync: Life['fsync']): Life {
  const disk = new FakeDisk();
  const ledger = new SpaceLedger('s');
  ledger.promise = fsync === 'none' || typeof fsync === 'object' ? 'written' : 'durable';
  return { disk, watched: new Watched(), ledger, fsync, fault };
}

function open({ disk, watched, fsync }: Life): Promise<Node> {
  const options = { ...TINY, dataDir: '/data', nodeId: 'a', fsync };
  return openNodeOn(watched.wrap(disk.mount()), options);
}

/** Appends over rolls, checkpoints, reads; meets its fault; until it is closed or has done all. */
async function live(node: Node, life: Life): Promise<void> {
  const { disk, ledger, fault } = life;
  const space = await node.openSpace('s');
  for (let round = 0; round < 12 && !node.isClosing; round++) {
    if (round === 6 && fault === 'full') disk.capacityBytes = disk.usedBytes + 2_000;
    if (round === 6 && fault === 'EIO') disk.inject({ call: 2, errno: 'EIO', only: 'fdatasync' });
    const batch = ledger.appendBatch(space, [900, 0, 1_200]);
    const reading = (async () => {
      for await (const _ of space.read()) if (node.isClosing) return;
    })().catch((error) => expect(error).toHaveProperty('code'));
    await Promise.all([ledger.append(space, 1_500), batch, reading]);
    const { durableSequence } = space.status();
    ledger.covered(durableSequence);
    if (round % 4 === 3 && durableSequence > 0) {
      ledger.checkpoint = durableSequence;
      await space.checkpoint(durableSequence).catch((error) => {
        expect(error).toHaveProperty('code');
      });
    }
    if (round === 8) {
      disk.capacityBytes = Number.POSITIVE_INFINITY;
      if (fault === 'full') {
        await until('goes on', () => node.isClosing || node.status().log.state === 'ok');
      }
    }
  }
}

/** One life, closed at its n-th call of the disk after opening. @returns how many it has made */
async function closedAt(n: number, life: Life): Promise<number> {
  const { disk, watched, ledger } = life;
  const what = `close() at call ${n}, ${life.fault}, ${JSON.stringify(life.fsync)}`;
  const node = await open(life);
  let closed: Promise<void> | undefined;
  const close = (): Promise<void> => {
    closed ??= Promise.all([node.close(), node.close()]).then(() => {
      watched.isOver = true;
    });
    return closed;
  };
  const opening = watched.calls;
  watched.at = { call: opening + n, run: () => void close().catch(() => undefined) };
  await live(node, life).catch((error) => expect(error, what).toHaveProperty('code'));
  const made = watched.calls - opening;
  await close();
  // What was forgotten would come now.
  for (let turn = 0; turn < 50; turn++) await new Promise((resolve) => setImmediate(resolve));
  await new Promise((resolve) => setTimeout(resolve, 20));
  expect(watched.misuse, what).toEqual([]);
  disk.inject(undefined);
  disk.capacityBytes = Number.POSITIVE_INFINITY;
  disk.kill();
  ledger.ended(life.fault === 'EIO' ? 'cache lost' : 'closed');
  const again = newLife('none', 'per-batch');
  const later = await open({ ...again, disk });
  // What was acknowledged without an fdatasync is lost with one that fails.
  const isKept = life.fault !== 'EIO' || !(life.fsync === 'none' || typeof life.fsync === 'object');
  const found = isKept ? ledger : new SpaceLedger('t');
  await found.check(await later.openSpace(found.name), what);
  expect(await found.append(later.space(found.name), 10), what).toBe(true);
  await later.close();
  return made;
}

describe(`close() at every call, seed ${SEED}`, () => {
  test.each<Fault>([
    'none',
    'full',
    'EIO',
  ])('FAULT-98 nothing after the end, fault: %s', async (fault) => {
    const works: (() => Promise<unknown>)[] = [];
    for (const fsync of MODES) {
      const all = await closedAt(Number.MAX_SAFE_INTEGER, newLife(fault, fsync));
      const step = IS_FULL ? 1 : Math.ceil(all / 8);
      for (let n = 1 + (SEED % step); n <= all; n += step) {
        works.push(() => closedAt(n, newLife(fault, fsync)));
      }
    }
    const worker = async (): Promise<void> => {
      for (let work = works.shift(); work; work = works.shift()) await work();
    };
    await Promise.all(Array.from({ length: LIVES_AT_ONCE }, worker));
    expect(unhandled).toEqual([]);
  });
});

/** This machine's disk: full at one write of the log, slow when it is zeroed. */
function onceFull(told: { isFull: boolean; zeroed: number; closed(): void }): Disk {
  return {
    ...nodeDisk,
    open: async (file, how) => {
      const opened = await nodeDisk.open(file, how);
      return {
        path: file,
        write: async (bytes, position) => {
          const isLog = /^(wal-|segment)/.test(path.basename(file));
          if (isLog && told.isFull) {
            told.isFull = false;
            const cause = Object.assign(new Error('ENOSPC: full'), { code: 'ENOSPC' });
            throw ioError('write', cause);
          }
          if (isLog && bytes.length === 1024 * 1024) {
            told.zeroed++;
            await new Promise((resolve) => setTimeout(resolve, 5));
          }
          await opened.write(bytes, position);
        },
        sync: () => opened.sync(),
        syncAll: () => opened.syncAll(),
        read: (into, position) => opened.read(into, position),
        truncate: (bytes) => opened.truncate(bytes),
        size: () => opened.size(),
        close: async () => {
          await opened.close();
          told.closed();
        },
      };
    },
  };
}

test('FAULT-98 close() while the log is made fit again: the host’s files are its own', async () => {
  const content = Buffer.alloc(64 * 1024, 0x68);
  const fds: number[] = [];
  let isClosing = false;
  const told = {
    isFull: false,
    zeroed: 0,
    // The number that the log gives back is the host's at once.
    closed: () => {
      if (!isClosing) return;
      const fd = fs.openSync(path.join(each.folder, `host-${fds.length}`), 'w+');
      fs.writeSync(fd, content);
      fds.push(fd);
    },
  };
  const options = { ...SMALL, segmentBytes: 64 * 1024 * 1024, nodeId: 'a' };
  const dataDir = path.join(each.folder, 'a');
  const node = await openNodeOn(onceFull(told), { ...options, dataDir });
  each.finally(() => node.close());
  const space = await node.openSpace('s');
  await space.append(1, Buffer.from('kept'));
  told.isFull = true;
  await expect(space.append(1, Buffer.from('x'))).rejects.toMatchObject({ code: 'DiskFull' });
  await until('it is being zeroed', () => told.zeroed > 2);
  isClosing = true;
  await node.close();
  each.finally(() => {
    for (const fd of fds) fs.closeSync(fd);
  });
  const { zeroed } = told;
  await new Promise((resolve) => setTimeout(resolve, 500));
  expect(told.zeroed, 'zeros after the end').toBe(zeroed);
  expect(fds.length).toBeGreaterThan(1);
  for (const fd of fds) {
    const found = Buffer.alloc(content.length);
    expect(fs.fstatSync(fd).size).toBe(content.length);
    fs.readSync(fd, found, 0, found.length, 0);
    expect(found.equals(content)).toBe(true);
  }
  const again = await openNodeOn(nodeDisk, { ...options, dataDir });
  each.finally(() => again.close());
  expect(again.space('s').status().durableSequence).toBe(1);
});
