/** What a node whose lease of a real etcd runs out says of itself over HTTP. */
import path from 'node:path';
import { expect, test } from 'vitest';
import type { Node } from '#src/main/index.js';
import type { HealthJson, ReadyJson } from '#src/main/watch/status-json.js';
import { eventually } from '../failover/cluster.js';
import { EachTest, openSmall } from '../support/cluster.js';
import { EtcdServer, WAYS } from '../support/etcd.js';

const ANY = { host: '127.0.0.1', port: 0 };
const life = new EachTest();

async function json<T>(node: Node, asked: string): Promise<T> {
  const response = await fetch(`http://127.0.0.1:${node.httpAddress!.port}${asked}`);
  return (await response.json()) as T;
}

test.each(WAYS)('it is not ready, and says why; with etcd back it is: %s', async (_, isSecured) => {
  const etcd = await EtcdServer.start(life.folder, undefined, isSecured);
  life.finally(() => etcd.kill());
  const coordinator = { kind: 'etcd' as const, ...etcd.access, ttlMs: 2_000 };
  const dataDir = path.join(life.folder, 'a');
  const a = await openSmall(dataDir, 'a', { http: ANY, listen: ANY, coordinator });
  life.finally(() => a.close());
  const isReady = async (): Promise<boolean> => (await json<ReadyJson>(a, '/ready')).ready;
  await eventually('it is ready', isReady);
  await etcd.kill();
  await eventually('it is not', async () => !(await isReady()));
  const { checks } = await json<ReadyJson>(a, '/ready');
  expect(checks.filter((check) => !check.ok)).toMatchObject([{ check: 'lease' }]);
  const health = await json<HealthJson>(a, '/cluster/health');
  expect(health.problems.map((p) => p.kind)).toContain('lease-lost');
  await etcd.start();
  await eventually('it is ready again', isReady);
});
