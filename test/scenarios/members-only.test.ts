/** With a key only members are let in: who has it and belongs to nothing here hears nothing. */
import fs from 'node:fs';
import path from 'node:path';
import { describe, expect, test } from 'vitest';
import type { EngramError, Node, NodeOptions, Space } from '#src/main/index.js';
import { nodePlatform } from '#src/main/node/machine.js';
import { PeerClient } from '#src/main/peer/client.js';
import { idOf } from '#src/shared/names.js';
import { DiallerAuth } from '#src/shared/wire/auth.js';
import type { Frame, PlainFrame } from '#src/shared/wire/protocol.js';
import { at, contentOf, EachTest, heard, openSmall, until } from '../support/cluster.js';
import { WireClient } from '../support/wire-client.js';

const LISTEN = { host: '127.0.0.1', port: 0 };
const KEY = 'a key of sixteen bytes, and more';
const VERSIONS = { minVersion: 1, maxVersion: 2 };
const NONCE = Buffer.alloc(32, 7);
const ACKED = { ack: { replicas: 1, timeoutMs: 20_000 } };

const world = new EachTest();

function start(nodeId: string, more: Partial<NodeOptions> = {}): Promise<Node> {
  return world.start(nodeId, { key: KEY, listen: LISTEN, ...more });
}

/** Opened again where it listened before. */
async function again(node: Node, more: Partial<NodeOptions> = {}): Promise<Node> {
  const { nodeId } = node;
  const listen = { host: '127.0.0.1', port: node.address!.port };
  const dir = path.join(world.folder, nodeId);
  const back = await openSmall(dir, nodeId, { key: KEY, listen, ...more });
  world.finally(() => back.close());
  return back;
}

function address(node: Node): ReturnType<typeof at> {
  return at(node.nodeId, node.address!.port);
}

/** A holder of the key that calls itself so, and ships. */
async function proved(node: Node, nodeId: string): Promise<WireClient> {
  const client = new WireClient(node.address!.port);
  world.finally(() => client.socket.destroy());
  const parties = { clusterId: 'test', dialler: nodeId, listener: node.nodeId };
  const dialler = new DiallerAuth([Buffer.from(KEY)], parties, NONCE);
  const { auth } = await client.hello(node.nodeId, { ...VERSIONS, nodeId, auth: NONCE });
  client.send({ kind: 'proof', proof: dialler.welcomed(auth, 2)! });
  return client;
}

/** What comes of a question by a holder of the key that calls itself so. */
async function asks(
  node: Node,
  nodeId: string,
  question: PlainFrame,
  kind: Frame['kind'],
): Promise<Frame | string> {
  const credentials = { now: { keys: [Buffer.from(KEY)], tls: undefined } };
  const own = { clusterId: 'test', nodeId, incarnation: 1n, credentials };
  const caps = { maxEntryBytes: 16 * 1024, maxFrameBytes: 1024 * 1024 };
  const times = { readTimeoutMs: 10_000, keepAliveMs: 10_000 };
  const peers = new PeerClient(nodePlatform, {
    ...own,
    directoryId: 'b'.repeat(32),
    ...caps,
    ...times,
  });
  world.finally(() => peers.close());
  return await peers.ask(address(node), question, [kind], 10_000).then(
    ([frame]) => frame!,
    (error: EngramError) => error.code,
  );
}

/** The condition is asked of nodes. */
async function untilSo(what: string, is: () => Promise<boolean>): Promise<void> {
  await expect.poll(is, { message: what, timeout: 30_000, interval: 100 }).toBe(true);
}

const standingAsk = (name: string) => ({ kind: 'standing-ask', ids: [idOf(name)] }) as const;

async function pair(more: Partial<NodeOptions> = {}): Promise<{ a: Node; b: Node; space: Space }> {
  const b = await start('b');
  const a = await start('a', { lead: true, replicas: [address(b)], ...more });
  const space = await a.openSpace('s');
  await space.append(1, Buffer.from('first'), ACKED);
  return { a, b, space };
}

describe('FAULT-45 members only', () => {
  test('who has the key and is no member hears nothing and changes nothing', async () => {
    const { a, b, space } = await pair();
    const told = [heard(a, 'connection-refused'), heard(b, 'connection-refused')];
    const candidate = { nodeId: 'x', host: '127.0.0.1', port: 1 };
    const id = idOf('s');
    for (const node of [a, b]) {
      const ships = await proved(node, 'x');
      ships.follow('s', 1, 7).catch(() => undefined);
      ships.follow('new', 2, 7).catch(() => undefined);
      expect(await ships.next('bye')).toMatchObject({ code: 'NotMember', fatal: false });
      await ships.closed;
      expect(ships.frames.map(({ kind }) => kind)).toEqual([]);
      const promise = { kind: 'promise', id, epoch: 2, candidate, handover: 0n } as const;
      const position = { epoch: 2, sequence: 1, headerCrc: 0 };
      const takeOver = { kind: 'take-over', id, position, handover: 1n } as const;
      const entries = { kind: 'entries-ask', id, from: 1, to: 1, maxBytes: 1_000 } as const;
      expect(await asks(node, 'x', standingAsk('s'), 'standing')).toBe('NotMember');
      expect(await asks(node, 'x', promise, 'promised')).toBe('NotMember');
      expect(await asks(node, 'x', takeOver, 'took-over')).toBe('NotMember');
      expect(await asks(node, 'x', entries, 'entries')).toBe('NotMember');
    }
    await until('it is told', () => told.every((all) => all.length > 0));
    for (const [all] of told)
      expect(all).toMatchObject({ reason: 'not-member', door: 'replication' });
    expect(await asks(b, 'a', standingAsk('s'), 'standing')).toMatchObject({
      rows: [{ isKnown: true, epochSeen: 1 }],
    });
    await space.append(1, Buffer.from('second'), ACKED);
    expect(b.status().spaces.map(({ name }) => name)).toEqual(['s']);
  });

  test('nobody asks for a promise to somebody else', async () => {
    const { b } = await pair();
    const candidate = { nodeId: 'c', host: '127.0.0.1', port: 1 };
    const question = { kind: 'promise', id: idOf('s'), epoch: 2, candidate, handover: 0n } as const;
    expect(await asks(b, 'a', question, 'promised')).toBe('ProtocolViolation');
  });

  test('who knows nobody takes the first; the next one has to be named', async () => {
    const b = await start('b');
    const a = await start('a', { lead: true, replicas: [address(b)] });
    await (await a.openSpace('s')).append(1, Buffer.from('x'), ACKED);
    const other = await start('other', { lead: true, replicas: [address(b)], openConfirmMs: 100 });
    const space = await other.openSpace('t');
    const reason = (): string => other.status().replicas[0]!.reason;
    await until('it is refused', () => reason().includes('NotMember'));
    await b.close();
    const back = await again(b, { replicas: [address(other)] });
    await space.append(1, Buffer.from('y'), ACKED);
    expect(
      back
        .status()
        .spaces.map(({ name }) => name)
        .sort(),
    ).toEqual(['s', 't']);
  });

  test('newcomers, wiped members and restarted ones get in; who was removed does not', async () => {
    const { a, b, space } = await pair();
    const c = await start('c');
    await a.addReplica(address(c));
    const counting = (): string[] => {
      return space
        .status()
        .members.counting.map((m) => m.nodeId)
        .sort();
    };
    await until('c counts', () => counting().join() === 'a,b,c');
    // Of its own knowledge b lets c in: c is a member.
    await untilSo('b knows c', async () => {
      return typeof (await asks(b, 'c', standingAsk('s'), 'standing')) === 'object';
    });
    // An empty directory under the old name.
    await c.close();
    fs.rmSync(path.join(world.folder, 'c'), { recursive: true });
    const wiped = await again(c);
    await until('it has learned', () => wiped.status().spaces.length === 1);
    await until('it counts again', () => {
      const { directoryId } = wiped.status();
      return space.status().members.counting.some((m) => m.directoryId === directoryId);
    });
    await space.append(1, Buffer.from('more'), { ack: { replicas: 2, timeoutMs: 20_000 } });
    await a.removeReplica('c');
    await untilSo('c is a stranger', async () => {
      const [atA, atB] = await Promise.all(
        [a, b].map((node) => asks(node, 'c', standingAsk('s'), 'standing')),
      );
      return atA === 'NotMember' && atB === 'NotMember';
    });
    await space.append(1, Buffer.from('last'), ACKED);
  });

  test('members that came while a node was away are let in: those it knows name them', async () => {
    const { a, b, space } = await pair();
    const d = await start('d');
    await a.addReplica(address(d));
    const isSettled = (count: number) => (): boolean => {
      const { counting, pending } = space.status().members;
      return counting.length === count && pending === undefined;
    };
    await until('d counts', isSettled(3));
    // b is away while c comes and a goes for good; d leads then, and b has to let c in by itself.
    await b.close();
    const c = await start('c');
    await a.addReplica(address(c));
    await until('c counts', isSettled(4));
    await space.append(1, Buffer.from('while b is away'), {
      ack: { replicas: 2, timeoutMs: 20_000 },
    });
    await a.close();
    await untilSo('c leads', () =>
      c.promote('s', { force: true }).then(
        () => true,
        () => false,
      ),
    );
    const back = await again(b);
    const refused = heard(back, 'connection-refused');
    await until('b follows c', () => back.space('s').status().primaryNodeId === 'c');
    await c.space('s').append(1, Buffer.from('by c'), { ack: { replicas: 2, timeoutMs: 20_000 } });
    await until('b has it', () => back.space('s').status().durableSequence > 3);
    expect((await contentOf(back.space('s'))).slice(0, 3)).toEqual(
      (await contentOf(c.space('s'))).slice(0, 3),
    );
    // It was a stranger at first.
    await until('this was told', () => refused.some(({ reason }) => reason === 'not-member'));
  });

  test('mayReplicate: which node may have, bring and ask about which spaces', async () => {
    const b = await start('b', { mayReplicate: { a: ['s', 'eu-*'] } });
    const a = await start('a', { lead: true, replicas: [address(b)] });
    const told = heard(b, 'connection-refused');
    for (const name of ['s', 'eu-1']) {
      await (await a.openSpace(name)).append(1, Buffer.from('x'), ACKED);
    }
    const secret = await a.openSpace('us-1');
    await secret.append(1, Buffer.from('x'));
    await until('it is told', () => told.some(({ reason }) => reason === 'not-allowed'));
    expect(
      b
        .status()
        .spaces.map(({ name }) => name)
        .sort(),
    ).toEqual(['eu-1', 's']);
    // What it has by itself it does not tell either, and what is allowed goes on.
    const own = await b.openSpace('own', { lead: true });
    await own.append(1, Buffer.from('x'));
    const entries = { kind: 'entries-ask', id: idOf('own'), from: 1, to: 1, maxBytes: 99 } as const;
    expect(await asks(b, 'a', entries, 'entries')).toBe('SpaceUnknown');
    expect(await asks(b, 'a', { kind: 'standing-ask', ids: [idOf('own')] }, 'standing')).toBe(
      undefined,
    );
    expect(await asks(b, 'a', standingAsk('s'), 'standing')).toMatchObject({
      rows: [{ isKnown: true }],
    });
    const tips = { kind: 'tip-ask', ids: ['own', 's'].map(idOf) } as const;
    expect(await asks(b, 'a', tips, 'tips')).toMatchObject({ rows: [{ id: idOf('s') }] });
    await a.space('s').append(1, Buffer.from('y'), ACKED);
  });

  test('mayReplicate: nothing goes to a node that may not have it', async () => {
    const b = await start('b');
    const a = await start('a', {
      lead: true,
      replicas: [address(b)],
      mayReplicate: { b: ['s'] },
    });
    await (await a.openSpace('s')).append(1, Buffer.from('x'), ACKED);
    const kept = await a.openSpace('kept');
    await kept.append(1, Buffer.from('x'));
    expect(kept.status().replicas).toEqual([]);
    await expect(a.openSpace('more', { replicas: ['b'] })).rejects.toThrow('mayReplicate');
    expect(b.status().spaces.map(({ name }) => name)).toEqual(['s']);
  });
});
