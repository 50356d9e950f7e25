/** Thousands of spaces: what is made, opened and changed of them at once is not done one by one. */
import net from 'node:net';
import { expect, test, vi } from 'vitest';
import type { Node } from '#src/main/index.js';
import { RoleQueue } from '#src/main/lead/role-queue.js';
import { SpaceTable } from '#src/main/log/space-table.js';
import { ByteReader } from '#src/shared/bytes.js';
import { StateWriter } from '#src/shared/log/state.js';
import { at, EachTest, heard, until } from '../support/cluster.js';
import { TurnCount } from '../support/retention-world.js';
import { TcpProxy } from '../support/tcp-proxy.js';

const each = new EachTest();
const names = (count: number): string[] => Array.from({ length: count }, (_, n) => `tenant-${n}`);

const syncs = (node: Node): number => node.status().fdatasync.count;

/** A member that accepts connections, and says nothing. */
async function silentPort(): Promise<number> {
  const sockets = new Set<net.Socket>();
  const server = net.createServer((socket) => sockets.add(socket.on('error', () => undefined)));
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  each.finally(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  return (server.address() as net.AddressInfo).port;
}

test('FAULT-103 spaces that are made beside each other share their fdatasyncs', async () => {
  const node = await each.start('a');
  const before = syncs(node);
  await Promise.all(names(500).map((name) => node.openSpace(name)));
  expect(syncs(node) - before).toBeLessThan(50);
  expect(node.spaces.length).toBe(500);
  const made = syncs(node);
  // Those of one name are one space.
  const twice = await Promise.all([node.openSpace('x'), node.openSpace('x')]);
  expect(twice[0]).toBe(twice[1]);
  await node.addReplica(at('z', 9));
  await node.removeReplica('z');
  expect(syncs(node) - made).toBeLessThan(50);
});

test('FAULT-103 a member that is silent is waited for once, not for each space', async () => {
  const replicas = [at('b', await silentPort())];
  const node = await each.start('a', { replicas, openConfirmMs: 500 });
  const unconfirmed = heard(node, 'unconfirmed-open');
  let beganMs = performance.now();
  await Promise.all(names(200).map((name) => node.openSpace(name)));
  const togetherMs = performance.now() - beganMs;
  beganMs = performance.now();
  for (let n = 0; n < 50; n++) await node.openSpace(`one-${n}`);
  const oneByOneMs = performance.now() - beganMs;
  // 200, and then 50, times 500 ms, where each waited for the ones before.
  expect(togetherMs).toBeLessThan(10_000);
  expect(oneByOneMs).toBeLessThan(10_000);
  // Each of them is told; those that were made together together.
  await until('all are told', () => unconfirmed.flatMap((e) => e.spaces).length === 250);
  expect(unconfirmed.every((e) => e.silent.join() === 'b')).toBe(true);
  expect(unconfirmed.length).toBeLessThan(100);
});

test('FAULT-103 a member that was silent is asked again once it is heard', async () => {
  const b = await each.start('b', { listen: { host: '127.0.0.1', port: 0 } });
  const proxy = new TcpProxy(b.address!.port);
  each.finally(() => proxy.close());
  const port = await proxy.listen();
  proxy.blackHole(true);
  const more = { openConfirmMs: 1_000, backoffStepsMs: [20] };
  const node = await each.start('a', { replicas: [at('b', port)], ...more });
  const unconfirmed = heard(node, 'unconfirmed-open');
  await node.openSpace('s');
  await until('it is told', () => unconfirmed.length === 1);
  proxy.blackHole(false);
  proxy.cut();
  await until('b is there', () => node.status().replicas[0]?.state === 'streaming');
  await node.openSpace('t');
  await node.space('t').append(1, Buffer.from('x'));
  await node.space('t').flushed(1, { replicas: 1, timeoutMs: 20_000 });
  expect(unconfirmed.flatMap((e) => e.spaces)).toEqual(['s']);
});

test('FAULT-103 a replica takes thousands of introductions a few at a time', async () => {
  const listen = { host: '127.0.0.1', port: 0 };
  const b = await each.start('b', { listen });
  const a = await each.start('a', { replicas: [at('b', b.address!.port)] });
  const before = syncs(b);
  const spaces = await Promise.all(names(1_000).map((name) => a.openSpace(name)));
  await Promise.all(spaces.map((space) => space.append(1, Buffer.from(space.name))));
  await Promise.all(spaces.map((s) => s.flushed(1, { replicas: 1, timeoutMs: 30_000 })));
  expect(b.spaces.length).toBe(1_000);
  expect(syncs(b) - before).toBeLessThan(150);
});

test('FAULT-103 no turn makes, adds, reads or writes more than a part of many spaces', async () => {
  each.finally(() => vi.restoreAllMocks());
  const added = new TurnCount();
  const written = new TurnCount();
  const { add } = SpaceTable.prototype;
  vi.spyOn(SpaceTable.prototype, 'add').mockImplementation(function (this: SpaceTable, facts) {
    added.add();
    return add.call(this, facts);
  });
  const { space: write } = StateWriter.prototype;
  vi.spyOn(StateWriter.prototype, 'space').mockImplementation(function (this: StateWriter, row) {
    written.add();
    write.call(this, row);
  });
  // A row of a state has one.
  const read = new TurnCount();
  const { big } = ByteReader.prototype;
  vi.spyOn(ByteReader.prototype, 'big').mockImplementation(function (this: ByteReader) {
    read.add();
    return big.call(this);
  });
  let node = await each.start('a');
  await Promise.all(names(3_000).map((name) => node.openSpace(name)));
  expect(added.all).toBeGreaterThanOrEqual(3_000);
  // Two groups may become durable in one turn.
  expect(added.most).toBeLessThanOrEqual(2 * 256);
  await node.close();
  expect(written.all).toBeGreaterThanOrEqual(3_000);
  added.most = 0;
  node = await each.start('a');
  expect(node.spaces.length).toBe(3_000);
  expect(added.most).toBeLessThanOrEqual(1_024);
  expect(written.most).toBeLessThanOrEqual(256);
  // The newer one of two states.
  expect(read.all).toBe(3_000);
  expect(read.most).toBeLessThanOrEqual(1_024);
});

test('FAULT-103 a space that is here is opened without a turn in the queue of roles', async () => {
  each.finally(() => vi.restoreAllMocks());
  const node = await each.start('a');
  const made = await Promise.all(names(300).map((name) => node.openSpace(name)));
  const queued = vi.spyOn(RoleQueue.prototype, 'run');
  expect(await Promise.all(names(300).map((name) => node.openSpace(name)))).toEqual(made);
  expect(queued).not.toHaveBeenCalled();
  // Behind a change of the whole node it is one that waits.
  const adding = node.addReplica(at('z', 9));
  const opening = node.openSpace('tenant-7');
  await Promise.all([adding, opening]);
  expect(
    node
      .space('tenant-7')
      .status()
      .replicas.map((r) => r.replicaId),
  ).toEqual(['z']);
});
