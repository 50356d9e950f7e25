/** Reading from the end, from a time, backwards: what comes, and what it costs. */
import fs from 'node:fs';
import path from 'node:path';
import { runInNewContext } from 'node:vm';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { EngramError, Entry, Node, ReadRange, Space } from '#src/main/index.js';
import { openNodeOn } from '#src/main/node/open-node.js';
import { nodeDisk } from '#src/main/segments/node-disk.js';
import { EachTest, SMALL, until } from '../support/cluster.js';
import { CountingDisk } from '../support/counting-disk.js';

const life = new EachTest();
const KiB = 1024;

async function all(space: Space, range: ReadRange = {}): Promise<Entry[]> {
  const found: Entry[] = [];
  for await (const entry of space.read(range)) found.push(entry);
  return found;
}

const numbersOf = (entries: readonly Entry[]): number[] => entries.map((e) => e.sequence);

/** Of `mine` some entries, of others many, over a dozen segments. */
async function filled(node: Node): Promise<Space> {
  const mine = await node.openSpace('mine');
  const other = await node.openSpace('other');
  for (let turn = 0; turn < 60; turn++) {
    await mine.appendBatch(
      1,
      Array.from({ length: 1 + (turn % 7) }, (_, i) => Buffer.alloc(100 + 37 * i)),
    );
    await other.appendBatch(
      1,
      Array.from({ length: 4 }, () => Buffer.alloc(12 * KiB)),
    );
  }
  return mine;
}

/** What of these entries a range means, in ten lines. */
function meant(entries: readonly Entry[], range: ReadRange): number[] {
  const { from = 1, to = entries.length, last, reverse } = range;
  const since = range.fromTime as bigint | undefined;
  const wanted = entries
    .slice(0, to)
    .filter((e) => e.sequence >= from && (since === undefined || e.timestamp >= since));
  const some = last === undefined ? wanted : wanted.slice(-last);
  return numbersOf(reverse ? some.reverse() : some);
}

describe('of a space among others', () => {
  test('any range gives what it means, before and after a restart', async () => {
    let node = await life.start('a');
    let space = await filled(node);
    const entries = await all(space);
    const n = entries.length;
    expect(node.status().segments).toBeGreaterThan(8);
    const times = entries.flatMap(({ timestamp }) => [timestamp - 1n, timestamp, timestamp + 1n]);
    const sequence = fc.integer({ min: 1, max: n });
    const begins = fc.oneof(
      fc.record({ from: sequence }),
      fc.record({ last: fc.integer({ min: 1, max: n + 5 }) }),
      fc.record({ fromTime: fc.constantFrom(...times) }),
      fc.constant({}),
    );
    const ends = fc.record({ to: sequence, reverse: fc.boolean() }, { requiredKeys: [] });
    const check = (): Promise<void> =>
      fc.assert(
        fc.asyncProperty(begins, ends, async (begin, end) => {
          const range: ReadRange = { ...begin, ...end };
          expect(numbersOf(await all(space, range))).toEqual(meant(entries, range));
          if (range.fromTime === undefined) return;
          const sought = meant(entries, { fromTime: range.fromTime })[0] ?? n + 1;
          expect(await space.seek(range.fromTime)).toBe(sought);
        }),
        { numRuns: 100 },
      );
    await check();
    await node.close();
    node = await life.start('a');
    space = node.space('mine');
    await check();
    expect(await space.seek(new Date(0))).toBe(1);
    expect(await space.seek(runInNewContext('new Date(0)') as Date)).toBe(1);
    expect(await space.seek(new Date(Date.now() + 60_000))).toBe(n + 1);
  });

  test('what no range can be is refused; so is what is not retained', async () => {
    const node = await life.start('a');
    const space = await filled(node);
    const wrong = [{ last: 0 }, { reverse: 1 }, { fromTime: 5 }, { from: 1, last: 1 }];
    for (const range of [...wrong, { last: 1, fromTime: 1n }, { fromTime: new Date(Number.NaN) }]) {
      await expect(all(space, range as ReadRange)).rejects.toMatchObject({ code: 'Configuration' });
    }
    await expect(space.seek(1 as never)).rejects.toMatchObject({ code: 'Configuration' });
    const { lastSequence } = space.status();
    await space.checkpoint(lastSequence);
    const other = node.space('other');
    await other.checkpoint(other.status().lastSequence);
    await until('segments are freed', () => space.status().firstSequence > 1);
    const { firstSequence } = space.status();
    expect(numbersOf(await all(space, { reverse: true })).at(-1)).toBe(firstSequence);
    expect(await all(space, { last: 10_000 })).toHaveLength(lastSequence - firstSequence + 1);
    expect(await space.seek(0n)).toBe(firstSequence);
    const given: number[] = [];
    const below = async (): Promise<void> => {
      for await (const e of space.read({ from: 1, reverse: true })) given.push(e.sequence);
    };
    await expect(below()).rejects.toMatchObject({ code: 'Trimmed' });
    expect(given.at(-1)).toBe(firstSequence);
  });

  test('backwards up to a damaged entry, which is named; from behind it on', async () => {
    let node = await life.start('a');
    const space = await node.openSpace('s');
    for (let n = 0; n < 40; n++) await space.append(1, Buffer.alloc(1_000, n));
    await node.close();
    const file = path.join(life.folder, 'a', 'wal-0000000000000000.log');
    const bytes = fs.readFileSync(file);
    bytes[bytes.indexOf(Buffer.alloc(1_000, 17)) + 500]! ^= 1;
    fs.writeFileSync(file, bytes);
    node = await life.start('a');
    const given: number[] = [];
    const read = async (): Promise<void> => {
      for await (const e of node.space('s').read({ reverse: true })) given.push(e.sequence);
    };
    const error = (await read().catch((e) => e)) as EngramError;
    expect(error).toMatchObject({ code: 'CorruptionDetected', details: { from: 18, to: 18 } });
    expect(given).toEqual(Array.from({ length: 22 }, (_, i) => 40 - i));
    expect(await all(node.space('s'), { last: 22 })).toHaveLength(22);
  });
});

describe('cost', () => {
  const SIZES = { ...SMALL, segmentBytes: 1024 * KiB, memoryBudgetBytes: 64 * 1024 * KiB };

  test('FAULT-103 the newest, and those of a time, cost little of a long log', async () => {
    const counting = new CountingDisk(nodeDisk);
    const open = async (): Promise<Node> => {
      const dataDir = path.join(life.folder, 'a');
      const node = await openNodeOn(counting.disk, { ...SIZES, dataDir, nodeId: 'a' });
      life.finally(() => node.close());
      return node;
    };
    let node = await open();
    const space = await node.openSpace('s');
    const times: bigint[] = [];
    while (node.summary().durableLsn < 16 * SIZES.segmentBytes) {
      times.push(BigInt(Date.now()) * 1_000_000n);
      await space.appendBatch(
        1,
        Array.from({ length: 60 }, () => Buffer.alloc(KiB)),
      );
      await new Promise((resolve) => setTimeout(resolve, 2));
    }
    await node.close();
    node = await open();
    const log = node.summary().durableLsn;
    const again = node.space('s');
    const newest = await counting.of(() => all(again, { last: 10 }));
    expect(newest).toBeLessThan(400 * KiB);
    const backwards = await counting.of(() => all(again, { last: 10, reverse: true }));
    expect(backwards).toBeLessThan(400 * KiB);
    const left = await counting.of(async () => {
      for await (const _ of again.read({ reverse: true })) return;
    });
    expect(left).toBeLessThan(400 * KiB);
    for (const time of [times[3]!, times[times.length >> 1]!, times.at(-3)!]) {
      const cost = await counting.of(() => again.seek(time));
      expect(cost).toBeLessThan(700 * KiB);
      const entries = await counting.of(async () => {
        for await (const entry of again.read({ fromTime: time })) {
          expect(entry.timestamp).toBeGreaterThanOrEqual(time);
          return;
        }
      });
      expect(entries).toBeLessThan(1_200 * KiB);
    }
    // All of it, newest first, is read about once.
    const whole = await counting.of(() => all(again, { reverse: true }));
    expect(whole).toBeLessThan(1.5 * log);
  });
});
