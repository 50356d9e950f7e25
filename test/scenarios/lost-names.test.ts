/**
 * Names that only the cache knows: a directory fsync has failed, and as with a failed fdatasync
 * the next one says ok and makes nothing of it durable (FAULTS row 101). At each of them in turn,
 * in a life over several rolls with freed and recycled segments; then the process dies, the next
 * life goes on as the cache has it, and the power is lost.
 */
import { describe, expect, test } from 'vitest';
import type { Node } from '#src/main/index.js';
import { openFake } from '../support/fake-cluster.js';
import { FakeDisk } from '../support/fake-disk.js';

/** Entries of the first life: nine segments. */
const ENTRIES = 112;
/** Of those behind it: what the first has written last is part of the log still. */
const SHORT = [8, 32] as const;
const PAYLOAD_BYTES = 1_200;
/** Entries that the host does not give up: more than a segment has. */
const KEPT = 40;
/** Directory fsyncs that a life makes, at least. */
const CALLS = 20;

interface Known {
  flushed: number;
  /** The host needs nothing below. */
  checkpoint: number;
}

async function live(disk: FakeDisk, known: Known, entries: number): Promise<void> {
  let node: Node | undefined;
  try {
    node = await openFake(disk);
    const space = await node.openSpace('s');
    for (let n = 0; n < entries; n++) {
      const sequence = space.status().lastSequence + 1;
      await space.append(1, Buffer.from(`${sequence} `.padEnd(PAYLOAD_BYTES, '.')));
      known.flushed = sequence;
      if (n % 16 !== 15) continue;
      known.checkpoint = Math.max(known.checkpoint, 1, sequence - KEPT);
      await space.checkpoint(known.checkpoint);
      // The segments that it frees are recycled before the next ones are made.
      for (let turn = 0; turn < 40; turn++) await disk.wait();
    }
  } catch (error) {
    // It has ended where the disk let it.
    if (disk.brokeAt === undefined) throw error;
  }
  disk.kill();
  await node?.close().catch(() => undefined);
}

async function check(disk: FakeDisk, known: Known): Promise<void> {
  const node = await openFake(disk);
  const space = await node.openSpace('s');
  expect(node.status().holes).toEqual([]);
  const from = Math.max(known.checkpoint, 1);
  expect(space.status().firstSequence).toBeLessThanOrEqual(from);
  let next = from;
  for await (const entry of space.read({ from })) {
    expect(entry.sequence).toBe(next);
    expect(Buffer.from(entry.payload).toString()).toMatch(new RegExp(`^${next} `));
    next++;
  }
  expect(next - 1).toBeGreaterThanOrEqual(known.flushed);
  await node.close();
}

describe('FAULT-101 a directory fsync fails, and what it was for is never durable', () => {
  test.each([
    ['and so do all behind it; a life without a roll', true, SHORT[0]],
    ['and so do all behind it; a life with some', true, SHORT[1]],
    ['and the next one says ok; a life without a roll', false, SHORT[0]],
    ['and the next one says ok; a life with some', false, SHORT[1]],
  ] as const)('%s', async (_, isLasting, entries) => {
    for (let call = 1; ; call++) {
      // Where the fault model leaves a choice, the worse: nothing of a failed one is durable.
      const disk = new FakeDisk(() => 0);
      const known = { flushed: 0, checkpoint: 0 };
      disk.inject({ call, errno: 'EIO', only: 'syncdir', isLasting });
      await live(disk, known, ENTRIES);
      const made = disk.calls.filter((made) => made.startsWith('syncdir')).length;
      if (made < call) {
        expect(made).toBeGreaterThanOrEqual(CALLS);
        return;
      }
      disk.inject(undefined);
      disk.brokeAt = undefined;
      await live(disk, known, entries);
      disk.crash(() => 0);
      // What has come back is freed and recycled once more, and the log is as it was.
      await live(disk, known, SHORT[1]);
      await check(disk, known).catch((error) => {
        throw new Error(`the directory fsync ${call}: ${error.message}`);
      });
    }
  });
});
