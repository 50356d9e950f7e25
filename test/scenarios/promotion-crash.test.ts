/**
 * The disk fails at every call of a rejoin, and of a promotion, and the power with it: afterwards
 * the node is before or behind the step, and comes to the same end. All calls with
 * ENGRAM_TEST_FULL=1, else a sample of them.
 */
import fs from 'node:fs';
import path from 'node:path';
import { afterEach, describe, expect, test } from 'vitest';
import type { Node, Space } from '#src/main/index.js';
import { openNodeOn } from '#src/main/node/open-node.js';
import { contentOf, until } from '../support/cluster.js';
import { TINY } from '../support/fake-cluster.js';
import { chanceFrom, FakeDisk } from '../support/fake-disk.js';
import { Trio } from '../support/trio.js';

const IS_FULL = process.env.ENGRAM_TEST_FULL === '1';
const SEED = Number(process.env.ENGRAM_TEST_SEED ?? Math.floor(Math.random() * 2 ** 31));
const SAMPLE = 5;

let trio: Trio;
let fake: Node | undefined;

afterEach(async () => {
  await fake?.close().catch(() => undefined);
  fake = undefined;
  await trio.close();
});

/** One of the three on a disk that can fail; `undefined` where it does while it opens. */
async function openFake(disk: FakeDisk, nodeId: string): Promise<Node | undefined> {
  const { host, port } = trio.members.find((m) => m.nodeId === nodeId)!;
  const options = {
    ...TINY,
    nodeId,
    dataDir: '/data',
    listen: { host, port },
    replicas: trio.othersOf(nodeId),
    lead: nodeId === 'a',
    openConfirmMs: 200,
  };
  fake = await openNodeOn(disk.mount(), options).catch((error) => {
    expect(error).toHaveProperty('code');
    return undefined;
  });
  return fake;
}

async function closeFake(): Promise<void> {
  await fake?.close().catch(() => undefined);
  fake = undefined;
}

const payload = (n: number): Buffer => Buffer.from(`entry ${n} ${'.'.repeat(200)}`);

/** Of so many calls of a step, those at which it is to fail. */
function sample(calls: number): number[] {
  const step = IS_FULL ? 1 : Math.max(1, Math.ceil(calls / SAMPLE));
  const found: number[] = [];
  for (let n = 1 + (SEED % step); n <= calls; n += step) found.push(n);
  return found;
}

describe(`every disk call, seed ${SEED}`, () => {
  test('FAULT-65 of a rejoin: it is begun anew, or done', async () => {
    trio = await Trio.make();
    const disk = new FakeDisk();
    const a = await openFake(disk, 'a');
    await trio.start('b', TINY);
    const space = await a!.openSpace('s');
    // One by one, out of memory: its shipper's thread does not see this disk.
    for (let n = 1; n <= 20; n++) {
      await space.append(1, payload(n));
      await space.flushed(n, { replicas: 1, timeoutMs: 20_000 });
    }
    await trio.stop('b');
    for (let n = 21; n <= 40; n++) await space.append(1, payload(n));
    await closeFake();
    const promoted = await trio.start('b', TINY);
    await promoted.promote('s', { force: true });
    const begun = await promoted.openSpace('s');
    for (let n = 22; n <= 30; n++) await begun.append(1, payload(1_000 + n));
    await trio.stop('b');
    const image = disk.image();
    const [folder, copy] = [path.join(trio.folder, 'b'), path.join(trio.folder, 'b-copy')];
    fs.cpSync(folder, copy, { recursive: true });
    let led!: Space;
    // Both as before the rejoin: b would know that a has forgotten what it had (row 108).
    const restore = async (): Promise<void> => {
      disk.restore(image);
      await trio.stop('b');
      fs.rmSync(folder, { recursive: true });
      fs.cpSync(copy, folder, { recursive: true });
      led = await (await trio.start('b', { ...TINY, openConfirmMs: 200 })).openSpace('s');
    };

    // It has what b has, and counts there again: nothing more is written.
    const isWhole = (): boolean => {
      const { epoch, durableSequence } = fake!.space('s').status();
      const { members, replicas, lastSequence } = led.status();
      const link = replicas.find((r) => r.replicaId === 'a');
      const isCounted = members.counting.some((m) => m.nodeId === 'a');
      const isSettled = members.pending === undefined && !members.learners.includes('a');
      const isEqual = durableSequence === lastSequence && link?.ackedSequence === lastSequence;
      const isLinked = link?.state === 'streaming';
      return epoch === 2 && isEqual && isLinked && isCounted && isSettled;
    };
    // Once without a fault, to know the calls.
    await restore();
    disk.inject(undefined);
    await openFake(disk, 'a');
    await until('a has rejoined', isWhole);
    await closeFake();
    const calls = disk.calls.length;
    expect(calls).toBeGreaterThan(20);
    for (const n of sample(calls)) {
      await restore();
      disk.inject({ call: n, errno: 'EIO', isLasting: true });
      const node = await openFake(disk, 'a');
      const what = `call ${n} of ${calls}`;
      await until(what, () => {
        return node === undefined || node.status().failure !== undefined || isWhole();
      });
      disk.inject(undefined);
      disk.crash(chanceFrom(SEED + n));
      await closeFake();
      const again = await openFake(disk, 'a');
      expect(again, what).toBeDefined();
      await until(`${what}: a has rejoined`, isWhole);
      const content = await contentOf(led);
      expect(await contentOf(again!.space('s')), what).toEqual(content);
      expect(again!.status().holes, what).toEqual([]);
      await closeFake();
      // And it opens by itself, from what it has.
      disk.crash(chanceFrom(SEED - n));
      const last = await openFake(disk, 'a');
      expect(await contentOf(last!.space('s')), what).toEqual(content);
      await closeFake();
    }
  });

  test('FAULT-71 of a promotion: before it or behind it, no two lives of an epoch', async () => {
    trio = await Trio.make();
    const disk = new FakeDisk();
    const a = await trio.start('a', TINY);
    await openFake(disk, 'b');
    const space = await a.openSpace('s');
    for (let n = 1; n <= 20; n++) await space.append(1, payload(n));
    await space.flushed(20, { replicas: 1, timeoutMs: 20_000 });
    await trio.stop('a');
    await closeFake();
    const image = disk.image();

    const life = async (): Promise<number | undefined> => {
      const node = await openFake(disk, 'b');
      const report = await node?.promote('s', { force: true }).catch((error) => {
        expect(error).toHaveProperty('code');
        return undefined;
      });
      return report?.epoch;
    };
    disk.inject(undefined);
    expect(await life()).toBe(2);
    const calls = disk.calls.length;
    await closeFake();
    for (const n of sample(calls)) {
      const what = `call ${n} of ${calls}`;
      disk.restore(image);
      disk.inject({ call: n, errno: 'EIO', isLasting: true });
      const promoted = await life();
      disk.inject(undefined);
      disk.crash(chanceFrom(SEED + n));
      await closeFake();
      const again = await openFake(disk, 'b');
      const { role, epoch, durableSequence } = again!.space('s').status();
      if (promoted !== undefined) expect([role, epoch], what).toEqual(['primary', 2]);
      // Before: a replica that may be promoted. Behind: a primary whose epoch has begun.
      expect([role, epoch], what).toEqual(role === 'primary' ? ['primary', 2] : ['replica', 1]);
      expect(durableSequence, what).toBe(role === 'primary' ? 21 : 20);
      const report = await again!.promote('s', { force: true });
      // An epoch that was promised before the crash is not used by another life.
      expect(report.epoch, what).toBeGreaterThanOrEqual(2);
      const led = await again!.openSpace('s');
      const { sequence } = await led.append(1, payload(22));
      expect((await contentOf(led)).length, what).toBe(sequence);
      await closeFake();
    }
  });
});
