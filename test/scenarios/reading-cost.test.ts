/** What reading costs: bytes of the disk that are looked at, beside what was asked for. */
import fs from 'node:fs';
import path from 'node:path';
import { describe, expect, test } from 'vitest';
import type { Node, NodeOptions, Space } from '#src/main/index.js';
import { openNodeOn } from '#src/main/node/open-node.js';
import type { Disk } from '#src/main/segments/disk.js';
import { nodeDisk } from '#src/main/segments/node-disk.js';
import { INDEX_EVERY_BYTES } from '#src/shared/limits.js';
import { EachTest, SMALL, until } from '../support/cluster.js';
import { CountingDisk } from '../support/counting-disk.js';

const each = new EachTest();
const KiB = 1024;

const SIZES = { ...SMALL, segmentBytes: 1024 * KiB, memoryBudgetBytes: 16 * 1024 * KiB };
/** For one segment: a page of its index, its head, and a window. */
const PER_SEGMENT = 16 * KiB;

/** What this process, threads and all, has read: from disk, and little from sockets. */
function bytesRead(): number {
  return Number(/rchar: (\d+)/.exec(fs.readFileSync('/proc/self/io', 'utf8'))![1]);
}

async function open(nodeId: string, disk: Disk, more: Partial<NodeOptions> = {}): Promise<Node> {
  const options = { ...SIZES, dataDir: path.join(each.folder, nodeId), nodeId, ...more };
  const node = await openNodeOn(disk, options);
  each.finally(() => node.close());
  return node;
}

/** Each tenant gets entries in turn, until the log has so many bytes. */
async function fill(node: Node, tenants: number, bytes: number): Promise<Space[]> {
  const spaces = await Promise.all(
    Array.from({ length: tenants }, (_, i) => node.openSpace(`tenant-${i}`)),
  );
  const payload = Buffer.alloc(2 * KiB, 1);
  for (let turn = 0; node.summary().durableLsn < bytes; turn++) {
    const now = spaces.slice((turn * 50) % tenants).slice(0, 50);
    await Promise.all(now.map((space) => space.append(1, payload)));
  }
  return spaces;
}

async function all(space: Space, range: { from?: number; to?: number } = {}): Promise<number[]> {
  const found: number[] = [];
  for await (const { sequence } of space.read(range)) found.push(sequence);
  return found;
}

describe('reading one tenant', () => {
  test.each([10, 1_000])('FAULT-103 reading two entries among %i spaces', async (tenants) => {
    const counting = new CountingDisk(nodeDisk);
    let node = await open('a', counting.disk);
    let small = await node.openSpace('small');
    await small.append(1, Buffer.from('one'));
    await fill(node, tenants, 6 * SIZES.segmentBytes);
    await small.append(1, Buffer.from('two'));
    await fill(node, tenants, 12 * SIZES.segmentBytes);
    const { segments } = node.summary();
    expect(segments).toBeGreaterThan(10);
    const bound = segments * PER_SEGMENT;
    const check = async (): Promise<void> => {
      const read = await counting.of(async () => expect(await all(small)).toEqual([1, 2]));
      expect(read).toBeLessThan(bound);
      const last = await counting.of(async () =>
        expect(await all(small, { from: 2 })).toEqual([2]),
      );
      expect(last).toBeLessThan(bound);
      const followed = await counting.of(async () => {
        const entries = small.subscribe();
        for (const sequence of [1, 2]) {
          expect((await entries.next()).value?.sequence).toBe(sequence);
        }
        await entries.return(undefined);
      });
      expect(followed).toBeLessThan(bound);
    };
    await check();
    await node.close();
    node = await open('a', counting.disk);
    small = node.space('small');
    // Nothing was read before: the files of the indexes are looked into, not read.
    await check();
  });

  test('FAULT-103 reading costs what a tenant has, wherever it stands', async () => {
    const counting = new CountingDisk(nodeDisk);
    let node = await open('a', counting.disk);
    await fill(node, 100, 8 * SIZES.segmentBytes);
    const big = await node.openSpace('big');
    await big.appendBatch(
      1,
      Array.from({ length: 4_000 }, () => Buffer.alloc(KiB, 2)),
    );
    await node.close();
    node = await open('a', counting.disk);
    const { segments } = node.summary();
    const constant = segments * PER_SEGMENT;
    const tenant = node.space('tenant-7');
    const { durableSequence } = tenant.status();
    const own = durableSequence * (2 * KiB + 64);
    const whole = await counting.of(async () =>
      expect(await all(tenant)).toHaveLength(durableSequence),
    );
    expect(whole).toBeLessThan(2 * own + constant);
    // One entry in the middle of a long run is found without what stands before it.
    for (const sequence of [1, 1_999, 2_000, 3_777]) {
      const one = await counting.of(async () =>
        expect(await all(node.space('big'), { from: sequence, to: sequence })).toEqual([sequence]),
      );
      expect(one).toBeLessThan(600 * KiB + constant);
    }
  });

  test('FAULT-103 in the middle of a group, shared or not, on a replica, too', async () => {
    const sizes = { groupBytes: 1024 * KiB, segmentBytes: 4096 * KiB };
    const [of, onReplica] = [new CountingDisk(nodeDisk), new CountingDisk(nodeDisk)];
    const listen = { host: '127.0.0.1', port: 0 };
    const b = await open('b', onReplica.disk, { ...sizes, listen });
    const replicas = [{ nodeId: 'b', ...b.address! }];
    const a = await open('a', of.disk, { ...sizes, replicas });
    const [alone, one, other] = [
      await a.openSpace('alone'),
      await a.openSpace('one'),
      await a.openSpace('other'),
    ] as const;
    const payload = Buffer.alloc(KiB, 3);
    const list = Array.from({ length: 900 }, () => payload);
    const { lastSequence } = await alone.appendBatch(1, list, { ack: { replicas: 1 } });
    expect(lastSequence).toBe(900);
    // All in one turn: one group, in which runs of one space are brought together.
    const parts = Array.from({ length: 9 }, () => list.slice(0, 50));
    await Promise.all(parts.flatMap((part) => [one, other].map((s) => s.appendBatch(1, part))));
    await one.flushed(450, { replicas: 1 });
    await other.flushed(450, { replicas: 1 });
    for (const [name, middle] of [
      ['alone', 850],
      ['one', 440],
      ['other', 440],
    ] as const) {
      for (const [node, counting] of [
        [a, of],
        [b, onReplica],
      ] as const) {
        const range = { from: middle, to: middle };
        const read = await counting.of(async () =>
          expect(await all(node.space(name), range)).toEqual([middle]),
        );
        expect(read).toBeLessThan(INDEX_EVERY_BYTES + 4 * PER_SEGMENT);
      }
    }
  });

  test('FAULT-103 reading for a replica that lacks little of one space', async () => {
    const listen = { host: '127.0.0.1', port: 0 };
    let b = await open('b', nodeDisk, { listen });
    const { host, port } = b.address!;
    const replicas = [
      { nodeId: 'b', host, port },
      { nodeId: 'c', host, port: 1 },
    ];
    const a = await open('a', nodeDisk, { replicas, openConfirmMs: 0 });
    const small = await a.openSpace('small', { replicas: ['b'] });
    await small.append(1, Buffer.from('one'));
    await small.flushed(1, { replicas: 1 });
    await b.close();
    // Of all others nothing goes to b.
    const payload = Buffer.alloc(8 * KiB, 1);
    const other = await a.openSpace('other', { replicas: ['c'] });
    for (const end of [20, 40]) {
      while (a.summary().durableLsn < end * SIZES.segmentBytes) {
        await other.appendBatch(
          1,
          Array.from({ length: 100 }, () => payload),
        );
      }
      await small.append(1, Buffer.from(`at ${end}`));
    }
    const before = bytesRead();
    b = await open('b', nodeDisk, { listen: { host, port } });
    await small.flushed(3, { replicas: 1, timeoutMs: 20_000 });
    expect(bytesRead() - before).toBeLessThan(8 * SIZES.segmentBytes);
    expect(await all(b.space('small'))).toEqual([1, 2, 3]);
    // What comes now goes on.
    await until('its link is told of', () => small.status().replicas[0]!.state === 'streaming');
    await small.append(1, Buffer.from('live'), { ack: { replicas: 1 } });
  });

  test('FAULT-103 reading after a restart: what was applied is not read again', async () => {
    const counting = new CountingDisk(nodeDisk);
    const applied = new Map<string, number>();
    const replica = {
      listen: { host: '127.0.0.1', port: 0 },
      apply: async (entries: readonly { sequence: number }[], { space }: { space: string }) => {
        applied.set(space, entries.at(-1)!.sequence);
      },
      appliedUpTo: async (space: string) => applied.get(space) ?? 0,
    };
    let b = await open('b', counting.disk, replica);
    const { host, port } = b.address!;
    const a = await open('a', nodeDisk, { replicas: [{ nodeId: 'b', host, port }] });
    const spaces = await fill(a, 300, 6 * SIZES.segmentBytes);
    const isApplied = (): boolean =>
      spaces.every((space) => (applied.get(space.name) ?? 0) >= space.status().durableSequence);
    await until('all is applied', isApplied);
    // Each lacks its last entries, and those alone are read: not the log, and not once a space.
    await b.close();
    for (const space of spaces) applied.set(space.name, applied.get(space.name)! - 2);
    const opening = counting.bytes;
    b = await open('b', counting.disk, { ...replica, listen: { host, port } });
    await until('all is applied again', isApplied);
    const segments = b.summary().segments;
    // Opening reads what stands behind the newest state: two segments at most, twice.
    const bound = 300 * (2 * (2 * KiB + 64) + 3 * PER_SEGMENT) + 4 * SIZES.segmentBytes;
    expect(counting.bytes - opening).toBeLessThan(bound);
    expect(segments).toBeGreaterThan(5);
  });
});
