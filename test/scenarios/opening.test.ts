/** Openings that are refused: always with a code of ours, and the directory is left as it was. */
import { once } from 'node:events';
import fs from 'node:fs';
import net, { type AddressInfo } from 'node:net';
import path from 'node:path';
import { describe, expect, test } from 'vitest';
import type { NodeOptions } from '#src/main/index.js';
import { EngramError, openNode } from '#src/main/index.js';
import { ERROR_CODES } from '#src/shared/errors.js';
import { EachTest, openSmall, SMALL, until } from '../support/cluster.js';
import { openFake, TINY } from '../support/fake-cluster.js';
import { FakeDisk } from '../support/fake-disk.js';

const each = new EachTest();

async function refusal(options: Partial<NodeOptions>): Promise<EngramError> {
  const opened = openNode({ ...SMALL, nodeId: 'a', dataDir: each.folder, ...options });
  const error = await opened.then(
    async (node) => {
      await node.close();
      throw new Error('it was opened');
    },
    (reason) => reason,
  );
  isTyped(error, JSON.stringify(options));
  return error;
}

function isTyped(error: unknown, what: string): void {
  expect(error, what).toBeInstanceOf(EngramError);
  const { code, remedy, message } = error as EngramError;
  expect(ERROR_CODES, what).toContain(code);
  expect(message, what).toContain(remedy);
}

/** Names, sizes, times of change of a directory's files, and its own mode. */
function stateOf(dir: string): string[] {
  const names = fs.readdirSync(dir).sort();
  return names.map((name) => {
    const { size, mtimeMs, mode } = fs.statSync(path.join(dir, name));
    return `${name} ${size} ${mtimeMs} ${mode}`;
  });
}

describe('every refusal of openNode has a code', () => {
  test('a NUL in dataDir', async () => {
    expect(await refusal({ dataDir: `${each.folder}/a\0b` })).toMatchObject({
      code: 'Configuration',
      details: { option: 'dataDir' },
    });
  });

  test('dataDir is a file, is below a file, is too long', async () => {
    const file = path.join(each.folder, 'file');
    fs.writeFileSync(file, 'x');
    expect(await refusal({ dataDir: file })).toMatchObject({ code: 'DataRootUnavailable' });
    expect(await refusal({ dataDir: path.join(file, 'a') })).toMatchObject({
      code: 'DataRootUnavailable',
    });
    const long = path.join(each.folder, 'x'.repeat(300));
    expect(await refusal({ dataDir: long })).toMatchObject({ code: 'DataRootUnavailable' });
    expect(fs.readFileSync(file, 'utf8')).toBe('x');
  });

  test('what must be a file is a directory, and the other way round', async () => {
    for (const name of ['lock', 'node.json', 'state-0', 'wal-0000000000000000.log']) {
      const dataDir = path.join(each.folder, `of ${name}`);
      fs.mkdirSync(path.join(dataDir, name), { recursive: true });
      expect(await refusal({ dataDir })).toMatchObject({ code: 'Io' });
    }
  });

  test('dataDir on a file system that takes no directory, root’s neither', async () => {
    expect(await refusal({ dataDir: '/proc/engram-wal' })).toMatchObject({
      code: 'DataRootUnavailable',
    });
    expect(await refusal({ dataDir: '/proc' })).toMatchObject({ code: 'DataRootUnavailable' });
  });

  test('more memory than there is', async () => {
    const memoryBudgetBytes = 2 ** 46;
    const groupBytes = 2 ** 30;
    const sizes = { memoryBudgetBytes, groupBytes, segmentBytes: 2 ** 30 };
    await refusal({ ...sizes, dataDir: path.join(each.folder, 'memory') });
  });

  test.each([
    'ENOSPC',
    'EIO',
    'EACCES',
    'EROFS',
    'EMFILE',
  ])('%s at each call of opening', async (errno) => {
    const counted = new FakeDisk();
    counted.inject(undefined);
    await (await openFake(counted)).close();
    const all = counted.calls.length;
    let refused = 0;
    for (let n = 1; n <= all; n++) {
      const disk = new FakeDisk();
      disk.inject({ call: n, errno, isLasting: true });
      const node = await openFake(disk).catch((error) => {
        isTyped(error, `${errno} at call ${n}: ${disk.calls[n - 1]}`);
        refused++;
      });
      await node?.close().catch(() => undefined);
      disk.inject(undefined);
      disk.kill();
      await (await openFake(disk)).close();
    }
    expect(refused).toBeGreaterThan(10);
  });
});

describe('a directory that is refused is left as it was', () => {
  test('one of Engram itself, by its entries or by its names', async () => {
    const golden = path.join(import.meta.dirname, '../golden/engram-wal/02-payload-sizes');
    const one = path.join(each.folder, 'one');
    fs.cpSync(golden, one, { recursive: true });
    const two = path.join(each.folder, 'two');
    fs.mkdirSync(two);
    fs.writeFileSync(path.join(two, 'wal-current.log'), '');
    for (const dataDir of [one, two]) {
      const before = stateOf(dataDir);
      expect(await refusal({ dataDir })).toMatchObject({ code: 'EngramDirectory' });
      expect(stateOf(dataDir)).toEqual(before);
    }
  });

  test('one of another node, closed properly and without its lock file', async () => {
    const dataDir = path.join(each.folder, 'b');
    await (await openSmall(dataDir, 'b')).close();
    fs.rmSync(path.join(dataDir, 'lock'));
    const before = stateOf(dataDir);
    expect(await refusal({ dataDir })).toMatchObject({ code: 'Configuration' });
    expect(stateOf(dataDir)).toEqual(before);
  });

  test('one in use', async () => {
    const dataDir = path.join(each.folder, 'c');
    const node = await openSmall(dataDir, 'c');
    each.finally(() => node.close());
    await (await node.openSpace('s')).append(1, Buffer.from('x'));
    const before = fs.readdirSync(dataDir).sort();
    expect(await refusal({ dataDir, nodeId: 'c' })).toMatchObject({ code: 'Locked' });
    expect(fs.readdirSync(dataDir).sort()).toEqual(before);
  });
});

test('spares of another size and what was never finished go at the next opening', async () => {
  const disk = new FakeDisk();
  let node = await openFake(disk);
  const space = await node.openSpace('s');
  for (let n = 0; n < 60; n++) await space.append(1, Buffer.alloc(1_500));
  await space.checkpoint(60);
  const spares = (): string[] => disk.list('/data').filter((name) => name.startsWith('spare-'));
  await until('there are spares', () => spares().length > 1);
  await node.close();
  expect(spares().length).toBeGreaterThan(0);
  const temporary = disk.mount();
  for (const name of ['repair.tmp', 'state-1.tmp', 'wal-0000000000000000.idx.tmp', 'mine.tmp']) {
    await (await temporary.open(`/data/${name}`, 'create')).close();
  }
  node = await openFake(disk, { segmentBytes: 2 * TINY.segmentBytes });
  expect(spares()).toEqual([]);
  // The next segment may be in the making.
  const unfinished = (): string[] => disk.list('/data').filter((name) => name.endsWith('.tmp'));
  await until('nothing is unfinished', () => unfinished().join() === 'mine.tmp');
  await node.close();
});

test('an opening that is refused half-way is no crash of the node', async () => {
  const taken = net.createServer().listen(0, '127.0.0.1');
  await once(taken, 'listening');
  each.finally(() => taken.close());
  const { port } = taken.address() as AddressInfo;
  expect(await refusal({ listen: { host: '127.0.0.1', port } })).toBeInstanceOf(EngramError);
  const node = await openSmall(each.folder, 'a');
  each.finally(() => node.close());
  expect(node.summary().crashes).toBe(0);
});
