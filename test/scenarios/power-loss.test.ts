/**
 * Power losses and kills at any call of a life over several rolls, in every fsync mode, life after
 * life; and now and then the newest state is lost with them. What was flushed is there, what is
 * there is one row of what was appended, and nothing is called damaged.
 */
import { describe, expect, test } from 'vitest';
import type { Node } from '#src/main/index.js';
import { newestState, STATE_FILES } from '#src/main/recovery/recovery.js';
import { openFake } from '../support/fake-cluster.js';
import { type Chance, chanceFrom, FakeDisk } from '../support/fake-disk.js';

const IS_FULL = process.env.ENGRAM_TEST_FULL === '1';
const SEED = Number(process.env.ENGRAM_TEST_SEED ?? Math.floor(Math.random() * 2 ** 31));
const RUNS = IS_FULL ? 150 : 6;
const DIR = '/data';
const MODES = ['per-batch', 'per-write', { timerMs: 5 }, 'none'] as const;

/** What is known of the log from outside. */
interface Known {
  flushed: number;
  checkpoint: number;
}

async function check(node: Node, known: Known, what: string): Promise<number> {
  for (;;) {
    try {
      return await checkOnce(node, known, what);
    } catch (error) {
      // What it was about to read was freed meanwhile.
      if ((error as { code?: string }).code !== 'Trimmed') throw error;
    }
  }
}

async function checkOnce(node: Node, known: Known, what: string): Promise<number> {
  expect(node.status().holes, what).toEqual([]);
  const space = await node.openSpace('s');
  const firstSequence = Math.max(1, space.status().firstSequence);
  expect(firstSequence, what).toBeLessThanOrEqual(Math.max(1, known.checkpoint));
  let next = firstSequence;
  for await (const entry of space.read({ from: firstSequence })) {
    expect(entry.sequence, what).toBe(next);
    expect(Buffer.from(entry.payload).toString(), what).toMatch(new RegExp(`^${next} `));
    next++;
  }
  expect(next - 1, what).toBeGreaterThanOrEqual(known.flushed);
  return next - 1;
}

/** Appends in groups of chance, and gives some of them up, until the disk takes no more. */
async function append(node: Node, from: number, known: Known, chance: Chance): Promise<void> {
  const space = await node.openSpace('s');
  const note = (): void => {
    known.flushed = Math.max(known.flushed, space.status().durableSequence);
  };
  for (let n = from + 1; n <= from + 60; n++) {
    const payload = Buffer.from(`${n} `.padEnd(10 + chance(1_500), '.'));
    const last = space.append(1, payload);
    last.catch(() => undefined);
    if (chance(2) === 0) await new Promise((resolve) => setImmediate(resolve));
    if (chance(12) === 0) await last.catch(() => undefined);
    note();
    if (node.status().failure) return;
    if (chance(25) === 0 && known.flushed > 10) {
      known.checkpoint = Math.max(known.checkpoint, known.flushed - 5);
      await space.checkpoint(known.checkpoint).catch(() => undefined);
    }
  }
  note();
}

async function loseNewestState(disk: FakeDisk): Promise<void> {
  const there = STATE_FILES.filter((name) => disk.list(DIR).includes(name));
  const newest = await newestState(disk.mount(), DIR);
  if (there.length < 2 || !newest) return;
  const name = STATE_FILES[newest.generation % 2]!;
  disk.edit(`${DIR}/${name}`, (bytes) => bytes.fill(0));
}

describe(`power losses, seed ${SEED}`, () => {
  test.each(
    MODES.map((mode) => [JSON.stringify(mode), mode] as const),
  )('FAULT-101 %s: at any call, and the newest state lost with it', async (_, fsync) => {
    for (let run = 0; run < RUNS; run++) {
      const chance = chanceFrom(SEED + run);
      const disk = new FakeDisk();
      const known = { flushed: 0, checkpoint: 0 };
      for (let life = 0; life < 5; life++) {
        const what = `run ${run}, life ${life}`;
        const node = await openFake(disk, { fsync }).catch((error) => {
          throw new Error(`${what}: ${error.message}`);
        });
        const there = await check(node, known, what);
        known.flushed = there;
        disk.inject({ call: 1 + chance(400), errno: 'EIO', isLasting: true });
        await append(node, there, known, chance);
        if (chance(3) === 0) disk.kill();
        else disk.crash(chance);
        await node.close().catch(() => undefined);
        disk.inject(undefined);
        if (chance(2) === 0) await loseNewestState(disk);
      }
    }
  });
});
