import fs from 'node:fs';
import path from 'node:path';
import { afterEach, describe, expect, test } from 'vitest';
import type { Entry, Node, NodeOptions, Space } from '#src/main/index.js';
import { verifyLog } from '#src/main/repair/verify.js';
import { nodeDisk } from '#src/main/segments/node-disk.js';
import { listQuarantine, readQuarantine } from '#src/main/snapshot/quarantine.js';
import { contentOf, until } from '../support/cluster.js';
import { Trio } from '../support/trio.js';

let trio: Trio;

afterEach(async () => {
  await trio.close();
});

const payload = (n: number): Buffer => Buffer.from(`entry ${n} ${'.'.repeat(n % 50)}`);

/** @param replicas so many have flushed them when it returns */
async function fill(space: Space, from: number, to: number, replicas = 0): Promise<void> {
  for (let n = from; n <= to; n++) await space.append(1, payload(n));
  if (replicas > 0) await space.flushed(to, { replicas, timeoutMs: 20_000 });
}

/** Three nodes; `a` leads `s`, and 20 entries are everywhere. */
async function trioWith(more: Partial<NodeOptions> = {}): Promise<Space> {
  trio = await Trio.make();
  const a = await trio.start('a');
  await trio.start('b', more);
  await trio.start('c');
  const space = await a.openSpace('s');
  await fill(space, 1, 20, 2);
  return space;
}

/** `a` writes what nobody has, and is gone; `b` leads instead, of `c`. */
async function diverged(): Promise<Node> {
  const space = await trioWith();
  await trio.stop('b');
  await trio.stop('c');
  await fill(space, 21, 30);
  await trio.stop('a');
  const b = await trio.start('b');
  await trio.start('c');
  await b.promote('s');
  return b;
}

async function allTheSame(leader: string): Promise<void> {
  await trio.settled(leader, 's', trio.open.size - 1);
  const content = await contentOf(trio.open.get(leader)!.space('s'));
  for (const node of trio.open.values()) {
    expect(await contentOf(node.space('s')), node.nodeId).toEqual(content);
  }
}

describe('the primary is gone', () => {
  test('FAULT-62 one that returns first ships what only it had', async () => {
    trio = await Trio.make();
    const a = await trio.start('a');
    await trio.start('b');
    await fill(await a.openSpace('s'), 1, 10, 1);
    await trio.stop('b');
    await fill(a.space('s'), 11, 20);
    expect(a.space('s').status().rpo.entries).toBe(10);
    await trio.stop('a');
    await trio.start('b');
    await trio.start('a');
    await allTheSame('a');
    expect(trio.open.get('b')!.space('s').status().durableSequence).toBe(20);
  });

  test('FAULT-63 what one replica has acknowledged is on the one that may lead', async () => {
    const space = await trioWith();
    await trio.stop('c');
    await fill(space, 21, 30, 1);
    await trio.stop('a');
    const c = await trio.start('c');
    // `b` has it, so `c` may not lead while `b` answers; without `b` nobody can know.
    const refused = await c.promote('s').catch((error) => error);
    expect(refused).toMatchObject({ code: 'PromotionRefused' });
    expect(refused.message).toContain('10 entries of b (21 to 30)');
    const b = trio.open.get('b')!;
    expect(await b.promote('s')).toMatchObject({ isPromoted: true, epoch: 2, lost: [] });
    expect(b.space('s').status().durableSequence).toBe(31);
    await allTheSame('b');
    await trio.stop('b');
    const alone = await c.promote('s', { dryRun: true });
    expect(alone).toMatchObject({ isQualified: false, answersNeeded: 2, answers: [] });
    await expect(c.promote('s')).rejects.toMatchObject({ code: 'PromotionRefused' });
  });

  test('FAULT-64 the old one returns with a tail: quarantine, rewind, follow', async () => {
    const b = await diverged();
    const space = await b.openSpace('s');
    await fill(space, 22, 40);
    const rewound: unknown[] = [];
    const a = await trio.start('a', { rewound: (name, range) => void rewound.push([name, range]) });
    await until('a has gone back', () => trio.heard('a', 'rewound').length === 1);
    await allTheSame('b');
    const [event] = trio.heard('a', 'rewound');
    expect(event).toMatchObject({ space: 's', from: 21, to: 30, entries: 10, primaryId: 'b' });
    await until('the host was told', () => rewound.length === 1);
    expect(rewound).toEqual([['s', { from: 21, to: 30, quarantine: event!.quarantine }]]);
    // Nothing is lost: it is there to be read, and named.
    const dir = path.join(trio.folder, 'a');
    const { rewinds } = await listQuarantine(nodeDisk, dir);
    expect(rewinds).toMatchObject([
      { space: 's', from: 21, to: 30, entries: 10, epochs: [1], primary: 'b', primaryEpoch: 2 },
    ]);
    const kept: string[] = [];
    for await (const entry of readQuarantine(nodeDisk, dir, rewinds[0]!.file)) {
      kept.push(Buffer.from(entry.payload).toString());
    }
    expect(kept).toEqual(Array.from({ length: 10 }, (_, i) => payload(21 + i).toString()));
    // It takes no appends and says who does; a subscriber that was ahead is told to begin again.
    const { port } = trio.members.find((m) => m.nodeId === 'b')!;
    await expect(a.space('s').append(1, payload(1))).rejects.toMatchObject({
      code: 'NotPrimary',
      details: { primaryNodeId: 'b', address: { host: '127.0.0.1', port } },
    });
    expect(await a.locate('s')).toMatchObject({ nodeId: 'b', epoch: 2, address: { port } });
    // And its directory opens, and is whole, with both branches in it.
    const before = await contentOf(a.space('s'));
    await trio.stop('a');
    expect(await verifyLog(nodeDisk, dir)).toMatchObject({ rot: 0, warnings: 0 });
    const again = await trio.start('a');
    expect(await contentOf(again.space('s'))).toEqual(before);
    expect(trio.heard('a', 'rewound')).toHaveLength(1);
  });

  test('FAULT-65 the host is told until it has returned, and applies nothing before', async () => {
    const b = await diverged();
    await fill(await b.openSpace('s'), 22, 25);
    let told = 0;
    const applied: number[] = [];
    const apply = (entries: Entry[]): void => {
      for (const entry of entries) applied.push(entry.sequence);
    };
    const rewound = (): void => {
      expect(applied).toEqual([]);
      if (++told < 3) throw new Error('the host cannot, now');
    };
    await trio.start('a', { apply, rewound });
    await until('the host was told', () => told === 3);
    await until('it goes on from there', () => applied.at(-1) === 25);
    // What it has led it had applied itself: only what came in its place is given to it.
    expect(applied).toEqual([21, 22, 23, 24, 25]);
    await trio.stop('a');
    await trio.start('a', { apply, rewound });
    await allTheSame('b');
    expect(told).toBe(3);
  });

  test('FAULT-64 a host without `rewound` that has applied the tail is blocked', async () => {
    const b = await diverged();
    await fill(await b.openSpace('s'), 22, 25);
    const a = await trio.start('a', { apply: () => undefined });
    await until('it is told', () => trio.heard('a', 'apply-blocked').length > 0);
    expect(trio.heard('a', 'apply-blocked')[0]).toMatchObject({ reason: 'rewound', sequence: 30 });
    // Its log is whole all the same, and another life of the host may undo it.
    await allTheSame('b');
    expect(a.space('s').status().applyBlocked).toMatchObject({ reason: 'rewound' });
    await trio.stop('a');
    let told = 0;
    const again = await trio.start('a', { apply: () => undefined, rewound: () => void told++ });
    await until('it has applied', () => again.space('s').status().appliedSequence >= 25);
    expect(told).toBe(1);
  });

  test('FAULT-66 A -> B -> A: the histories are walked, not the last epochs compared', async () => {
    const b = await diverged();
    await fill(await b.openSpace('s'), 22, 25, 1);
    await trio.stop('b');
    await trio.stop('c');
    // `a` knows nothing of it, and is made to lead on over its own tail.
    const a = await trio.start('a', { openConfirmMs: 50 });
    expect(await a.promote('s', { force: true, dryRun: true })).toMatchObject({ silent: [{}, {}] });
    await fill(await a.openSpace('s'), 31, 35);
    const { epoch } = await a.promote('s', { force: true });
    expect(epoch).toBe(1);
    await trio.stop('a');
    // `c` leads in epoch 3 what it has of epoch 2; then `a` is forced to a higher one.
    const c = await trio.start('c');
    await c.promote('s', { force: true });
    await trio.stop('c');
    const a2 = await trio.start('a', { openConfirmMs: 50 });
    expect(a2.space('s').status()).toMatchObject({ role: 'primary', epoch: 1 });
    await trio.start('b');
    await trio.start('c');
    await until('a is fenced', () => trio.heard('a', 'fenced').length > 0);
    await trio.open.get('c')!.promote('s');
    await allTheSame('c');
    expect(trio.heard('a', 'rewound')).toMatchObject([{ from: 21, to: 35 }]);
  });
});

describe('who may be promoted', () => {
  /** `b` ends at 20, `c` at 30; `a`, which led, is gone. */
  async function lagging(): Promise<Node> {
    const space = await trioWith();
    await trio.stop('b');
    await fill(space, 21, 30, 1);
    await trio.stop('a');
    await trio.stop('c');
    return await trio.start('b');
  }

  test('FAULT-69 a lagging one is refused: what would be lost, against whom', async () => {
    const b = await lagging();
    const report = await b.promote('s', { dryRun: true });
    expect(report).toMatchObject({ isPromoted: false, isQualified: false, epoch: 1, lost: [] });
    expect(report.silent.map((s) => s.nodeId).sort()).toEqual(['a', 'c']);
    await trio.start('c');
    const known = await b.promote('s', { dryRun: true });
    expect(known.lost).toEqual([{ nodeId: 'c', from: 21, to: 30, entries: 10, epoch: 1 }]);
    const refused = await b.promote('s').catch((error) => error);
    expect(refused).toMatchObject({ code: 'PromotionRefused', details: { report: known } });
    // Nothing was promised, and nothing is burned.
    for (const id of ['b', 'c']) {
      const node = trio.open.get(id)!;
      expect(node.space('s').status()).toMatchObject({ role: 'replica', epoch: 1 });
    }
    expect(await trio.open.get('c')!.promote('s')).toMatchObject({ epoch: 2, lost: [] });
  });

  test('FAULT-69 forced, it takes what a member still has that promises', async () => {
    const b = await lagging();
    await trio.start('c');
    const forced = await b.promote('s', { force: true });
    expect(forced).toMatchObject({ isPromoted: true, epoch: 2, isQualified: false, lost: [] });
    await fill(await b.openSpace('s'), 32, 33);
    await allTheSame('b');
    expect(b.space('s').status().durableSequence).toBe(33);
    expect(trio.heard('c', 'rewound')).toEqual([]);
  });

  test('FAULT-69 forced without the others, what they had goes to quarantine there', async () => {
    const b = await lagging();
    const forced = await b.promote('s', { force: true });
    expect(forced).toMatchObject({ isPromoted: true, epoch: 2, isQualified: false });
    expect(forced.silent).toHaveLength(2);
    await fill(await b.openSpace('s'), 22, 25);
    await trio.start('a');
    await trio.start('c');
    await allTheSame('b');
    for (const id of ['a', 'c']) {
      expect(trio.heard(id, 'rewound')).toMatchObject([{ from: 21, to: 30, primaryId: 'b' }]);
    }
  });

  test('FAULT-69 while the primary is ahead it is refused, and harms nothing', async () => {
    const space = await trioWith();
    const b = trio.open.get('b')!;
    let isLoaded = true;
    let acked = 20;
    const load = (async () => {
      while (isLoaded) acked = (await space.append(1, Buffer.alloc(3_000, 1))).sequence;
      return 'led';
    })().catch((error) => error.code as string);
    const outcomes = [];
    for (let n = 0; n < 5; n++) {
      outcomes.push(
        await b.promote('s').then(
          () => 'promoted',
          (error) => error.code,
        ),
      );
      if (outcomes.includes('promoted')) break;
    }
    isLoaded = false;
    const end = await load;
    // Level at the moment of the question it may win; then nothing acknowledged is lost.
    if (outcomes.includes('promoted')) expect(['Fenced', 'led']).toContain(end);
    else {
      expect(new Set(outcomes)).toEqual(new Set(['PromotionRefused']));
      expect(end).toBe('led');
      expect(space.status()).toMatchObject({ role: 'primary', epoch: 1 });
    }
    const leader = outcomes.includes('promoted') ? 'b' : 'a';
    await allTheSame(leader);
    const { durableSequence } = trio.open.get(leader)!.space('s').status();
    expect(durableSequence).toBeGreaterThanOrEqual(acked);
  });

  test('FAULT-70 it has applied all that it has flushed before it takes appends', async () => {
    const applied: number[] = [];
    let isSlow = false;
    const apply = async (entries: Entry[]): Promise<void> => {
      if (isSlow) await new Promise((resolve) => setTimeout(resolve, 300));
      for (const { sequence } of entries) applied.push(sequence);
    };
    const space = await trioWith({ apply });
    isSlow = true;
    await fill(space, 21, 40, 2);
    await trio.stop('a');
    const b = trio.open.get('b')!;
    const promoted = b.promote('s');
    const early = b.space('s').append(1, payload(41));
    await expect(early).rejects.toMatchObject({ code: 'NotPrimary' });
    const report = await promoted;
    expect(applied).toEqual(Array.from({ length: 40 }, (_, i) => i + 1));
    expect(report.applyBlocked).toBeUndefined();
    const led = await b.openSpace('s');
    expect(await led.append(1, payload(42))).toEqual({ sequence: 42, epoch: 2 });
    // Its first entry says where the epoch begins; what it leads it is not given to apply.
    for await (const entry of led.read({ from: 41, to: 41 })) {
      expect(entry).toMatchObject({ type: 5, epoch: 2 });
      expect(Buffer.from(entry.payload).readBigUInt64LE()).toBe(40n);
    }
    expect(applied.at(-1)).toBe(40);
  });

  test('FAULT-70 one whose host cannot apply an entry leads, and says so', async () => {
    const apply = (entries: Entry[]): void => {
      if (entries.some((e) => e.sequence === 25)) throw new Error('poison');
    };
    const space = await trioWith({ apply, applyRetries: 1, backoffStepsMs: [5] });
    await fill(space, 21, 30, 2);
    const b = trio.open.get('b')!;
    await until('it is blocked', () => trio.heard('b', 'apply-blocked').length > 0);
    await trio.stop('a');
    const report = await b.promote('s');
    expect(report.applyBlocked).toMatchObject({ sequence: 25, reason: 'poison' });
    expect(b.space('s').status()).toMatchObject({ role: 'primary', epoch: 2 });
  });
});

describe('a disk that went back', () => {
  test('FAULT-27 from an old backup: it waits for enough answers, and fills up', async () => {
    const space = await trioWith();
    await trio.stop('a');
    const dir = path.join(trio.folder, 'a');
    fs.cpSync(dir, `${dir}.backup`, { recursive: true });
    const a = await trio.start('a');
    await trio.settled('a', 's', 2);
    await fill(await a.openSpace('s'), 21, 30, 2);
    const content = await contentOf(a.space('s'));
    await trio.stop('a');
    await trio.stop('c');
    fs.rmSync(dir, { recursive: true });
    fs.renameSync(`${dir}.backup`, dir);
    const restored = await trio.start('a');
    // What one replica alone says is not enough: `c` may have been the one that acknowledged.
    await expect(restored.openSpace('s')).rejects.toMatchObject({ code: 'StalePrimary' });
    await expect(restored.space('s').append(1, payload(1))).rejects.toMatchObject({
      code: 'StalePrimary',
    });
    await trio.start('c');
    await until('it leads on in its own epoch', () => trio.heard('a', 'promoted').length === 1);
    expect(trio.heard('a', 'promoted')[0]).toMatchObject({ epoch: 2, lost: [] });
    const led = await restored.openSpace('s');
    expect((await contentOf(led)).slice(0, 30)).toEqual(content);
    expect(await led.append(1, payload(32))).toEqual({ sequence: 32, epoch: 2 });
    await allTheSame('a');
    expect(space).toBeDefined();
  });

  test('FAULT-28 a replica restored from a backup says where it stands, and goes on', async () => {
    const space = await trioWith();
    await trio.stop('b');
    const dir = path.join(trio.folder, 'b');
    fs.cpSync(dir, `${dir}.backup`, { recursive: true });
    await trio.start('b');
    await fill(space, 21, 40, 2);
    await trio.stop('b');
    fs.rmSync(dir, { recursive: true });
    fs.renameSync(`${dir}.backup`, dir);
    const b = await trio.start('b');
    expect(b.space('s').status().durableSequence).toBe(20);
    await fill(space, 41, 41);
    await allTheSame('a');
    // As another directory than the one that had acknowledged 40: a change has taken that in.
    expect(trio.open.get('a')!.space('s').status().epoch).toBe(1);
    const counting = (): readonly { directoryId: string }[] => space.status().members.counting;
    const { directoryId } = b.status();
    await until('it counts', () => counting().some((m) => m.directoryId === directoryId));
  });
});
