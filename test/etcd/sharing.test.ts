/** How many spaces each node leads, with a real etcd: drained at once, shared by themselves. */
import path from 'node:path';
import { expect, test } from 'vitest';
import type { Node } from '#src/main/index.js';
import { contentOf, EachTest, until } from '../support/cluster.js';
import { EtcdServer, freePort } from '../support/etcd.js';

const each = new EachTest();
const NAMES = ['s1', 's2', 's3', 's4', 's5', 's6'];

const ledBy = (node: Node): number =>
  node.spaces.filter((space) => {
    const { role, refusal } = space.status();
    return role === 'primary' && refusal === undefined;
  }).length;

test('a drained node leads nothing; started again it gets its share', {
  timeout: 180_000,
}, async () => {
  const etcd = await EtcdServer.start(path.join(each.folder));
  each.finally(() => etcd.kill());
  const coordinator = { kind: 'etcd', endpoints: [etcd.endpoint], ttlMs: 2_000 } as const;
  const start = async (id: string): Promise<Node> => {
    const listen = { host: '127.0.0.1', port: await freePort() };
    return await each.start(id, { listen, coordinator });
  };
  let [a, b, c] = [await start('a'), await start('b'), await start('c')];
  for (const name of NAMES) {
    const space = await a.openSpace(name);
    for (const node of [a, b, c]) await node.openSpace(name);
    const leader = [a, b, c].find((n) => n.space(name).status().role === 'primary') ?? a;
    expect(space.name).toBe(name);
    const ack = { ack: { replicas: 2, timeoutMs: 20_000 } };
    await leader.space(name).append(1, Buffer.from(name), ack);
  }
  const led = (): number[] => [a, b, c].map(ledBy);
  expect(led()).toEqual([2, 2, 2]);

  expect(await a.drain()).toEqual({ handed: { b: 1, c: 1 }, led: 0, kept: [] });
  expect(led()).toEqual([0, 3, 3]);
  // Nor does it get a new one, and it is the last to be asked when a leader dies.
  await a.openSpace('new');
  await until('all are led', () => led().join() === '0,4,3' || led().join() === '0,3,4');
  await b.close();
  await until('c leads all', () => ledBy(c) === 7, 30_000);
  expect(ledBy(a)).toBe(0);

  b = await start('b');
  await a.close();
  a = await start('a');
  await until('all have their share', () => [...led()].sort().join() === '2,2,3', 90_000);
  for (const name of NAMES) {
    const leader = [a, b, c].find((n) => n.space(name).status().role === 'primary')!;
    const payload = Buffer.from(name).toString('base64');
    const found = (await contentOf(leader.space(name))).filter((e) => e.endsWith(` ${payload}`));
    expect(found).toHaveLength(1);
  }
});

test('a drain that etcd was not asked for, or did not answer, is none later', async () => {
  const etcd = await EtcdServer.start(path.join(each.folder));
  each.finally(() => etcd.kill());
  const given = { kind: 'etcd', endpoints: [etcd.endpoint], ttlMs: 2_000 } as const;
  const coordinator = { ...given, autoRebalance: false };
  const start = async (id: string): Promise<Node> =>
    each.start(id, { listen: { host: '127.0.0.1', port: await freePort() }, coordinator });
  const [a, b] = [await start('a'), await start('b')];
  await a.openSpace('s');
  await b.openSpace('s');
  const leads = (node: Node) => () => ledBy(node) === 1;
  await until('one leads', () => leads(a)() || leads(b)());
  etcd.pause();
  const told = (error: { code: string }): string => error.code;
  expect(await a.drain().catch(told)).toBe('CoordinatorUnavailable');
  expect(await a.drain().catch(told)).toBe('CoordinatorUnavailable');
  etcd.resume();
  const ack = { replicas: 1, timeoutMs: 20_000 };
  await until('one leads again', () => leads(a)() || leads(b)(), 30_000);
  if (leads(a)()) {
    await a.space('s').append(1, Buffer.from('x'), { ack });
    await a.switchover('s', 'b', { timeoutMs: 20_000 });
    await until('b leads', leads(b));
  }
  await b.space('s').append(1, Buffer.from('x'), { ack });
  expect(await b.drain()).toEqual({ handed: { a: 1 }, led: 0, kept: [] });
});
