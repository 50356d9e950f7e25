/**
 * One cause is told once: real nodes as processes, a real Prometheus with the deployed rules, a
 * real Alertmanager with the deployed routes; their waits scaled down, and whoever is told listens.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Node, Space } from '#src/main/index.js';
import { Alertmanager, scaledRules, type Told } from '../support/alertmanager.js';
import { at, makeFolder, openSmall, removeFolder, until } from '../support/cluster.js';
import { EtcdServer, freePort } from '../support/etcd.js';
import { PrometheusServer } from '../support/prometheus.js';

const CLI = path.join(import.meta.dirname, '../../dist/main/cli.js');
const WITHIN_MS = 90_000;
/** Scaled as the rules are: whatever one cause has for company has been told by then. */
const LONG_MS = 25_000;

let folder: string;
let etcd: EtcdServer;
let manager: Alertmanager;
let prometheus: PrometheusServer;
const targets: Record<string, string> = {};
const served = new Map<string, { file: string; port: number; child: ChildProcess }>();
const nodes: Node[] = [];
const timers: NodeJS.Timeout[] = [];

/** A node of `engram-wal serve`, that answers scrapes; again after it was killed. */
async function serve(nodeId: string, more: object = {}): Promise<number> {
  let known = served.get(nodeId);
  if (!known) {
    const port = await freePort();
    const http = await freePort();
    const listen = { host: '127.0.0.1', port };
    const own = { nodeId, clusterId: 'test', dataDir: nodeId, listen, http: { port: http } };
    const file = path.join(folder, `${nodeId}.json`);
    fs.writeFileSync(file, JSON.stringify({ ...own, ...more }));
    targets[`${nodeId}:7480`] = `127.0.0.1:${http}`;
    known = { file, port, child: undefined as unknown as ChildProcess };
    served.set(nodeId, known);
  }
  const { file } = known;
  const child = spawn(process.execPath, [CLI, 'serve', '--config', file], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  known.child = child;
  let said = '';
  child.stdout!.on('data', (chunk) => (said += chunk));
  await until(`${nodeId} serves`, () => said.includes('"serving"'), 60_000);
  return known.port;
}

async function kill(nodeId: string): Promise<void> {
  const { child } = served.get(nodeId)!;
  const ended = new Promise((resolve) => child.once('exit', resolve));
  child.kill('SIGKILL');
  await ended;
}

/** A primary that goes on appending, on disk alone. */
async function primary(nodeId: string, replicas: readonly [string, number][]): Promise<Space> {
  const to = replicas.map(([id, port]) => at(id, port));
  const more = { replicas: to, http: { port: 0 } };
  const node = await openSmall(path.join(folder, nodeId), nodeId, more);
  nodes.push(node);
  targets[`${nodeId}:7480`] = `127.0.0.1:${node.httpAddress!.port}`;
  const space = await node.openSpace('s');
  const { sequence } = await space.append(1, Buffer.alloc(100));
  await space.flushed(sequence, { replicas: to.length, timeoutMs: 30_000 });
  const append = () => void space.append(1, Buffer.alloc(100)).catch(() => undefined);
  timers.push(setInterval(append, 200));
  return space;
}

/** What people are told from now on, until `is`; and for so long after that. */
async function toldOf(
  what: () => unknown,
  is: (told: Told[]) => boolean,
  thenMs = 0,
): Promise<Told[]> {
  const from = manager.told.length;
  await what();
  const since = () => manager.told.slice(from);
  await until('somebody is told', () => is(since()), WITHIN_MS);
  await new Promise((resolve) => setTimeout(resolve, thenMs));
  return since();
}

/** Whom, of what, and of which node; the disk, and its pace, are everybody’s here. */
function firing(told: readonly Told[]): string[] {
  const all = told.flatMap(({ to, alerts }) =>
    alerts
      .filter(({ status, labels }) => status === 'firing' && !labels.alertname!.includes('Disk'))
      .map(({ labels: { alertname, node } }) => `${to} ${alertname} ${node}`),
  );
  return [...new Set(all)].sort();
}

const areFiring =
  (n: number) =>
  (told: Told[]): boolean =>
    firing(told).length >= n;

/** The last word on it is that it is resolved. */
function isOver(told: readonly Told[], alertname: string, node: string): boolean {
  const words = told.flatMap(({ alerts }) =>
    alerts.filter(({ labels }) => labels.alertname === alertname && labels.node === node),
  );
  return words.at(-1)?.status === 'resolved';
}

beforeAll(async () => {
  folder = makeFolder();
  etcd = await EtcdServer.start(folder);
  manager = await Alertmanager.start(folder);
  const b = await serve('b');
  const c = await serve('c');
  const only = await serve('only');
  await primary('a', [
    ['b', b],
    ['c', c],
  ]);
  await primary('alone', [['only', only]]);
  const coordinator = { kind: 'etcd', endpoints: [etcd.endpoint], ttlMs: 3_000 };
  for (const nodeId of ['x', 'y', 'z']) await serve(nodeId, { coordinator, spaces: ['t'] });
  prometheus = await PrometheusServer.start(folder, scaledRules(), targets, manager.address);
}, 2 * WITHIN_MS);

afterAll(async () => {
  for (const timer of timers) clearInterval(timer);
  for (const { child } of served.values()) child.kill('SIGKILL');
  await prometheus?.stop();
  await manager?.stop();
  await Promise.all(nodes.map((node) => node.close()));
  await etcd?.kill();
  if (folder) removeFolder(folder);
}, WITHIN_MS);

/** Who leads the space, as Prometheus has it. */
async function leader(): Promise<string> {
  const query = 'engram_node_spaces{role="primary",instance=~"[xyz]:.*"} == 1';
  let found: string[] = [];
  await expect
    .poll(
      async () => {
        const rows = (await prometheus.query(query)) as { metric: { instance: string } }[];
        found = rows.map((row) => row.metric.instance.split(':')[0]!);
        return found.length;
      },
      { timeout: WITHIN_MS },
    )
    .toBe(1);
  return found[0]!;
}

/** `docs/OPERATIONS.md#a-replica-lags` is there. */
function expectChapter(runbook: string): void {
  const [file, anchor] = runbook.split('#');
  const book = fs.readFileSync(path.join(import.meta.dirname, '../..', file!), 'utf8');
  const headings = [...book.matchAll(/^## (.*)$/gm)].map(([, title]) => title!.toLowerCase());
  const anchors = headings.map((title) => title.replace(/[^a-z ]/g, '').replaceAll(' ', '-'));
  expect(anchors).toContain(anchor);
}

describe('somebody is told once, where to read on, and that it is over', () => {
  test(
    'nobody of sound clusters; then of a dead replica, of the only one, of a lost leader',
    async () => {
      await new Promise((resolve) => setTimeout(resolve, LONG_MS / 2));
      expect(firing(manager.told)).toEqual([]);
      const lost = await leader();
      const all = ['c', 'only', lost];
      const told = await toldOf(() => Promise.all(all.map(kill)), areFiring(3), LONG_MS);
      expect(firing(told)).toEqual([
        // Nothing has a second copy any more: somebody is woken, and no ticket is written.
        'page EngramTooFewCopies only',
        // One of two is for the morning; and where etcd is, others lead.
        'ticket EngramNodeDown c',
        `ticket EngramNodeDown ${lost}`,
      ]);
      for (const { alerts } of told) {
        for (const { annotations } of alerts) expectChapter(annotations.runbook!);
      }
      await toldOf(
        () => Promise.all(all.map((nodeId) => serve(nodeId))),
        (after) =>
          ['c', lost].every((node) => isOver(after, 'EngramNodeDown', node)) &&
          isOver(after, 'EngramTooFewCopies', 'only'),
      );
    },
    4 * WITHIN_MS,
  );

  test(
    'etcd is lost: one page for all nodes',
    async () => {
      const told = await toldOf(() => etcd.kill(), areFiring(1), LONG_MS);
      expect(firing(told)).toEqual(['page EngramLeaseLost etcd']);
      const alerts = await prometheus.firing();
      expect(alerts.map(({ name }) => name)).toContain('EngramEtcdAway');
      await toldOf(
        () => etcd.start(),
        (after) => isOver(after, 'EngramLeaseLost', 'etcd'),
      );
    },
    4 * WITHIN_MS,
  );

  test(
    'two of three are dead, and nobody may lead: one page',
    async () => {
      const first = await leader();
      const second = ['x', 'y', 'z'].find((id) => id !== first)!;
      const isPaged = (told: Told[]) => told.some(({ to }) => to === 'page');
      const told = await toldOf(() => Promise.all([kill(first), kill(second)]), isPaged, 5_000);
      const pages = firing(told).filter((one) => one.startsWith('page'));
      expect(pages).toEqual(['page EngramLeaderless leader']);
    },
    4 * WITHIN_MS,
  );
});
