/** What etcd names, what the log says counts, what is shipped to: real etcd, real nodes. */
import path from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import type { Node, Space } from '#src/main/index.js';
import { contentOf, EachTest, openSmall, until } from '../support/cluster.js';
import { EtcdServer } from '../support/etcd.js';

const life = new EachTest();
const TTL_MS = 2_000;
let etcd: EtcdServer;

beforeEach(async () => {
  etcd = await EtcdServer.start(life.folder);
});
afterEach(() => etcd.kill());

async function open(nodeId: string, port = 0): Promise<Node> {
  const node = await openSmall(path.join(life.folder, nodeId), nodeId, {
    listen: { host: '127.0.0.1', port },
    coordinator: {
      kind: 'etcd',
      endpoints: [etcd.endpoint],
      ttlMs: TTL_MS,
      prefix: 'wal',
      replicasPerSpace: 1,
    },
  });
  life.finally(() => node.close());
  return node;
}

function counting(space: Space): string {
  const { counting: now, pending } = space.status().members;
  const names = (all: readonly { nodeId: string }[]): string => all.map((m) => m.nodeId).join();
  return pending ? `${names(pending)} to ${names(now)}` : names(now);
}

async function has(node: Node, sequence: number): Promise<boolean> {
  const lines = await contentOf(node.space('s'));
  return lines.some((line) => line.startsWith(`${sequence} `));
}

test('FAULT-107 a dead one of two copies is replaced, and cannot lead alone', async () => {
  const [a, b] = [await open('a'), await open('b')];
  const space = await a.openSpace('s', { lead: true });
  await space.append(1, Buffer.from('one'), { ack: { replicas: 1, timeoutMs: 20_000 } });
  expect(counting(space)).toBe('a,b');
  await b.close();
  const c = await open('c');
  // Its lease is given up when it closes: it is lost for good, and etcd finds another one.
  await c.removeReplica('b');
  await until('c counts', () => counting(space) === 'a,c', 30_000);
  const { sequence } = await space.append(1, Buffer.from('two'), {
    ack: { replicas: 1, timeoutMs: 20_000 },
  });
  // Whoever returns has not got what etcd is the witness of.
  const back = await open('b');
  await a.close();
  await until('c leads', () => c.space('s').status().role === 'primary', 30_000);
  expect(await has(c, sequence)).toBe(true);
  expect(back.space('s').status().role).toBe('replica');
}, 90_000);

test('FAULT-107 a node whose address is not known yet is shipped to once it is', async () => {
  const a = await open('a');
  const space = await a.openSpace('s', { lead: true });
  await space.append(1, Buffer.from('one'));
  const client = etcd.client();
  const { pairs } = await client.list('wal/test/spaces/');
  const { key, value } = pairs[0]!;
  const row = { ...JSON.parse(value), nodeIds: ['a', 'late'] };
  await client.write([{ conditions: [], writes: [{ key, value: JSON.stringify(row) }] }]);
  client.close();
  // Longer than a comparison takes: it has been told, and knows nobody of that name.
  await new Promise((resolve) => setTimeout(resolve, 1_500));
  const late = await open('late');
  await until('it counts', () => counting(space) === 'a,late', 30_000);
  await space.append(1, Buffer.from('two'), { ack: { replicas: 1, timeoutMs: 20_000 } });
  expect(await contentOf(late.space('s'))).toEqual(await contentOf(space));
}, 60_000);

test('FAULT-107 who comes to an empty space leads it when its founder is lost', async () => {
  const a = await open('a');
  const space = await a.openSpace('s', { lead: true });
  const b = await open('b');
  await until('b counts', () => counting(space) === 'a,b', 30_000);
  await a.close();
  await until('b leads', () => b.space('s').status().role === 'primary', 30_000);
  await b.space('s').append(1, Buffer.from('one'));
}, 90_000);
