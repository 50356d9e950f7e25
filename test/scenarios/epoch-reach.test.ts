/** No frame uses up the epochs: what is out of reach is refused, wherever it comes from. */
import { describe, expect, test } from 'vitest';
import type { Node, Space } from '#src/main/index.js';
import { nodePlatform } from '#src/main/node/machine.js';
import { PeerClient } from '#src/main/peer/client.js';
import { EPOCH_MAX, EPOCH_REACH } from '#src/shared/limits.js';
import { idOf } from '#src/shared/names.js';
import type { StandingRow } from '#src/shared/wire/peer-frames.js';
import type { Frame, PlainFrame } from '#src/shared/wire/protocol.js';
import { NO_CREDENTIALS } from '#src/shared/wire/tls/certificates.js';
import { at, EachTest, heard, until } from '../support/cluster.js';
import { batchFrame, WireClient } from '../support/wire-client.js';
import { WireReplica } from '../support/wire-replica.js';

const LISTEN = { host: '127.0.0.1', port: 0 };
const POSITION = { epoch: 1, sequence: 3, headerCrc: 0 };
/** All that a u32 holds, and the first one out of reach of a space in epoch 1. */
const FAR = [0xffff_ffff, 1 + EPOCH_REACH + 1] as const;

const world = new EachTest();

function ask(node: Node, question: PlainFrame, kind: Frame['kind']): Promise<Frame[]> {
  const own = { clusterId: 'test', nodeId: 'x', incarnation: 1n, credentials: NO_CREDENTIALS };
  const caps = { maxEntryBytes: 16 * 1024, maxFrameBytes: 1024 * 1024 };
  const times = { readTimeoutMs: 10_000, keepAliveMs: 10_000 };
  const more = { directoryId: 'b'.repeat(32), ...caps, ...times };
  const peers = new PeerClient(nodePlatform, { ...own, ...more });
  world.finally(() => peers.close());
  return peers.ask({ nodeId: node.nodeId, ...node.address! }, question, [kind], 5_000);
}

async function seenBy(node: Node, id: string): Promise<number> {
  const [frame] = await ask(node, { kind: 'standing-ask', ids: [id] }, 'standing');
  return (frame as Extract<Frame, { kind: 'standing' }>).rows[0]!.epochSeen;
}

function dial(node: Node): WireClient {
  const client = new WireClient(node.address!.port);
  world.finally(() => client.socket.destroy());
  return client;
}

/** b follows a in epoch 1, three entries each. */
async function pair(): Promise<{ a: Node; b: Node; space: Space }> {
  const b = await world.start('b', { listen: LISTEN });
  const replicas = [at('b', b.address!.port)];
  const a = await world.start('a', { listen: LISTEN, lead: true, replicas });
  const space = await a.openSpace('s');
  for (let n = 0; n < 3; n++) await space.append(1, Buffer.alloc(8), { ack: { replicas: 1 } });
  return { a, b, space };
}

/** What a stranger on loopback, or a member gone mad, says to whoever follows or leads `s`. */
const SAYS: Record<string, (node: Node, epoch: number) => Promise<unknown>> = {
  introduction: async (node, epoch) => {
    const client = dial(node);
    await client.hello(node.nodeId, { nodeId: 'x' });
    client.follow('s', 1, epoch).catch(() => undefined);
    return await client.next('bye');
  },
  batch: async (node, epoch) => {
    const client = dial(node);
    await client.hello(node.nodeId, { nodeId: 'x' });
    client.socket.write(batchFrame('s', 4, 4, epoch));
    return await client.next('bye');
  },
  promise: async (node, epoch) => {
    const candidate = { nodeId: 'x', host: '127.0.0.1', port: 1 };
    const question = { kind: 'promise', id: idOf('s'), epoch, candidate, handover: 0n } as const;
    const [answer] = await ask(node, question, 'promised');
    expect(answer).toMatchObject({ isGranted: false });
    return { code: (answer as Extract<Frame, { kind: 'promised' }>).reason.split(':')[0] };
  },
  'take-over': (node, epoch) => {
    const position = { ...POSITION, epoch };
    const question = { kind: 'take-over', id: idOf('s'), position, handover: 1n } as const;
    return ask(node, question, 'took-over').catch((error) => error);
  },
};

describe('FAULT-111 an epoch out of reach', () => {
  test.each(Object.keys(SAYS))('%s: refused by who follows and who leads', async (how) => {
    const { a, b, space } = await pair();
    const told = [heard(a, 'connection-refused'), heard(b, 'connection-refused')];
    const id = idOf('s');
    for (const epoch of FAR) {
      for (const node of [a, b]) {
        expect(await SAYS[how]!(node, epoch)).toMatchObject({ code: 'EpochOutOfReach' });
        expect(await seenBy(node, id)).toBe(1);
      }
    }
    await space.append(1, Buffer.alloc(8), { ack: { replicas: 1, timeoutMs: 10_000 } });
    // A promise that is not given is told to who asked for it.
    if (how !== 'promise') {
      await until('it is told', () => told.every((all) => all.some((e) => e.reason === 'epoch')));
    }
    // Nobody's promotion suffers: neither the dry run, nor the real one.
    expect(await b.promote('s', { dryRun: true })).toMatchObject({ isQualified: true });
    expect(await b.promote('s', { force: true })).toMatchObject({ epoch: 2 });
  });

  test('of a history: the link ends, and nothing is seen', async () => {
    const b = await world.start('b', { listen: LISTEN });
    for (const epoch of FAR) {
      const client = dial(b);
      await client.hello('b', { nodeId: 'a' });
      await client.follow('s');
      // Not the last of them alone.
      const rows = [epoch, 1].map((e) => {
        return { handle: 1, epoch: e, startSequence: 1, primaryNodeId: idOf('a') };
      });
      client.send({ kind: 'history', rows });
      client.send({ kind: 'verdicts', rows: [{ handle: 1, verdict: 'continue', next: 1 }] });
      expect(await client.next('bye')).toMatchObject({ code: 'EpochOutOfReach' });
      expect(await seenBy(b, idOf('s'))).toBe(1);
    }
  });

  test('what is within reach is heard as ever', async () => {
    const { a, space } = await pair();
    expect(await SAYS.promise!(a, 1 + EPOCH_REACH).catch(() => 'granted')).toBe('granted');
    await until('it leads no more', () => space.status().role === 'replica');
    expect(await seenBy(a, idOf('s'))).toBe(1 + EPOCH_REACH);
  });

  test('of a replica, or of whoever is asked: it counts for nothing', async () => {
    const b = new WireReplica('b');
    const port = await b.listen();
    world.finally(() => b.close());
    const a = await world.start('a', { listen: LISTEN, lead: true, replicas: [at('b', port)] });
    const space = await a.openSpace('s');
    for (let n = 0; n < 3; n++) await space.append(1, Buffer.alloc(8));
    await until('all has arrived', () => b.last === 3);
    b.ack(3);
    const told = heard(a, 'connection-refused');
    const fenced = heard(a, 'fenced');
    const count = (): number =>
      a.status().refused.reduce((sum, r) => sum + (r.reason === 'epoch' ? r.times : 0), 0);
    const { handle } = b;
    b.send({
      kind: 'acks',
      timestampMs: 0,
      rows: Float64Array.of(handle, FAR[0], 3, 0),
    });
    await until('an ack is told', () => count() === 1);
    b.send({ kind: 'fenced', handle, epoch: FAR[1], leader: undefined });
    await until('fenced is told', () => count() === 2);
    expect(told[0]).toMatchObject({ reason: 'epoch', addressClass: 'member' });
    const { id } = space.status();
    const row: StandingRow = {
      ...{ id, isKnown: true, role: 'replica', epoch: 1, epochSeen: FAR[0], primary: 'a' },
      ...{ position: POSITION, flushed: 3, applied: 3, first: 1, isWhole: true, history: [] },
      ...{ directoryId: undefined, sets: [], founder: undefined, isFounded: false, protocol: 1 },
    };
    // The epoch that it has seen, or that of an entry which it says to have.
    for (const change of [{}, { epochSeen: 1, position: { ...POSITION, epoch: FAR[1] } }]) {
      b.answer = ({ kind }) =>
        kind === 'standing-ask' ? { kind: 'standing', rows: [{ ...row, ...change }] } : undefined;
      const { silent } = await a.promote('s', { dryRun: true });
      expect(silent).toMatchObject([
        { nodeId: 'b', reason: expect.stringContaining('OutOfReach') },
      ]);
    }
    expect(fenced).toEqual([]);
    expect(await space.append(1, Buffer.alloc(8))).toMatchObject({ epoch: 1 });
  });

  test('the last epoch ends promotions, and no directory: nothing wraps around', async () => {
    const c = await world.start('c', { listen: LISTEN });
    const client = dial(c);
    await client.hello('c', { nodeId: 'x' });
    // Nothing is known of it here: any epoch that there may be is taken.
    await client.follow('far', 1, EPOCH_MAX);
    client.socket.write(batchFrame('far', 1, 3, EPOCH_MAX));
    await client.next('acks');
    for (const how of [{ dryRun: true }, {}, { force: true }]) {
      await expect(c.promote('far', how)).rejects.toMatchObject({ code: 'EpochOutOfReach' });
    }
    client.follow('farther', 2, EPOCH_MAX + 1).catch(() => undefined);
    expect(await client.next('bye')).toMatchObject({ code: 'EpochOutOfReach' });
    await c.close();
    // What is on disk is there: it opens, and tells.
    const again = await world.start('c', { listen: LISTEN });
    expect(again.space('far').status()).toMatchObject({ epoch: EPOCH_MAX, durableSequence: 3 });
    expect(() => again.space('farther')).toThrow('SpaceUnknown');
  });
});
