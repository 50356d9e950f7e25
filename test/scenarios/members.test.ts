/** Who counts: members that come, go, are replaced, and what a promotion keeps of them. */
import fs from 'node:fs';
import path from 'node:path';
import { describe, expect, test } from 'vitest';
import type { Node, Space } from '#src/main/index.js';
import { decodeMembers, MEMBERS_ENTRY } from '#src/shared/members/members.js';
import { at, contentOf, EachTest, heard, openSmall, until } from '../support/cluster.js';

const LISTEN = { host: '127.0.0.1', port: 0 };
const life = new EachTest();

function bytes(text: string): Buffer {
  return Buffer.from(text);
}

function address(node: Node): ReturnType<typeof at> {
  return at(node.nodeId, node.address!.port);
}

/** The node ids that count in a space, and those of the set before a change that is pending. */
function counting(space: Space): { now: string[]; pending: string[] | undefined } {
  const { counting: now, pending } = space.status().members;
  const names = (all: readonly { nodeId: string }[]): string[] => all.map((m) => m.nodeId).sort();
  return { now: names(now), pending: pending && names(pending) };
}

function countsIn(space: Space, ...nodeIds: string[]): () => boolean {
  return () => JSON.stringify(counting(space)) === JSON.stringify({ now: nodeIds });
}

/** Opened again where it listened before. */
async function again(nodeId: string, port: number, more: object = {}): Promise<Node> {
  const node = await openSmall(path.join(life.folder, nodeId), nodeId, {
    listen: { host: '127.0.0.1', port },
    ...more,
  });
  life.finally(() => node.close());
  return node;
}

describe('members', () => {
  test('a space begins with the directories that were met, and all of them know', async () => {
    const b = await life.start('b', { listen: LISTEN });
    // It begins with whoever was met: a busy machine may take more than the 2 s of the default.
    const replicas = [address(b)];
    const more = { lead: true, listen: LISTEN, replicas, openConfirmMs: 20_000 };
    const a = await life.start('a', more);
    const space = await a.openSpace('s');
    const { sequence } = await space.append(1, bytes('x'), { ack: { replicas: 1 } });
    expect(sequence).toBe(1);
    const ids = [a, b].map((n) => ({ nodeId: n.nodeId, directoryId: n.status().directoryId }));
    for (const handle of [space, b.space('s')]) {
      expect(handle.status().members).toEqual({
        keep: 1,
        counting: ids,
        pending: undefined,
        learners: [],
      });
    }
    // They are in the log's records and in the state: after a restart they are there.
    const port = b.address!.port;
    await b.close();
    const back = await again('b', port);
    expect(back.space('s').status().members.counting).toEqual(ids);
  });

  test('FAULT-105 who was away at the start learns, counts once it is caught up', async () => {
    const b = await life.start('b', { listen: LISTEN });
    const { port } = b.address!;
    await b.close();
    const a = await life.start('a', { replicas: [at('b', port)], openConfirmMs: 100 });
    const changed = heard(a, 'members-changed');
    const space = await a.openSpace('s');
    for (let n = 0; n < 20; n++) await space.append(1, bytes(`${n}`));
    expect(counting(space)).toEqual({ now: ['a'], pending: undefined });
    expect(space.status().members.learners).toEqual(['b']);
    const back = await again('b', port);
    await until('it is there', () => space.status().replicas[0]!.state === 'streaming');
    await space.append(1, bytes('last'), { ack: { replicas: 1, timeoutMs: 20_000 } });
    expect(counting(space)).toEqual({ now: ['a', 'b'], pending: undefined });
    await until('it is told', () => changed.length > 0);
    expect(changed).toEqual([{ spaces: ['s'], added: ['b'], removed: [] }]);
    await until('b has the settled entry', countsIn(back.space('s'), 'a', 'b'));
    expect(await contentOf(back.space('s'))).toEqual(await contentOf(space));
  });

  test('FAULT-105 a member that was added counts for who never heard of it', async () => {
    const [b, c] = [
      await life.start('b', { listen: LISTEN }),
      await life.start('c', { listen: LISTEN }),
    ];
    const [portB, portC] = [b.address!.port, c.address!.port];
    const a = await life.start('a', {
      lead: true,
      listen: LISTEN,
      replicas: [address(b), address(c)],
    });
    const space = await a.openSpace('s');
    await space.append(1, bytes('before'), { ack: { replicas: 2 } });
    await b.close();
    await c.close();
    const d = await life.start('d', { listen: LISTEN });
    await a.addReplica(address(d));
    await until('d has it', () => d.spaces.some((s) => s.status().durableSequence >= 1));
    // Neither b nor c is there to agree: d learns, and nothing is acknowledged by it alone.
    await expect(
      space.append(1, bytes('by d alone'), { ack: { replicas: 1, timeoutMs: 500 } }),
    ).rejects.toMatchObject({
      code: 'AckTimeout',
      message: expect.stringContaining('(d counts once the members have agreed'),
      details: { learning: ['d'] },
    });
    // One of them comes back: the change is settled, and what d has counts.
    const b2 = await again('b', portB);
    await until('it is settled', countsIn(space, 'a', 'b', 'c', 'd'));
    await b2.close();
    const { sequence } = await space.append(1, bytes('kept'), {
      ack: { replicas: 1, timeoutMs: 20_000 },
    });
    await a.close();
    // b and c return without what d has: two of three were enough for who never heard of d.
    const b3 = await again('b', portB);
    await again('c', portC);
    await expect(b3.promote('s')).rejects.toMatchObject({ code: 'PromotionRefused' });
    expect((await b3.promote('s', { dryRun: true })).lost).toMatchObject([{ nodeId: 'd' }]);
    await d.promote('s');
    const kept = await contentOf(d.space('s'));
    expect(kept.some((line) => line.startsWith(`${sequence} `))).toBe(true);
    expect(kept.join()).toContain(bytes('kept').toString('base64'));
  });

  test('who goes counts until who comes has what is there', async () => {
    const b = await life.start('b', { listen: LISTEN });
    const c = await life.start('c', { listen: LISTEN });
    const replicas = [address(b), address(c)];
    const a = await life.start('a', { lead: true, listen: LISTEN, replicas });
    const space = await a.openSpace('s', { replicas: ['b'] });
    for (let n = 0; n < 50; n++) await space.append(1, bytes(`${n}`), { ack: { replicas: 1 } });
    // It is there, and nothing of the space has been sent to it.
    await a.openSpace('s', { replicas: ['c'] });
    await space.append(1, bytes('last'), { ack: { replicas: 1, timeoutMs: 20_000 } });
    await until('c counts, and b does not', countsIn(space, 'a', 'c'));
    // One member alone could not have kept anything.
    const sets: number[] = [];
    for await (const { type, payload } of space.read()) {
      if (type === MEMBERS_ENTRY) sets.push(decodeMembers(payload).next.members.length);
    }
    expect(sets).toEqual([2, 2]);
  });

  test('FAULT-106 a member that was removed makes no majority', async () => {
    const [b, c] = [
      await life.start('b', { listen: LISTEN }),
      await life.start('c', { listen: LISTEN }),
    ];
    const portB = b.address!.port;
    const a = await life.start('a', {
      lead: true,
      listen: LISTEN,
      replicas: [address(b), address(c)],
    });
    const space = await a.openSpace('s');
    await space.append(1, bytes('one'), { ack: { replicas: 2 } });
    await a.removeReplica('b');
    expect(counting(space)).toEqual({ now: ['a', 'c'], pending: undefined });
    const { sequence } = await space.append(1, bytes('two'), { ack: { replicas: 1 } });
    await until('c knows', countsIn(c.space('s'), 'a', 'c'));
    await a.close();
    await b.close();
    const back = await again('b', portB);
    // It is no member by the log of c: it may neither lead nor count.
    await expect(back.promote('s')).rejects.toMatchObject({ code: 'PromotionRefused' });
    await c.promote('s');
    const kept = await contentOf(c.space('s'));
    expect(kept.some((line) => line.startsWith(`${sequence} `))).toBe(true);
  });

  test('FAULT-106 a removal that cannot be settled says so, and force does it', async () => {
    const b = await life.start('b', { listen: LISTEN });
    const a = await life.start('a', { lead: true, listen: LISTEN, replicas: [address(b)] });
    const space = await a.openSpace('s');
    await space.append(1, bytes('one'), { ack: { replicas: 1 } });
    await b.close();
    await expect(a.removeReplica('b')).rejects.toMatchObject({
      code: 'NotEnoughReplicas',
      message: expect.stringContaining('{ force: true } removes it'),
      details: { spaces: ['s'], away: ['b'] },
    });
    expect(counting(space)).toEqual({ now: ['a'], pending: ['a', 'b'] });
    await a.removeReplica('b', { force: true });
    expect(counting(space)).toEqual({ now: ['a'], pending: undefined });
    await space.append(1, bytes('two'));
    expect(space.status().replicas).toEqual([]);
  }, 30_000);

  test('FAULT-108 a disk of a set of two is lost: force settles it', async () => {
    const b = await life.start('b', { listen: LISTEN });
    const { port } = b.address!;
    const before = b.status().directoryId;
    const a = await life.start('a', { lead: true, listen: LISTEN, replicas: [address(b)] });
    const changed = heard(a, 'members-changed');
    const space = await a.openSpace('s');
    await space.append(1, bytes('one'), { ack: { replicas: 1 } });
    await b.close();
    fs.rmSync(path.join(life.folder, 'b'), { recursive: true });
    const wiped = await again('b', port);
    await until('it has learned all there is', () => {
      const { members, replicas } = space.status();
      const { state, ackedSequence } = replicas[0]!;
      return members.learners.includes('b') && state === 'streaming' && ackedSequence === 1;
    });
    expect(await wiped.promote('s', { dryRun: true })).toMatchObject({ isMember: false });
    // Without force nothing comes of it.
    expect(await a.promote('s')).toMatchObject({ isPromoted: true, epoch: 1, passedOver: [] });
    expect(space.status().members.learners).toEqual(['b']);
    const { passedOver } = await a.promote('s', { force: true });
    expect(passedOver).toMatchObject([{ nodeId: 'b', directoryId: before }]);
    expect(counting(space)).toEqual({ now: ['a', 'b'], pending: undefined });
    await space.append(1, bytes('two'), { ack: { replicas: 1, timeoutMs: 20_000 } });
    await until('it is told', () => changed.length > 0);
    expect(changed).toEqual([{ spaces: ['s'], added: ['b'], removed: ['b'] }]);
  });

  test('FAULT-108 a wiped directory learns, and comes in by a change', async () => {
    const b = await life.start('b', { listen: LISTEN });
    const c = await life.start('c', { listen: LISTEN });
    const { port } = b.address!;
    const before = b.status().directoryId;
    const a = await life.start('a', {
      lead: true,
      listen: LISTEN,
      replicas: [address(b), address(c)],
    });
    const changed = heard(a, 'members-changed');
    const space = await a.openSpace('s');
    for (let n = 0; n < 10; n++) await space.append(1, bytes(`${n}`), { ack: { replicas: 2 } });
    await b.close();
    fs.rmSync(path.join(life.folder, 'b'), { recursive: true });
    const wiped = await again('b', port);
    const { directoryId } = wiped.status();
    expect(directoryId).not.toBe(before);
    await until('the change is settled', () => {
      return space.status().members.counting.some((m) => m.directoryId === directoryId);
    });
    await until('it is told', () => changed.length > 0);
    expect(changed).toEqual([{ spaces: ['s'], added: ['b'], removed: ['b'] }]);
    await space.append(1, bytes('last'), { ack: { replicas: 2, timeoutMs: 20_000 } });
    expect(await contentOf(wiped.space('s'))).toEqual(await contentOf(space));
  });

  test('a new primary finishes what the one before has left pending', async () => {
    const [b, c] = [
      await life.start('b', { listen: LISTEN }),
      await life.start('c', { listen: LISTEN }),
    ];
    const portC = c.address!.port;
    const a = await life.start('a', {
      lead: true,
      listen: LISTEN,
      replicas: [address(b), address(c)],
    });
    const space = await a.openSpace('s');
    await space.append(1, bytes('one'), { ack: { replicas: 2 } });
    // a alone cannot settle it: b gets the entry and cannot be heard any more.
    const removal = a.removeReplica('c').catch((error) => error);
    await until(
      'b has what is pending',
      () => counting(b.space('s')).pending !== undefined || counting(b.space('s')).now.length === 2,
    );
    await a.close();
    await removal;
    await again('c', portC).catch(() => undefined);
    await b.promote('s');
    await until('it is settled', countsIn(b.space('s'), 'a', 'b'));
  });
});
