/**
 * Limits that differ from life to life, and between nodes: what is on disk is what the files say;
 * where a limit cannot hold, the node or the link says so and names both values.
 */
import path from 'node:path';
import { describe, expect, test } from 'vitest';
import type { Node, NodeOptions } from '#src/main/index.js';
import { readNodeFile, writeNodeFile } from '#src/main/recovery/node-file.js';
import { verifyLog } from '#src/main/repair/verify.js';
import { nodeDisk } from '#src/main/segments/node-disk.js';
import { at, contentOf, EachTest, until } from '../support/cluster.js';
import { openFake } from '../support/fake-cluster.js';
import { chanceFrom, FakeDisk } from '../support/fake-disk.js';

const SEED = Number(process.env.ENGRAM_TEST_SEED ?? Math.floor(Math.random() * 2 ** 31));
const IS_FULL = process.env.ENGRAM_TEST_FULL === '1';
const KiB = 1024;

const SIZES = [
  { segmentBytes: 16 * KiB, groupBytes: 4 * KiB, memoryBudgetBytes: 64 * KiB, maxSpaces: 16 },
  { segmentBytes: 32 * KiB, groupBytes: 8 * KiB, memoryBudgetBytes: 128 * KiB, maxSpaces: 64 },
  { segmentBytes: 20_032, groupBytes: 2_112, memoryBudgetBytes: 64 * KiB, maxSpaces: 4 },
  { segmentBytes: 2_112, groupBytes: 2_112, memoryBudgetBytes: 64 * KiB, maxSpaces: 4 },
] as const;
const MODES = ['per-batch', 'per-write', { timerMs: 5 }, 'none'] as const;
const ENDS = ['close', 'kill', 'power loss'] as const;

async function sequences(node: Node): Promise<number[]> {
  const found: number[] = [];
  for await (const entry of (await node.openSpace('s')).read()) {
    expect(Buffer.from(entry.payload).toString()).toMatch(new RegExp(`^${entry.sequence} `));
    found.push(entry.sequence);
  }
  return found;
}

/** A life: what must be there is; some entries more; an end. @returns what must be there then */
async function life(
  disk: FakeDisk,
  options: Partial<NodeOptions>,
  durable: number,
  end: (typeof ENDS)[number],
  chance: (below: number) => number,
): Promise<number> {
  const node = await openFake(disk, options);
  expect(node.status().holes).toEqual([]);
  const found = await sequences(node);
  expect(found).toEqual(found.map((_, i) => i + 1));
  expect(found.length).toBeGreaterThanOrEqual(durable);
  const space = await node.openSpace('s');
  const appends: Promise<unknown>[] = [];
  for (let n = found.length + 1; n <= found.length + 40; n++) {
    const payload = Buffer.from(`${n} `.padEnd(100 + chance(1_900), '.'));
    appends.push(space.append(1, payload).catch(() => undefined));
    if (chance(3) === 0) await new Promise((resolve) => setImmediate(resolve));
    if (chance(9) === 0) await appends.at(-1);
  }
  if (end === 'close') {
    await Promise.all(appends);
    await node.close();
    return found.length + 40;
  }
  const flushed = space.status().durableSequence;
  if (end === 'kill') disk.kill();
  else disk.crash(chance);
  await node.close().catch(() => undefined);
  return flushed;
}

describe(`limits that change, seed ${SEED}`, () => {
  const pairs = SIZES.flatMap((before, b) =>
    SIZES.flatMap((after, a) => (a === b ? [] : [[b, a, before, after] as const])),
  );

  test.each(pairs)('FAULT-91 sizes %i to %i and back: the log is what it was', async (...pair) => {
    const [b, a, before, after] = pair;
    for (const [m, fsync] of MODES.entries()) {
      for (const [e, end] of ENDS.entries()) {
        if (!IS_FULL && e !== (a + b + m) % ENDS.length) continue;
        const chance = chanceFrom(SEED + 1_000 * b + 100 * a + 10 * m + e);
        const disk = new FakeDisk();
        let durable = 0;
        for (const sizes of [before, after, before, after]) {
          durable = await life(disk, { ...sizes, fsync }, durable, end, chance);
        }
        if (m !== a) continue;
        const { findings } = await verifyLog(disk.mount(), '/data');
        expect(findings.filter((f) => f.level === 'rot' && f.file.endsWith('.log'))).toEqual([]);
      }
    }
  });

  test('FAULT-91 maxEntryBytes below an entry of the log: refused, both are named', async () => {
    const disk = new FakeDisk();
    let node = await openFake(disk, { maxEntryBytes: 2_000 });
    const space = await node.openSpace('s');
    await space.append(1, Buffer.alloc(900));
    await node.close();
    // None is longer: the log is read once, and the limit is the new one.
    node = await openFake(disk, { maxEntryBytes: 1_000 });
    await node.close();
    node = await openFake(disk, { maxEntryBytes: 2_000 });
    await (await node.openSpace('s')).append(1, Buffer.alloc(1_500));
    await node.close();
    await expect(openFake(disk, { maxEntryBytes: 1_000 })).rejects.toMatchObject({
      code: 'Configuration',
      message: expect.stringMatching(/maxEntryBytes 1000.* 1500 bytes/),
    });
    node = await openFake(disk, { maxEntryBytes: 1_500 });
    expect(node.space('s')!.status().lastSequence).toBe(2);
    await node.close();
  });

  test('FAULT-91 maxSpaces below the spaces there are: refused, both are named', async () => {
    const disk = new FakeDisk();
    let node = await openFake(disk, { maxSpaces: 5 });
    for (const name of ['a', 'b', 'c', 'd']) await node.openSpace(name);
    await node.close();
    await expect(openFake(disk, { maxSpaces: 3 })).rejects.toMatchObject({
      code: 'Configuration',
      message: expect.stringMatching(/maxSpaces 3.* 4 spaces/),
    });
    node = await openFake(disk, { maxSpaces: 4 });
    await node.close();
  });
});

describe('limits that differ between nodes', () => {
  const each = new EachTest();
  const listen = { host: '127.0.0.1', port: 0 };

  async function pair(own: Partial<NodeOptions>, theirs: Partial<NodeOptions>): Promise<Node[]> {
    const b = await each.start('b', { ...theirs, listen });
    const a = await each.start('a', { ...own, replicas: [at('b', b.address!.port)] });
    return [a, b];
  }

  const SMALLER: Partial<NodeOptions>[] = [
    { groupBytes: 20 * KiB },
    { segmentBytes: 64 * KiB, memoryBudgetBytes: 300 * KiB },
    { maxSpaces: 2, windowBytes: 64 * KiB },
    { maxEntryBytes: 32 * KiB },
  ];

  test.each(SMALLER)('FAULT-91 a replica with %j takes all that is sent', async (theirs) => {
    const [a, b] = await pair({ windowBytes: 128 * KiB }, theirs);
    const space = await a!.openSpace('s');
    for (let n = 0; n < 20; n++) await space.append(1, Buffer.alloc(16 * KiB, n));
    const there = (): number => b!.status().spaces[0]?.durableSequence ?? 0;
    await until('all is there', () => there() >= 20);
    expect(await contentOf(b!.space('s')!)).toEqual(await contentOf(space));
  });

  const LARGER: Partial<NodeOptions>[] = [
    { maxEntryBytes: 40 * KiB },
    { catchUpBatchBytes: 4 * 1024 * KiB },
  ];

  test.each(LARGER)('FAULT-91 a primary with %j is told what its replica takes', async (own) => {
    const [a] = await pair(own, {});
    await a!.openSpace('s');
    const reason = (): string => a!.status().replicas[0]!.reason;
    await until('it is told', () => /takes less than we send/.test(reason()));
    expect(reason()).toMatch(/ 16384 bytes an entry, \d+ a frame, against \d+ and \d+ here/);
    const isEntry = 'maxEntryBytes' in own;
    const why = isEntry ? /\(maxEntryBytes, or .* is less there\)/ : /\(catchUpBatchBytes is more/;
    expect(reason()).toMatch(why);
  });

  test('FAULT-91 a longer entry that nobody has noted ends the link with its name', async () => {
    const nobody = [at('b', 1)];
    let a = await each.start('a', { maxEntryBytes: 40 * KiB, replicas: nobody });
    await (await a.openSpace('s')).append(1, Buffer.alloc(39 * KiB));
    await a.close();
    const dir = path.join(each.folder, 'a');
    // A directory of before: its node.json says nothing of entries.
    const file = await readNodeFile(nodeDisk, dir);
    const { directoryId } = file;
    await writeNodeFile(nodeDisk, dir, {
      ...file,
      directoryId: directoryId!,
      maxEntryBytes: undefined,
    });
    const [again] = await pair({}, {});
    a = again!;
    const status = () => a.status().replicas[0]!;
    await until('it is told', () => /EntryTooLarge|maxEntryBytes/.test(status().reason));
    expect(status().reason).toMatch(/39936 bytes in the log/);
  });
});
