/** A higher epoch ends the one below, whoever has asked and in whatever frame (row 111). */
import { expect, test } from 'vitest';
import { attachProducer, type EngramError, type Node, type Space } from '#src/main/index.js';
import { nodePlatform } from '#src/main/node/machine.js';
import { PeerClient } from '#src/main/peer/client.js';
import type { StandingRow } from '#src/shared/wire/peer-frames.js';
import type { Frame, PlainFrame } from '#src/shared/wire/protocol.js';
import { NO_CREDENTIALS } from '#src/shared/wire/tls/certificates.js';
import { at, EachTest, heard, until } from '../support/cluster.js';
import { openFake } from '../support/fake-cluster.js';
import { FakeDisk } from '../support/fake-disk.js';
import { Trio } from '../support/trio.js';
import { batchFrame, PRIMARY, WireClient } from '../support/wire-client.js';
import { WireReplica } from '../support/wire-replica.js';

const LISTEN = { host: '127.0.0.1', port: 0 };
const NOBODY = { nodeId: 'x', host: '127.0.0.1', port: 1 };

const each = new EachTest();

interface Met {
  readonly b: WireReplica;
  readonly a: Node;
  readonly space: Space;
  readonly fenced: { epoch: number }[];
}

/** `a` leads `s` in epoch 1, and `b`, which is made by hand, has all of it. */
async function met(): Promise<Met> {
  const b = new WireReplica('b');
  const port = await b.listen();
  const a = await each.start('a', { listen: LISTEN, lead: true, replicas: [at('b', port)] });
  each.finally(() => b.close());
  const space = await a.openSpace('s');
  for (let n = 1; n <= 3; n++) await space.append(1, Buffer.alloc(10, n));
  await until('all has arrived', () => b.last === 3);
  b.ack(3);
  await space.flushed(3, { replicas: 1, timeoutMs: 10_000 });
  return { b, a, space, fenced: heard(a, 'fenced') };
}

/** A call of `x`, which is nobody's member, to a node. */
function caller(node: Node) {
  const own = { clusterId: 'test', nodeId: 'x', incarnation: 1n, credentials: NO_CREDENTIALS };
  const caps = { maxEntryBytes: 16 * 1024, maxFrameBytes: 1024 * 1024 };
  const times = { readTimeoutMs: 10_000, keepAliveMs: 10_000 };
  const peers = new PeerClient(nodePlatform, {
    ...own,
    directoryId: 'b'.repeat(32),
    ...caps,
    ...times,
  });
  each.finally(() => peers.close());
  const member = { nodeId: node.nodeId, ...node.address! };
  return (question: PlainFrame, kind: Frame['kind']) => peers.ask(member, question, [kind], 5_000);
}

async function standingOf(node: Node, space: Space): Promise<StandingRow> {
  const { id } = space.status();
  const [frame] = await caller(node)({ kind: 'standing-ask', ids: [id] }, 'standing');
  return (frame as Extract<Frame, { kind: 'standing' }>).rows[0]!;
}

/** Durable: a new life knows it as well, and acknowledges nothing of the old epoch. */
async function expectFenced({ a, space, fenced }: Met, epoch: number): Promise<void> {
  expect(fenced).toMatchObject([{ epoch }]);
  await expect(space.append(1, Buffer.alloc(1))).rejects.toThrow();
  await until('it leads no more', () => space.status().role === 'replica');
  await expect(space.append(1, Buffer.alloc(1))).rejects.toMatchObject({ code: 'Fenced' });
  expect(await standingOf(a, space)).toMatchObject({ role: 'replica', epochSeen: epoch });
}

function standing(space: Space, change: Partial<StandingRow>): PlainFrame {
  const { id, position } = space.status() as unknown as StandingRow;
  const row: StandingRow = {
    id,
    isKnown: true,
    role: 'replica',
    epoch: 1,
    epochSeen: 7,
    primary: 'a',
    position: position ?? { epoch: 1, sequence: 3, headerCrc: 0 },
    flushed: 3,
    applied: 3,
    first: 1,
    isWhole: true,
    history: [],
    directoryId: undefined,
    sets: [],
    founder: undefined,
    isFounded: false,
    protocol: 1,
    ...change,
  };
  return { kind: 'standing', rows: [row] };
}

test('FAULT-111 a standing answer to the old primary: it is fenced, and not promoted', async () => {
  const all = await met();
  const { a, b, space } = all;
  b.answer = ({ kind }) =>
    kind === 'standing-ask' ? standing(space, { role: 'primary', epoch: 7 }) : undefined;
  const report = await a.promote('s', { dryRun: true });
  expect(report).toMatchObject({ isPromoted: false, epoch: 7 });
  await expectFenced(all, 7);
});

test('FAULT-111 a standing answer of one that has promised, and a promise refused', async () => {
  const all = await met();
  const { a, b, space, fenced } = all;
  const { id } = space.status();
  b.answer = ({ kind }) => {
    if (kind === 'standing-ask') return standing(space, {});
    const position = { epoch: 1, sequence: 3, headerCrc: 0 };
    return { kind: 'promised', id, isGranted: false, epochSeen: 20, position, reason: 'another' };
  };
  // Of two that hold it alone this one is enough; what it leads in is an epoch of its own.
  expect(await a.promote('s')).toMatchObject({ isPromoted: true, epoch: 21 });
  expect(fenced).toMatchObject([{ epoch: 7, leader: undefined }]);
  expect(await space.append(1, Buffer.alloc(1))).toMatchObject({ epoch: 21 });
  expect(await standingOf(a, space)).toMatchObject({ role: 'primary', epochSeen: 21 });
});

test('FAULT-111 an ack of a higher epoch', async () => {
  const all = await met();
  const rows = Float64Array.of(all.b.handle, 7, 3, 3);
  all.b.send({ kind: 'acks', timestampMs: 0, rows });
  await until('it is heard', () => all.fenced.length > 0);
  await expectFenced(all, 7);
});

test('FAULT-111 a position of a higher epoch, with the link that comes back', async () => {
  const all = await met();
  all.b.epochSeen = 7;
  all.b.cut();
  await until('it is heard', () => all.fenced.length > 0);
  await expectFenced(all, 7);
});

test('FAULT-111 who takes over names an epoch that nobody asked this node about', async () => {
  const all = await met();
  const { a, b, space } = all;
  const { id } = space.status();
  b.answer = ({ kind }) =>
    kind === 'take-over' ? { kind: 'took-over', id, epoch: 7, code: '', reason: '' } : undefined;
  expect(await a.switchover('s', 'b')).toMatchObject({ to: 'b', epoch: 7 });
  await expectFenced(all, 7);
});

test('FAULT-111 who hands over names the epoch of its last entry', async () => {
  const all = await met();
  const { id } = all.space.status();
  const position = { epoch: 7, sequence: 3, headerCrc: 0 };
  await caller(all.a)({ kind: 'take-over', id, position, handover: 1n }, 'took-over');
  await expectFenced(all, 7);
});

test('FAULT-111 what is on its way to the disk meanwhile is not acknowledged', async () => {
  const disk = new FakeDisk();
  const a = await openFake(disk, { listen: LISTEN, lead: true });
  each.finally(() => a.close());
  const space = await a.openSpace('s');
  const producer = attachProducer(space.producer());
  await producer.append(1000, Buffer.from('acknowledged'));
  const fenced = heard(a, 'fenced');
  disk.delay = { only: 'fdatasync', ms: 60_000 };
  each.finally(() => {
    disk.delay = undefined;
  });
  const payload = Buffer.from('never');
  const ack = { replicas: 0 };
  const all = [
    space.append(1000, payload),
    space.append(1000, payload, { ack }),
    space.appendBatch(1000, [payload, payload]),
    producer.append(1000, payload),
    producer.append(1000, payload, { ack }),
  ].map((one) =>
    one.then(
      () => 'acknowledged',
      (error: EngramError) => error.code,
    ),
  );
  await until('all is on its way', () => space.status().lastSequence === 7);
  const { id } = space.status();
  const position = { epoch: 7, sequence: 3, headerCrc: 0 };
  const asked = caller(a)({ kind: 'take-over', id, position, handover: 1n }, 'took-over');
  asked.catch(() => undefined);
  await until('it is heard', () => fenced.length > 0);
  disk.delay = undefined;
  expect(await Promise.all(all)).toEqual(all.map(() => 'Fenced'));
});

for (const leader of [undefined, NOBODY]) {
  const what = leader ? 'with a leader' : 'without one';
  test(`FAULT-111 a fenced frame ${what} that comes while the node promotes`, async () => {
    const all = await met();
    const { a, b, space } = all;
    let asked = 0;
    b.answer = ({ kind }) => {
      if (kind === 'standing-ask') asked++;
      return undefined;
    };
    // The member says nothing to the question, and this meanwhile.
    const promoted = a.promote('s').catch((error) => error);
    await until('it is asked', () => asked > 0);
    b.send({ kind: 'fenced', handle: b.handle, epoch: 7, leader });
    await until('it is heard', () => all.fenced.length > 0);
    await expect(space.append(1, Buffer.alloc(1))).rejects.toMatchObject({ code: 'Fenced' });
    expect(await promoted).not.toMatchObject({ isPromoted: true, epoch: 1 });
    expect(space.status().epoch === 1 && space.status().role === 'primary').toBe(false);
  });
}

test('FAULT-111 a batch, and a history, of a higher epoch than was introduced', async () => {
  const c = await each.start('c', { listen: LISTEN });
  for (const [name, kind] of [
    ['by-batch', 'batch'],
    ['by-history', 'history'],
  ] as const) {
    const client = new WireClient(c.address!.port);
    each.finally(() => client.socket.destroy());
    await client.hello('c', { nodeId: `${PRIMARY}-${kind}` });
    await client.follow(name);
    if (kind === 'batch') client.socket.write(batchFrame(name, 1, 1, 7));
    else {
      const row = { handle: 1, epoch: 7, startSequence: 1, primaryNodeId: '1'.repeat(32) };
      client.send({ kind: 'history', rows: [row] });
      client.send({ kind: 'verdicts', rows: [{ handle: 1, verdict: 'continue', next: 1 }] });
    }
    await expect
      .poll(async () => (await standingOf(c, c.space(name))).epochSeen, { timeout: 10_000 })
      .toBe(7);
  }
});

test('FAULT-111 a replica that hears of it in an answer refuses the primary below it', async () => {
  const trio = await Trio.make(['a', 'b', 'c'], true);
  each.finally(() => trio.close());
  const a = await trio.start('a');
  const b = await trio.start('b');
  const c = await trio.start('c');
  const space = await a.openSpace('s');
  await space.append(1, Buffer.alloc(10));
  await trio.settled('a', 's', 2);
  await trio.cut('a', 'b');
  await trio.cut('b', 'a');
  const { id } = space.status();
  const question = { kind: 'promise', id, epoch: 5, candidate: NOBODY, handover: 0n } as const;
  expect(await caller(b)(question, 'promised')).toMatchObject([{ isGranted: true }]);
  expect(await space.append(1, Buffer.alloc(10))).toMatchObject({ sequence: 2 });
  // Nothing is burned by the question; what it has brought to light holds all the same.
  expect(await c.promote('s', { dryRun: true })).toMatchObject({ isPromoted: false, epoch: 5 });
  await until('a hears of it at c', () => trio.heard('a', 'fenced').length > 0);
  expect(trio.heard('a', 'fenced')).toMatchObject([{ epoch: 5 }]);
  expect(await standingOf(c, c.space('s'))).toMatchObject({ epochSeen: 5, role: 'replica' });
});
