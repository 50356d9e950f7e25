/** What a lost leader costs those that are left, space by space: real etcd, real nodes. */
import path from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import type { Node } from '#src/main/index.js';
import { EachTest, openSmall, until } from '../support/cluster.js';
import { Ear } from '../support/ear.js';
import { EtcdServer, freePort } from '../support/etcd.js';

const life = new EachTest();
const NAMES = Array.from({ length: 24 }, (_, n) => `tenant-${n}`);
let etcd: EtcdServer;

beforeEach(async () => {
  etcd = await EtcdServer.start(life.folder);
});
afterEach(() => etcd.kill());

async function open(nodeId: string, port: number, advertised = port): Promise<Node> {
  const host = '127.0.0.1';
  const node = await openSmall(path.join(life.folder, nodeId), nodeId, {
    listen: { host, port },
    advertise: { host, port: advertised },
    coordinator: { kind: 'etcd', endpoints: [etcd.endpoint], ttlMs: 2_000, prefix: 'wal' },
  });
  life.finally(() => node.close());
  return node;
}

test('FAULT-115 each space of a lost leader is introduced to its replicas once', async () => {
  const port = await freePort();
  const ear = new Ear(port);
  await ear.listen();
  life.finally(() => ear.close());
  const a = await open('a', await freePort());
  const b = await open('b', await freePort());
  const c = await open('c', port, ear.port);
  const kept = { ack: { replicas: 2, timeoutMs: 20_000 } };
  for (const name of NAMES) {
    const space = await a.openSpace(name, { lead: true });
    await space.append(1, Buffer.from('kept'), kept);
  }
  const before = ear.introductions;
  await a.close();
  const ledBy = (node: Node): string[] =>
    NAMES.filter((name) => node.space(name).status().role === 'primary');
  await until('all are led', () => ledBy(b).length + ledBy(c).length === NAMES.length);
  const led = ledBy(b);
  // By what their names come to, some are for either.
  expect(led.length).toBeGreaterThan(0);
  await until('c follows', () => led.every((s) => c.space(s).status().durableSequence === 2));
  // Time for another introduction, had there been a reason for one.
  await new Promise((resolve) => setTimeout(resolve, 500));
  expect(ear.introductions - before).toBe(led.length);
}, 60_000);
