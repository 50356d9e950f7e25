/** Appends on a condition: taken only where no host has written behind what their host knows. */
import { describe, expect, test } from 'vitest';
import type { Appended, EngramError, Node, Space } from '#src/main/index.js';
import { EachTest, until } from '../support/cluster.js';
import { openFake } from '../support/fake-cluster.js';
import { FakeDisk } from '../support/fake-disk.js';
import { Trio } from '../support/trio.js';

const life = new EachTest();
const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);

function expecting(space: Space, expected: number | Appended): Promise<Appended> {
  return space.append(1, bytes('x'), { expected });
}

const lastOf = (space: Space): number => space.status().lastHostSequence;

/** What a promotion and changes of members have written. */
async function typesOf(space: Space, from: number): Promise<number[]> {
  const types: number[] = [];
  for await (const { type } of space.read({ from })) types.push(type);
  return types;
}

describe('on one node', () => {
  test('it is taken where nothing lies behind; else the last one is named', async () => {
    const space = await (await life.start('a')).openSpace('s');
    expect(lastOf(space)).toBe(0);
    expect(await expecting(space, 0)).toEqual({ sequence: 1, epoch: 1 });
    const token = await expecting(space, 1);
    expect(await expecting(space, token)).toEqual({ sequence: 3, epoch: 1 });
    for (const stale of [0, 1, 2, token]) {
      const error = (await expecting(space, stale).catch((e) => e)) as EngramError;
      expect(error).toMatchObject({ code: 'SequenceConflict', retryable: false });
      expect(error.details).toEqual({ last: 3, epoch: 1 });
    }
    expect(await space.append(1, bytes('as ever'))).toEqual({ sequence: 4, epoch: 1 });
    expect(lastOf(space)).toBe(4);
  });

  test('beyond the end, and another epoch there, conflict too', async () => {
    const space = await (await life.start('a')).openSpace('s');
    await space.append(1, bytes('x'));
    const details = { last: 1, epoch: 1 };
    for (const other of [2, { sequence: 1, epoch: 2 }, { sequence: 2, epoch: 1 }]) {
      const refused = { code: 'SequenceConflict', details };
      await expect(expecting(space, other)).rejects.toMatchObject(refused);
    }
    expect(await expecting(space, details.last)).toEqual({ sequence: 2, epoch: 1 });
  });

  test('of many in one turn one is taken; the others hear of it once it is durable', async () => {
    const space = await (await life.start('a')).openSpace('s');
    await space.append(1, bytes('x'));
    let refused = 0;
    const all = Array.from({ length: 50 }, () =>
      expecting(space, 1).catch((error: EngramError) => {
        expect(error.details).toEqual({ last: 2, epoch: 1 });
        expect(space.status().durableSequence).toBe(2);
        refused++;
      }),
    );
    expect((await Promise.all(all)).filter(Boolean)).toEqual([{ sequence: 2, epoch: 1 }]);
    expect(refused).toBe(49);
  });

  test('what it would conflict with is lost: it is judged anew', async () => {
    const disk = new FakeDisk();
    const node = await openFake(disk);
    life.finally(() => node.close());
    const space = await node.openSpace('s');
    await node.openSpace('t');
    disk.inject({ call: 1, errno: 'ENOSPC', only: 'write', isLasting: true });
    const lost = space.append(1, bytes('lost'));
    const judged = expecting(space, 0);
    await expect(lost).rejects.toMatchObject({ code: 'DiskFull' });
    await expect(judged).rejects.toMatchObject({ code: 'DiskFull' });
    disk.inject(undefined);
    await until('the log takes entries again', () => node.status().log.state === 'ok');
    expect(await expecting(space, 0)).toEqual({ sequence: 1, epoch: 1 });
  });

  test('the disk fails for good: neither lost nor there, and nobody waits for it', async () => {
    const disk = new FakeDisk();
    const node = await openFake(disk);
    life.finally(() => node.close().catch(() => undefined));
    const space = await node.openSpace('s');
    disk.inject({ call: 1, errno: 'EIO', only: 'fdatasync', isLasting: true });
    const failed = space.append(1, bytes('on its way'));
    const judged = expecting(space, 0);
    await expect(failed).rejects.toMatchObject({ code: 'WalFailed' });
    await expect(judged).rejects.toMatchObject({ code: 'WalFailed' });
    await expect(expecting(space, 0)).rejects.toMatchObject({ code: 'WalFailed' });
  });

  test('one that waits for room is judged when there is some', async () => {
    const space = await (await life.start('a')).openSpace('s');
    const large = Buffer.alloc(12_000);
    let last = 0;
    while (space.tryAppend(1, large)) last++;
    const before = space.append(1, large);
    const token = { sequence: last, epoch: 1 };
    const refused = expecting(space, token).catch((error) => error);
    const taken = expecting(space, last + 1);
    expect(await before).toMatchObject({ sequence: last + 1 });
    expect(await refused).toMatchObject({ details: { last: last + 1, epoch: 1 } });
    expect(await taken).toMatchObject({ sequence: last + 2 });
  });

  test('what no condition can be is refused', async () => {
    const space = await (await life.start('a')).openSpace('s');
    const wrong = [-1, 1.5, Number.NaN, '1', null, {}, { sequence: 1, epoch: -1 }, { epoch: 1 }];
    for (const expected of [...wrong, { sequence: 1, epoch: 1, more: 1 }]) {
      const append = space.append(1, bytes('x'), { expected: expected as number });
      await expect(append, String(expected)).rejects.toMatchObject({ code: 'Configuration' });
    }
    const batch = space.appendBatch(1, [bytes('x')], { expected: 0 });
    await expect(batch).rejects.toMatchObject({ code: 'Configuration' });
    expect(space.status().lastSequence).toBe(0);
  });
});

describe('on several', () => {
  async function trioOf(more: readonly string[] = []): Promise<{ trio: Trio; a: Node; s: Space }> {
    const trio = await Trio.make();
    life.finally(() => trio.close());
    const a = await trio.start('a');
    for (const nodeId of more) await trio.start(nodeId);
    return { trio, a, s: await a.openSpace('s') };
  }

  test('a failover conflicts with nobody, nor does a change of members', async () => {
    const { trio, a, s } = await trioOf(['b', 'c']);
    const token = await s.append(1, bytes('x'), { ack: { replicas: 2, timeoutMs: 20_000 } });
    const b = trio.open.get('b')!;
    await a.switchover('s', 'b');
    const led = b.space('s');
    await b.removeReplica('c');
    await until('the members have agreed', () => led.status().members.pending === undefined);
    expect(lastOf(led)).toBe(1);
    expect(await typesOf(led, 2)).toEqual(expect.arrayContaining([5, 7]));
    await until('the other one has it too', () => {
      const { durableSequence } = a.space('s').status();
      return durableSequence === led.status().durableSequence;
    });
    expect(lastOf(a.space('s'))).toBe(1);
    await trio.stop('a');
    const again = await trio.start('a', { lead: false });
    expect(lastOf(again.space('s'))).toBe(1);
    const before = led.status().lastSequence;
    const next = await expecting(led, token);
    expect(next).toEqual({ sequence: before + 1, epoch: 2 });
    await expect(expecting(led, token)).rejects.toMatchObject({
      code: 'SequenceConflict',
      details: { last: next.sequence, epoch: 2 },
    });
    expect(await expecting(led, next)).toMatchObject({ sequence: before + 2 });
  });

  test('an empty space that changes hands is empty to a host', async () => {
    const { trio, a, s } = await trioOf(['b', 'c']);
    await until('it is known', () => s.status().replicas.every((r) => r.status === 'healthy'));
    const b = trio.open.get('b')!;
    await until('b has it', () => b.spaces.length === 1);
    await a.switchover('s', 'b');
    expect(b.space('s').status()).toMatchObject({ durableSequence: 1, lastHostSequence: 0 });
    expect(await expecting(b.space('s'), 0)).toMatchObject({ epoch: 2 });
  });

  test('a token of what was taken back is another entry’s', async () => {
    const { trio, a, s } = await trioOf(['b', 'c']);
    const shared = await s.append(1, bytes('x'), { ack: { replicas: 2, timeoutMs: 20_000 } });
    await trio.stop('b');
    await trio.stop('c');
    const void2 = await s.append(1, bytes('nobody has it'));
    await trio.stop('a');
    const b = await trio.start('b');
    await trio.start('c');
    await b.promote('s');
    const led = b.space('s');
    expect(led.status()).toMatchObject({ durableSequence: 2, lastHostSequence: 1 });
    const { epoch } = led.status();
    await expect(expecting(led, void2)).rejects.toMatchObject({
      code: 'SequenceConflict',
      details: { last: shared.sequence, epoch: shared.epoch },
    });
    const next = await expecting(led, shared);
    expect(next).toEqual({ sequence: 3, epoch });
    const back = await trio.start('a', { lead: false });
    await until('a has gone back', () => back.space('s').status().durableSequence === 3);
    expect(lastOf(back.space('s'))).toBe(3);
    expect(a.isClosing).toBe(true);
  });
});
