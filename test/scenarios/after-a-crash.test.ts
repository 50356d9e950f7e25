/**
 * What verify says of a directory as a crash has left it, before anybody opens it: sound or torn,
 * never rot, in every fsync mode; and opening finds no hole. ENGRAM_TEST_SEED=<seed> repeats a run.
 */
import { describe, expect, test } from 'vitest';
import type { Node, NodeOptions } from '#src/main/index.js';
import { openNodeOn } from '#src/main/node/open-node.js';
import { verifyLog } from '#src/main/repair/verify.js';
import { TINY } from '../support/fake-cluster.js';
import { type Chance, chanceFrom, FakeDisk } from '../support/fake-disk.js';

const SEED = Number(process.env.ENGRAM_TEST_SEED ?? Math.floor(Math.random() * 2 ** 31));
const RUNS = Number(process.env.ENGRAM_TEST_RUNS ?? 4);
const MODES = ['per-batch', 'per-write', { timerMs: 3 }, 'none'] as const;
const NAMES = ['s', 't'];
const OPTIONS: NodeOptions = { ...TINY, segmentBytes: 8 * 1024, dataDir: '/data', nodeId: 'a' };

/** A life that may end anywhere. Errors of a failing disk are its fate. */
async function live(node: Node, chance: Chance): Promise<void> {
  for (const name of NAMES) await node.openSpace(name);
  for (let n = chance(40); n > 0; n--) {
    const space = node.space(NAMES[chance(2)]!);
    const payloads = Array.from({ length: 1 + chance(4) }, () => Buffer.alloc(chance(1_000), n));
    const appended = space.appendBatch(1, payloads).catch(() => undefined);
    if (chance(3) > 0) await appended;
    const { durableSequence } = space.status();
    if (chance(8) === 0 && durableSequence > 0) await space.checkpoint(1 + chance(durableSequence));
    if (chance(20) === 0) await new Promise((resolve) => setTimeout(resolve, 60));
  }
  for (let turns = chance(30); turns > 0; turns--) {
    await new Promise((resolve) => setImmediate(resolve));
  }
}

async function oneLife(disk: FakeDisk, options: NodeOptions, chance: Chance): Promise<void> {
  if (chance(3) === 0) {
    const errno = chance(2) === 0 ? 'EIO' : 'ENOSPC';
    disk.inject({ call: 1 + chance(300), errno, isLasting: chance(2) === 0 });
  }
  let node: Node | undefined;
  try {
    node = await openNodeOn(disk.mount(), options);
    await live(node, chance);
  } catch (error) {
    expect(error).toHaveProperty('code');
  }
  const how = chance(4);
  if (how === 0) await node?.close().catch(() => undefined);
  else if (how === 1) disk.kill();
  else disk.crash(chance);
  disk.inject(undefined);
  await node?.close().catch(() => undefined);
}

describe('verify behind a crash', () => {
  const runs = MODES.flatMap((fsync) =>
    Array.from({ length: RUNS }, (_, i) => [JSON.stringify(fsync), SEED + i, fsync] as const),
  );
  test.each(runs)('sound or torn: fsync %s, seed %i', async (_, seed, fsync) => {
    const chance = chanceFrom(seed);
    const disk = new FakeDisk();
    for (let life = 0; life < 5; life++) {
      await oneLife(disk, { ...OPTIONS, fsync }, chance);
      // Not even made yet.
      if (!disk.list('/data').includes('node.json')) continue;
      const { findings } = await verifyLog(disk.mount(), '/data');
      expect(findings.filter((f) => f.level === 'rot')).toEqual([]);
      const node = await openNodeOn(disk.mount(), { ...OPTIONS, fsync });
      expect(node.status().holes).toEqual([]);
      await node.close();
    }
  });
});
