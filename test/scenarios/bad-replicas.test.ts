/** What a primary bears from replicas that lie, vanish or come and go; on real sockets. */
import { type ChildProcess, fork } from 'node:child_process';
import net from 'node:net';
import path from 'node:path';
import { expect, test } from 'vitest';
import type { Node, Space } from '#src/main/index.js';
import { at, contentOf, EachTest, heard, until } from '../support/cluster.js';
import { TcpProxy } from '../support/tcp-proxy.js';
import { WireReplica } from '../support/wire-replica.js';

const LISTEN = { host: '127.0.0.1', port: 0 };
const FULL_LISTENER = path.join(import.meta.dirname, '../support/full-listener.mjs');

const each = new EachTest();
const start = each.start.bind(each);

async function withLiar(): Promise<{ liar: WireReplica; a: Node; space: Space }> {
  const liar = new WireReplica('liar');
  const port = await liar.listen();
  const a = await start('a', { replicas: [at('liar', port)] });
  // Before the node: it would wait for what nobody acknowledges.
  each.finally(() => liar.close());
  const space = await a.openSpace('s');
  for (let n = 1; n <= 5; n++) await space.append(1, Buffer.alloc(100, n));
  await until('all has arrived', () => liar.last === 5);
  return { liar, a, space };
}

test('FAULT-33 an ack of what was never sent ends the link, and counts for nothing', async () => {
  const { liar, a, space } = await withLiar();
  const states = heard(a, 'replica-state');
  liar.ack(3);
  await until('three are told', () => space.status().replicas[0]!.ackedSequence >= 3);
  liar.ack(6);
  await until('it is sent away', () => states.some((s) => s.reason.includes('an ack of 6')));
  expect(space.status().replicas[0]!.ackedSequence).toBeLessThanOrEqual(5);
  expect(space.status().isReplicated(1)).toBe(false);
  await expect(space.flushed(5, { replicas: 1, timeoutMs: 200 })).rejects.toThrow();
  // It comes back with what it really has, and gets the rest.
  await until('all comes again', () => liar.connections > 1 && liar.last === 5);
  expect(liar.batches[0]!.start).toBe(1);
});

test('FAULT-33 an ack that goes back ends the link', async () => {
  const { liar, a, space } = await withLiar();
  const states = heard(a, 'replica-state');
  liar.ack(4);
  await space.flushed(4, { replicas: 1, timeoutMs: 10_000 });
  liar.ack(2);
  await until('it is sent away', () => states.some((s) => s.reason.includes('behind 4')));
  // An ack of another epoch is no ack at all.
  await until('all comes again', () => liar.connections > 1 && liar.last === 5);
  const rows = Float64Array.of(liar.handle, 0, 5, 5);
  liar.send({ kind: 'acks', timestampMs: 0, rows });
  liar.ack(1);
  await until('one is told', () => space.status().replicas[0]!.ackedSequence >= 1);
});

test('FAULT-27 who had all from this process is not ahead: it lies, and is alone', async () => {
  const { liar, a, space } = await withLiar();
  const refused = heard(a, 'replica-refused');
  liar.ack(5);
  await space.flushed(5, { replicas: 1, timeoutMs: 10_000 });
  liar.position = { epoch: 1, sequence: 1_000_000, headerCrc: 7 };
  liar.cut();
  await until('what it says is told', () => refused.length > 0);
  expect(refused[0]).toMatchObject({ space: 's', replicaId: 'liar', verdict: 'fork' });
  expect(await space.append(1, Buffer.alloc(100))).toMatchObject({ sequence: 6 });
});

test('FAULT-27 nobody is ahead in an epoch that this very process has begun', async () => {
  const { liar, a, space } = await withLiar();
  liar.cut();
  const b = await start('b', { listen: LISTEN, replicas: [at('liar', liar.port)] });
  await a.addReplica(at('b', b.address!.port));
  await until(
    'b has it all',
    () => b.spaces.length > 0 && b.space('s').status().durableSequence >= 5,
  );
  await a.close();
  const refused = heard(b, 'replica-refused');
  liar.position = { epoch: 2, sequence: 1_000_000, headerCrc: 7 };
  liar.epochSeen = 2;
  const { epoch } = await b.promote('s', { force: true });
  expect(epoch).toBe(2);
  await until('what it says is told', () => refused.length > 0);
  expect(refused[0]).toMatchObject({ space: 's', replicaId: 'liar', verdict: 'fork' });
  await b.space('s').append(1, Buffer.alloc(100));
  expect(space).toBeDefined();
});

test('FAULT-114 who always says that it follows another is asked ever more seldom', async () => {
  const { liar, space } = await withLiar();
  liar.callFeatures = 0;
  liar.stands = 'forked';
  liar.cut();
  const introduced = (): number => liar.frames.filter(({ kind }) => kind === 'spaces').length;
  await until('it is introduced anew', () => introduced() >= 3);
  // In this time it was introduced more than a hundred times a second.
  const before = introduced();
  await new Promise((resolve) => setTimeout(resolve, 2_000));
  expect(introduced() - before).toBeLessThan(5);
  await space.append(1, Buffer.alloc(100));
});

test('FAULT-32 a nack makes the primary go back to what was asked for', async () => {
  const { liar, space } = await withLiar();
  liar.ack(2);
  liar.batches.length = 0;
  liar.send({ kind: 'nack', handle: liar.handle, epoch: 1, expected: 3 });
  await until('it comes again', () => liar.last === 5);
  expect(liar.batches[0]!.start).toBe(3);
  expect(liar.connections).toBe(1);
  liar.ack(5);
  await space.flushed(5, { replicas: 1, timeoutMs: 10_000 });
});

test('a replica whose own last entry was freed, and no more, goes on behind it', async () => {
  const a = await start('a');
  const space = await a.openSpace('s');
  for (let n = 1; n <= 60; n++) await space.append(1, Buffer.alloc(10_000, n));
  await space.checkpoint(60);
  let firstSequence = 1;
  await until('what may go is freed', () => {
    const before = firstSequence;
    firstSequence = space.status().firstSequence;
    return firstSequence > 1 && firstSequence === before;
  });
  const late = new WireReplica('late');
  const port = await late.listen();
  each.finally(() => late.close());
  late.position = { epoch: 1, sequence: firstSequence - 1, headerCrc: 0x1234 };
  await a.addReplica(at('late', port));
  await until('the rest has come', () => late.last === 60);
  expect(late.batches[0]!.start).toBe(firstSequence);
  late.ack(60);
  await space.flushed(60, { replicas: 1, timeoutMs: 10_000 });
});

/** A port whose system drops every SYN. */
async function droppingPort(): Promise<number> {
  const child: ChildProcess = fork(FULL_LISTENER);
  each.finally(() => child.kill('SIGKILL'));
  const port = await new Promise<number>((resolve) => {
    child.once('message', (m: { port: number }) => resolve(m.port));
  });
  child.kill('SIGSTOP');
  // The queue holds two, and these are never taken out of it.
  for (let n = 0; n < 4; n++) {
    const socket = net.connect({ host: '127.0.0.1', port });
    socket.on('error', () => undefined);
    each.finally(() => socket.destroy());
  }
  const isDropped = (): Promise<boolean> =>
    new Promise((resolve) => {
      const socket = net.connect({ host: '127.0.0.1', port });
      socket.on('error', () => undefined);
      socket.setTimeout(500, () => {
        socket.destroy();
        resolve(true);
      });
      socket.once('connect', () => {
        each.finally(() => socket.destroy());
        resolve(false);
      });
    });
  while (!(await isDropped()));
  return port;
}

test('FAULT-35 SYNs are dropped: time-outs, the breaker, and no append waits', async () => {
  const b = await start('b', { listen: LISTEN });
  const replicas = [at('b', b.address!.port), at('hole', await droppingPort())];
  const more = { connectTimeoutMs: 300, backoffStepsMs: [50, 100], lagAlertThresholdMs: 500 };
  const a = await start('a', { replicas, openConfirmMs: 100, ...more });
  const states = heard(a, 'replica-state');
  const space = await a.openSpace('s');
  const ofHole = () => space.status().replicas.find((r) => r.replicaId === 'hole')!;
  await until('the other one is there', () => a.status().replicas[0]!.state === 'streaming');
  let n = 0;
  const begun = performance.now();
  while (a.status().replicas[1]!.state !== 'failed' || n < 200) {
    if (performance.now() - begun > 30_000) throw new Error(`it is ${ofHole().state} yet`);
    await space.append(1, Buffer.alloc(100, n), { ack: { replicas: 1, timeoutMs: 20_000 } });
    n++;
  }
  const told = states.filter((s) => s.replicaId === 'hole');
  expect(told.map((s) => s.reason)).toContain('no connection within the connect timeout');
  expect(told.find((s) => s.state === 'failed')?.consecutiveFailures).toBeGreaterThanOrEqual(3);
  // It was never there: nobody knows how far it is behind in time, and it is never called well.
  expect(ofHole()).toMatchObject({ status: 'failed', lagMs: 'unknown' });
  // The other one has come in by two entries of its own.
  expect(ofHole().lagEntries).toBe(space.status().durableSequence);
  // The breaker is half open now and then: it goes on to dial.
  const failures = a.status().replicas[1]!.consecutiveFailures;
  await until('it dials again', () => a.status().replicas[1]!.consecutiveFailures > failures);
  expect(await contentOf(b.space('s'))).toEqual(await contentOf(space));
});

test('FAULT-38 a link that flaps is resumed where it was, the breaker closes', async () => {
  const b = await start('b', { listen: LISTEN });
  const proxy = new TcpProxy(b.address!.port);
  each.finally(() => proxy.close());
  const port = await proxy.listen();
  const a = await start('a', { replicas: [at('b', port)], backoffStepsMs: [10, 20, 40] });
  const space = await a.openSpace('s');
  const states = heard(a, 'replica-state');
  const size = 1_000;
  for (let flap = 1; flap <= 8; flap++) {
    await space.appendBatch(
      1,
      Array.from({ length: 50 }, () => Buffer.alloc(size, flap)),
    );
    await space.flushed(50 * flap, { replicas: 1, timeoutMs: 20_000 });
    proxy.cut();
    await until('it is noticed', () => a.status().replicas[0]!.consecutiveFailures >= flap % 2);
  }
  expect(states.some((s) => s.state === 'failed' && s.consecutiveFailures >= 3)).toBe(true);
  await space.append(1, Buffer.alloc(1), { ack: { replicas: 0 } });
  await space.flushed(401, { replicas: 1, timeoutMs: 20_000 });
  await until('figures are told', () => a.status().replicas[0]!.traffic.rawBytes > 400 * size);
  // Nothing that had been flushed went over the wire again: no resync, however often it was cut.
  expect(a.status().replicas[0]!.traffic.rawBytes).toBeLessThan(1.5 * 401 * (size + 64));
  expect(b.status().durableLsn).toBeLessThan(1.5 * 401 * (size + 64));
  expect(await contentOf(b.space('s'))).toEqual(await contentOf(space));
  // A link that holds for a while is stable, and its past forgotten: the next loss is the first.
  await new Promise((resolve) => setTimeout(resolve, 5_500));
  states.length = 0;
  proxy.cut();
  await until('it is lost once more', () => states.some((s) => s.state === 'waiting'));
  expect(states.find((s) => s.state === 'waiting')).toMatchObject({ consecutiveFailures: 1 });
  await until('and comes back', () => a.status().replicas[0]!.state === 'streaming');
});

test('a space that a replica has no place for is refused alone; the others go on', async () => {
  const b = await start('b', { listen: LISTEN, maxSpaces: 1 });
  const a = await start('a', { lead: true, replicas: [at('b', b.address!.port)] });
  const refused = heard(a, 'replica-refused');
  const states = heard(a, 'replica-state');
  const first = await a.openSpace('first');
  await first.append(1, Buffer.alloc(10), { ack: { replicas: 1, timeoutMs: 15_000 } });
  const second = await a.openSpace('second');
  await second.append(1, Buffer.alloc(10));
  await until('it is refused', () => refused.length > 0);
  expect(refused).toMatchObject([{ space: 'second', replicaId: 'b' }]);
  await first.append(1, Buffer.alloc(10), { ack: { replicas: 1, timeoutMs: 15_000 } });
  expect(second.status().isReplicated(1)).toBe(false);
  expect(states.filter((s) => s.state === 'waiting' || s.state === 'failed')).toEqual([]);
});

test('a replica whose disk has failed once is dialled again soon', async () => {
  const liar = new WireReplica('liar');
  const port = await liar.listen();
  const backoffStepsMs = [20, 3_600_000];
  const a = await start('a', { replicas: [at('liar', port)], backoffStepsMs });
  each.finally(() => liar.close());
  await a.openSpace('s');
  await until('it is introduced', () => liar.frames.some((f) => f.kind === 'spaces'));
  liar.send({ kind: 'bye', fatal: true, code: 'Io', message: 'Io: EIO, read' });
  await until('it is dialled again', () => liar.connections > 1);
});
