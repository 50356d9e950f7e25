/**
 * What a power loss, or rot, does where one segment ends and the next one begins: the first group
 * of a fresh segment is no worse off than any other, and a list of segments may be an old one.
 */
import path from 'node:path';
import { describe, expect, test } from 'vitest';
import type { Node, NodeEvents, NodeOptions } from '#src/main/index.js';
import { readNodeFile } from '#src/main/recovery/node-file.js';
import { newestState } from '#src/main/recovery/recovery.js';
import { verifyLog } from '#src/main/repair/verify.js';
import { walkSegment } from '#src/main/segments/walk.js';
import { segmentName } from '#src/shared/log/segment.js';
import { heard } from '../support/cluster.js';
import { openFake, TINY } from '../support/fake-cluster.js';
import { chanceFrom, FakeDisk } from '../support/fake-disk.js';

const SEED = Number(process.env.ENGRAM_TEST_SEED ?? Math.floor(Math.random() * 2 ** 31));
const CRASHES = process.env.ENGRAM_TEST_FULL === '1' ? 400 : 40;
const DIR = '/data';
const SIZE = TINY.segmentBytes;

function payload(n: number, size = 1_400): Buffer {
  return Buffer.from(`${n} `.padEnd(size, '.'));
}

/** Sequences of what is there; each entry is what was appended as the n-th. */
async function sequences(node: Node): Promise<number[]> {
  const found: number[] = [];
  const space = node.space('s');
  if (!space) return found;
  for await (const entry of space.read()) {
    expect(Buffer.from(entry.payload).toString()).toMatch(new RegExp(`^${entry.sequence} `));
    found.push(entry.sequence);
  }
  return found;
}

const upTo = (n: number): number[] => Array.from({ length: n }, (_, i) => i + 1);

function nameOf(start: number): string {
  return `${DIR}/wal-${start.toString(16).padStart(16, '0')}.log`;
}

/** LSN of each good entry in a row from a segment's head on. */
async function entriesOf(disk: FakeDisk, start: number): Promise<number[]> {
  const mount = disk.mount();
  if (!disk.list(DIR).includes(path.basename(nameOf(start)))) return [];
  const { logSalt } = await readNodeFile(mount, DIR);
  const file = await mount.open(nameOf(start), 'read');
  const found: number[] = [];
  await walkSegment(file, { start, size: SIZE }, start, logSalt, (_b, _v, _a, lsn) => {
    found.push(lsn);
  });
  await file.close();
  return found;
}

/** Bit flips durably. */
function flip(disk: FakeDisk, lsn: number): void {
  const start = Math.floor(lsn / SIZE) * SIZE;
  disk.edit(nameOf(start), (bytes) => {
    bytes[lsn - start + 8]! ^= 0x10;
  });
}

interface Life {
  readonly disk: FakeDisk;
  readonly count: number;
}

interface Opened {
  readonly node: Node;
  readonly torn: NodeEvents['torn-tail'][];
}

async function open(disk: FakeDisk, more: Partial<NodeOptions> = {}): Promise<Opened> {
  const node = await openFake(disk, more);
  const torn = heard(node, 'torn-tail');
  // Told once the host has the node.
  await new Promise((resolve) => setImmediate(resolve));
  return { node, torn };
}

describe(`the end of one segment and the head of the next, seed ${SEED}`, () => {
  test.each([
    ['timer', { timerMs: 40 }],
    ['none', 'none'],
  ] as const)('FAULT-99 %s: power loss at a roll cuts, loses nothing flushed', async (_, fsync) => {
    for (let n = 0; n < CRASHES; n++) {
      const chance = chanceFrom(SEED + n);
      const disk = new FakeDisk();
      const node = await openFake(disk, { fsync });
      const space = await node.openSpace('s');
      // Some writes into one of the first segments behind a roll.
      const rolls = 1 + chance(2);
      let heads = 0;
      let isOver = false;
      const isBehind = (call: string): boolean => {
        if (!/^write wal-\w+\.log /.test(call)) return false;
        if (call.endsWith('@0')) heads++;
        return heads > rolls;
      };
      disk.when(isBehind, 1 + chance(5), () => {
        isOver = true;
      });
      for (let i = 1; !isOver && i < 1_000; i++) {
        const size = 300 + 100 * chance(14);
        space.append(1, payload(i, size)).catch(() => undefined);
        // Groups of some entries, several of them on their way at once.
        if (chance(3) > 0) await new Promise((resolve) => setImmediate(resolve));
      }
      for (let turns = chance(4); turns > 0; turns--) {
        await new Promise((resolve) => setImmediate(resolve));
      }
      const flushed = space.status().durableSequence;
      disk.crash(chance);
      await node.close().catch(() => undefined);

      if (n % 4 === 0) {
        const { findings } = await verifyLog(disk.mount(), DIR);
        expect(findings.filter((f) => f.level === 'rot')).toEqual([]);
      }
      const again = await openFake(disk, { fsync });
      expect(again.status().holes).toEqual([]);
      const found = await sequences(again);
      expect(found).toEqual(upTo(found.length));
      expect(found.length).toBeGreaterThanOrEqual(flushed);
      await again.close();
    }
  });

  /**
   * A life that is killed when the first group of the last of so many segments is acknowledged.
   * @param isListed a state has been written behind it
   */
  async function rolled(segments: number, batch: number, isListed = false): Promise<Life> {
    const disk = new FakeDisk();
    const node = await openFake(disk);
    const space = await node.openSpace('s');
    // The states that rolls write stay on their way.
    if (!isListed) disk.delay = { only: 'open state', ms: 60_000 };
    const head = SIZE * (segments - 1);
    let n = 0;
    const next = (): Buffer => payload(++n, 1_000);
    while ((await entriesOf(disk, head)).length === 0) {
      await space.appendBatch(1, Array.from({ length: batch }, next));
    }
    while (isListed && ((await newestState(disk.mount(), DIR))?.durableLsn ?? 0) <= head) {
      await space.checkpoint(1);
    }
    disk.kill();
    disk.delay = undefined;
    await node.close().catch(() => undefined);
    return { disk, count: n };
  }

  /** Opens, writes on, opens again. */
  async function goesOn(disk: FakeDisk, kept: number): Promise<void> {
    const { node } = await open(disk);
    expect(node.status().holes).toEqual([]);
    expect(await sequences(node)).toEqual(upTo(kept));
    const space = await node.openSpace('s');
    for (let n = kept + 1; n <= kept + 3; n++) await space.append(1, payload(n));
    await node.close();
    const again = await openFake(disk);
    expect(await sequences(again)).toEqual(upTo(kept + 3));
    await again.close();
  }

  test('FAULT-100 a torn head of a fresh segment: told, refused by strictTail', async () => {
    const { disk, count } = await rolled(2, 1);
    flip(disk, SIZE);
    const strict = openFake(disk, { strictTail: true });
    await expect(strict).rejects.toMatchObject({ code: 'CorruptionDetected' });
    const { node, torn } = await open(disk);
    expect(torn).toEqual([{ lsn: SIZE, bytes: 64, quarantine: undefined }]);
    await node.close();
    await goesOn(disk, count - 1);
  });

  test('FAULT-100 good entries behind a torn head go to quarantine', async () => {
    const { disk, count } = await rolled(2, 3);
    flip(disk, SIZE);
    const { node, torn } = await open(disk);
    expect(torn).toMatchObject([{ lsn: SIZE }]);
    expect(torn[0]!.quarantine).toBeDefined();
    await node.close();
    await goesOn(disk, count - 3);
  });

  test('FAULT-100 a head that a state covers is rotten: told what is lost', async () => {
    const { disk, count } = await rolled(2, 1, true);
    for (const lsn of await entriesOf(disk, SIZE)) flip(disk, lsn);
    const { node, torn } = await open(disk);
    // What stands behind the state's end may be torn.
    const [hole] = node.status().holes;
    expect(hole).toMatchObject({ start: SIZE });
    for (const { lsn } of torn) expect(lsn).toBeGreaterThanOrEqual(hole!.end);
    const space = node.space('s')!;
    expect(space.status().damage).toHaveLength(1);
    expect(await sequences(node).catch((error) => error.code)).toBe('CorruptionDetected');
    await expect(space.append(1, payload(count))).rejects.toMatchObject({
      code: 'CorruptionDetected',
    });
    await node.close();
  });

  test('FAULT-100 a segment wholly zero, another one behind it: rotten', async () => {
    const { disk } = await rolled(3, 1);
    disk.edit(nameOf(SIZE), (bytes) => bytes.fill(0));
    const { node } = await open(disk);
    expect(node.status().holes).toMatchObject([{ start: SIZE }]);
    const { damage } = node.space('s')!.status();
    expect(damage[0]!.from).toBe((await entriesOf(disk, 0)).length);
    await node.close();
    const { findings } = await verifyLog(disk.mount(), DIR);
    expect(findings.filter((f) => f.level === 'rot')).not.toEqual([]);
  });

  test('FAULT-100 two fresh segments: the one behind a torn head is empty', async () => {
    const { disk, count } = await rolled(2, 1);
    expect(disk.list(DIR)).toContain(path.basename(nameOf(2 * SIZE)));
    disk.edit(nameOf(SIZE), (bytes) => bytes.fill(0x55, 0, 64).fill(0, 64));
    const { node, torn } = await open(disk);
    expect(torn).toHaveLength(1);
    await node.close();
    await goesOn(disk, count - 1);
  });

  test('FAULT-101 the older state counts, and its ends are older than the files', async () => {
    // The roll's own state lists the first segment as ended; the first write behind it is lost.
    const disk = new FakeDisk();
    const first = await openFake(disk);
    const before = await first.openSpace('s');
    disk.when(
      (call) => /^write wal-\w+\.log \d+@0$/.test(call),
      1,
      () => {
        disk.delay = { only: `write ${segmentName(SIZE)}`, ms: 60_000 };
      },
    );
    const isListed = async (): Promise<boolean> =>
      (await newestState(disk.mount(), DIR))!.segments.length > 1;
    let n = 0;
    while (!disk.delay) {
      before.append(1, payload(++n)).catch(() => undefined);
      for (let i = 0; i < 40; i++) await new Promise((resolve) => setImmediate(resolve));
    }
    while (!(await isListed())) await new Promise((resolve) => setImmediate(resolve));
    disk.kill();
    disk.delay = undefined;
    await first.close().catch(() => undefined);
    const { durableLsn, segments } = (await newestState(disk.mount(), DIR))!;
    expect(durableLsn).toBeLessThanOrEqual(segments[0]!.end!);
    disk.edit(nameOf(SIZE), (bytes) => bytes.fill(0));

    const second = await openFake(disk);
    const space = await second.openSpace('s');
    const kept = (await sequences(second)).length;
    expect(kept).toBe(n - 1);
    for (let i = 1; i <= 4; i++) await space.append(1, payload(kept + i, 10));
    disk.kill();
    await second.close().catch(() => undefined);
    const newest = (await newestState(disk.mount(), DIR))!;
    expect(newest.segments).toHaveLength(1);
    disk.edit(`${DIR}/state-${newest.generation % 2}`, (bytes) => bytes.fill(0));

    const older = (await newestState(disk.mount(), DIR))!;
    expect(older.segments).toHaveLength(2);
    const { findings } = await verifyLog(disk.mount(), DIR);
    expect(findings.filter((f) => f.level === 'rot' && f.file.startsWith('wal'))).toEqual([]);
    await goesOn(disk, kept + 4);
  });
});
