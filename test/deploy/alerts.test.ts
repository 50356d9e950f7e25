/**
 * Every alert rule fires by the fault that it is for: real nodes, real scrapes over loopback, a
 * real Prometheus that evaluates the deployed rules, their `for` and ranges scaled down.
 */
import { type ChildProcess, fork } from 'node:child_process';
import fs from 'node:fs';
import http from 'node:http';
import type { AddressInfo } from 'node:net';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Node, NodeOptions, Space } from '#src/main/index.js';
import type { Platform } from '#src/main/node/machine.js';
import { nodePlatform } from '#src/main/node/machine.js';
import { openNodeOn } from '#src/main/node/open-node.js';
import type { ShipperThread } from '#src/main/runtime/machine.js';
import { nodeDisk } from '#src/main/segments/node-disk.js';
import { Alertmanager, type HeldAlert, scaledRules } from '../support/alertmanager.js';
import { Authority } from '../support/certificates.js';
import { at, makeFolder, openSmall, removeFolder, SMALL, until } from '../support/cluster.js';
import { freePort } from '../support/etcd.js';
import { TINY } from '../support/fake-cluster.js';
import { FakeDisk } from '../support/fake-disk.js';
import { NEEDS, requireHere } from '../support/needs.js';
import { type FiringAlert, PrometheusServer, promtool } from '../support/prometheus.js';
import { TcpProxy } from '../support/tcp-proxy.js';
import { WireClient } from '../support/wire-client.js';

const DEPLOY = path.join(import.meta.dirname, '../../deploy');
const RULES = path.join(DEPLOY, 'prometheus/alerts.yml');
const BUSY_NODE = path.join(import.meta.dirname, '../crash/busy-node.mjs');
const DASHBOARD = path.join(DEPLOY, 'grafana/engram-wal.json');
const LISTEN = { host: '127.0.0.1', port: 0 };
const WITHIN_MS = 120_000;

let folder: string;
const nodes: Node[] = [];
const proxies: TcpProxy[] = [];
const children: ChildProcess[] = [];
const stops: (() => void)[] = [];
let gone: http.Server;
/** Of a cluster of its own, and closed when it has been scraped. */
let lone: Node;
/** host:port by the name that a node has as a target. */
const targets: Record<string, string> = {};
let prometheus: PrometheusServer;
let manager: Alertmanager;

function kept(name: string, node: Node): Node {
  nodes.push(node);
  const { host, port } = node.httpAddress!;
  targets[name] = `${host}:${port}`;
  return node;
}

async function start(name: string, more: Partial<NodeOptions> = {}): Promise<Node> {
  const options = { http: { port: 0 }, stalledAfterMs: 2_000, ...more };
  return kept(name, await openSmall(path.join(folder, name), name, options));
}

async function onFake(disk: FakeDisk, name: string, more: Partial<NodeOptions> = {}) {
  const options = { ...TINY, dataDir: '/data', nodeId: name, http: { port: 0 }, ...more };
  return kept(name, await openNodeOn(disk.mount(), options));
}

async function proxied(target: Node): Promise<{ proxy: TcpProxy; port: number }> {
  const proxy = new TcpProxy(target.address!.port);
  proxies.push(proxy);
  return { proxy, port: await proxy.listen() };
}

/** An entry that a replica has, however long it takes to connect. */
async function shipped(space: Space): Promise<void> {
  const { sequence } = await space.append(1, Buffer.alloc(100));
  await space.flushed(sequence, { replicas: 1, timeoutMs: 30_000 });
}

/** Does it again and again until the tests are over. */
function keepDoing(everyMs: number, what: () => unknown): void {
  const timer = setInterval(what, everyMs);
  stops.push(() => clearInterval(timer));
}

// --- the faults --------------------------------------------------------------------------------

async function healthyPair(): Promise<void> {
  const b = await start('healthy-b', { listen: LISTEN });
  const a = await start('healthy', { replicas: [at('healthy-b', b.address!.port)] });
  const space = await a.openSpace('s');
  keepDoing(100, () => space.append(1, Buffer.alloc(100)).catch(() => undefined));
}

/** A replica that never comes, and one whose link falls silent with entries on their way. */
async function absentAndSilent(): Promise<void> {
  const b = await start('silent-b', { listen: LISTEN });
  const { proxy, port } = await proxied(b);
  const replicas = [at('absent', await freePort()), at('silent-b', port)];
  const a = await start('links', { replicas, openConfirmMs: 100 });
  const space = await a.openSpace('s');
  await shipped(space);
  proxy.stall('forth', 'back');
  await space.append(1, Buffer.alloc(100));
}

/** A replica whose disk does not answer: heartbeats come, its position does not move. */
async function stuckReplica(): Promise<void> {
  const disk = new FakeDisk();
  const b = await onFake(disk, 'stuck-b', { listen: LISTEN });
  const a = await start('stuck', { ...TINY, replicas: [at('stuck-b', b.address!.port)] });
  const space = await a.openSpace('s');
  await shipped(space);
  disk.delay = { only: 'fdatasync', ms: 12_000 };
  stops.push(() => {
    disk.delay = undefined;
  });
  keepDoing(200, () => space.append(1, Buffer.alloc(100)).catch(() => undefined));
}

/** A link that is cut, and one on which bytes are changed. */
async function badLinks(): Promise<void> {
  const b = await start('flapping-b', { listen: LISTEN });
  const c = await start('corrupt-c', { listen: LISTEN });
  const cut = await proxied(b);
  const corrupt = await proxied(c);
  const replicas = [at('flapping-b', cut.port), at('corrupt-c', corrupt.port)];
  const a = await start('bad-links', { replicas });
  const space = await a.openSpace('s');
  keepDoing(400, () => cut.proxy.cut());
  keepDoing(1_000, () => corrupt.proxy.corrupt('forth'));
  keepDoing(50, () => space.append(1, Buffer.alloc(500)).catch(() => undefined));
}

async function slotLost(): Promise<void> {
  const replicas = [at('away', await freePort())];
  const more = { ...TINY, replicas, openConfirmMs: 100, maxSlotBytes: 32 * 1024 };
  const a = await start('slot', more);
  const space = await a.openSpace('s');
  await until('the slot is lost', () => {
    space.tryAppend(1, Buffer.alloc(1_000));
    return space.status().replicas[0]!.slot === 'lost';
  });
}

async function dyingShipper(): Promise<void> {
  const b = await start('dying-b', { listen: LISTEN });
  const threads: ShipperThread[] = [];
  const platform: Platform = {
    ...nodePlatform,
    startShipper: (facts, hooks) => {
      const thread = nodePlatform.startShipper(facts, hooks);
      threads.push(thread);
      return thread;
    },
  };
  const options = { ...SMALL, nodeId: 'dying', dataDir: path.join(folder, 'dying') };
  const more = { http: { port: 0 }, replicas: [at('dying-b', b.address!.port)] };
  kept('dying', await openNodeOn(nodeDisk, { ...options, ...more }, platform));
  // An increase is one between two scrapes, and after some deaths within a minute the next thread
  // waits: so each dies when the death before it has been seen.
  let deaths = 0;
  let dead: ShipperThread | undefined;
  const counted = 'engram_replication_reconnects_total{replica_id="dying-b",reason="thread-lost"}';
  const next = async (): Promise<void> => {
    const rows = (await prometheus.query(counted)) as { value: [number, string] }[];
    const thread = threads.at(-1);
    if (thread === dead || Number(rows[0]?.value[1] ?? 0) < deaths) return;
    dead = thread;
    deaths++;
    await thread?.terminate();
  };
  keepDoing(1_000, () => prometheus && next().catch(() => undefined));
}

async function badDisks(): Promise<void> {
  const full = new FakeDisk();
  const a = await onFake(full, 'full');
  const space = await a.openSpace('s');
  full.capacityBytes = full.usedBytes;
  await until('it is read-only', () => {
    if (a.status().log.state === 'ok') space.append(1, Buffer.alloc(1_000)).catch(() => undefined);
    return a.status().log.state === 'read-only';
  });
  const broken = new FakeDisk();
  const b = await onFake(broken, 'broken');
  const there = await b.openSpace('s');
  broken.inject({ call: 1, errno: 'EIO', only: 'fdatasync' });
  await there.append(1, Buffer.alloc(100)).catch(() => undefined);
}

/** A disk that takes 1.5 s for each fdatasync, and more appends than it takes. */
async function slowDisk(): Promise<void> {
  const slow = new FakeDisk();
  const a = await onFake(slow, 'slow', { memoryBudgetBytes: 32 * 1024 });
  const space = await a.openSpace('s');
  slow.delay = { only: 'fdatasync', ms: 1_500 };
  stops.push(() => {
    slow.delay = undefined;
  });
  let waiting = 0;
  const more = (): void => {
    while (a.status().log.state !== 'failed') {
      if (waiting >= 64) return;
      waiting++;
      space
        .append(1, Buffer.alloc(1_500))
        .catch(() => undefined)
        .finally(() => {
          waiting--;
        });
    }
  };
  keepDoing(50, more);
}

async function rottenLog(): Promise<void> {
  const disk = new FakeDisk();
  const first = await openNodeOn(disk.mount(), { ...TINY, dataDir: '/data', nodeId: 'rotten' });
  const space = await first.openSpace('s');
  for (let n = 0; n < 40; n++) await space.append(1, Buffer.alloc(500, n));
  await first.close();
  const segment = disk.list('/data').find((name) => /^wal-.*[.]log$/.test(name))!;
  disk.edit(`/data/${segment}`, (bytes) => {
    bytes[3_000]! ^= 1;
  });
  const node = await onFake(disk, 'rotten');
  const read = async (): Promise<void> => {
    for await (const _ of node.space('s').read());
  };
  await read().catch(() => undefined);
  await until('the hole is known', () => node.status().holes.length > 0);
}

/** A certificate that ends soon, and a file that is wrong. */
async function badCertificates(): Promise<void> {
  const authority = await Authority.make(folder, 'test', 1_000);
  const from = new Date(Date.now() - 90 * 86_400_000);
  const until10 = { from, until: new Date(Date.now() + 10 * 86_400_000) };
  await start('expiring', { tls: await authority.tlsOf('expiring', { validity: until10 }) });
  const tls = await authority.tlsOf('refusing');
  const node = await start('refusing', { tls });
  fs.writeFileSync(tls.keyFile, 'no key');
  await node.reloadCredentials().catch(() => undefined);
}

async function poisonEntry(): Promise<void> {
  const apply = (): never => {
    throw new Error('the host cannot apply this');
  };
  const b = await start('poisoned', { listen: LISTEN, apply, applyRetries: 1 });
  const a = await start('poisoner', { replicas: [at('poisoned', b.address!.port)] });
  const space = await a.openSpace('s');
  await shipped(space);
}

/** Somebody who does not have the key, and whoever says nothing of sense. */
async function strangers(): Promise<void> {
  const key = 'a key of sixteen bytes, and more';
  const b = await start('besieged', { listen: LISTEN, key });
  keepDoing(100, () => {
    const guess = new WireClient(b.address!.port);
    guess.hello('besieged').catch(() => undefined);
    const noise = new WireClient(b.address!.port);
    noise.socket.write('GET / HTTP/1.1\r\n\r\n');
    for (let n = 0; n < 3; n++) new WireClient(b.address!.port).socket.write('x'.repeat(100));
  });
}

/** A primary whose event loop is blocked, and one that has died. */
async function lostPrimaries(): Promise<void> {
  for (const [name, message] of [
    ['stalled-primary', { block: 600_000 }],
    ['dead-primary', undefined],
  ] as const) {
    const b = await start(name, { listen: LISTEN });
    const replicas = JSON.stringify([at(name, b.address!.port)]);
    const child = fork(BUSY_NODE, [path.join(folder, `of-${name}`), replicas, `of-${name}`]);
    children.push(child);
    await until('it leads', () => b.status().spaces.length === 1);
    if (message) child.send(message);
    else child.kill('SIGKILL');
  }
}

/** Half a percent of what is free goes each second: full within minutes. */
async function fillingDisk(): Promise<void> {
  const disk = new FakeDisk();
  disk.capacityBytes = 2 ** 30;
  await onFake(disk, 'filling');
  keepDoing(1_000, () => {
    disk.capacityBytes -= disk.capacityBytes / 200;
  });
}

/** A host that never checkpoints, and whose last backup is two days old. */
async function keptAndOld(): Promise<void> {
  fs.mkdirSync(path.join(folder, 'kept'));
  fs.writeFileSync(path.join(folder, 'kept/backed-up'), `${Date.now() - 2 * 86_400_000}\n`);
  const node = await start('kept', { ...TINY, maxRetainedBytes: 64 * 1024 });
  const space = await node.openSpace('s');
  await until('it refuses', () => {
    space.append(1, Buffer.alloc(1_000)).catch(() => undefined);
    return node.status().retention.refusal !== undefined;
  });
}

async function deadTarget(): Promise<void> {
  lone = await start('lone', { clusterId: 'lone' });
  gone = http.createServer((_, answer) => answer.destroy());
  await new Promise<void>((resolve) => gone.listen(0, '127.0.0.1', resolve));
  targets.gone = `127.0.0.1:${(gone.address() as AddressInfo).port}`;
}

/** Which rule must fire, and on which node; the labels say for which peer. */
const EXPECTED: readonly (readonly [alert: string, node: string])[] = [
  ['EngramClusterDown', 'all'],
  // Nobody has ever heard from it.
  ['EngramNodeDown', 'gone'],
  ['EngramNodeDown', 'lone'],
  ['EngramLogFailed', 'broken'],
  ['EngramLogReadOnly', 'full'],
  ['EngramRetentionFull', 'kept'],
  ['EngramDiskFullNow', 'filling'],
  ['EngramDiskFullSoon', 'filling'],
  ['EngramSlowDisk', 'slow'],
  ['EngramBackpressure', 'slow'],
  ['EngramCorrupt', 'rotten'],
  ['EngramApplyBlocked', 'poisoned'],
  ['EngramCertificateExpires', 'expiring'],
  ['EngramCredentialsRefused', 'refusing'],
  ['EngramStrangers', 'besieged'],
  ['EngramFlood', 'besieged'],
  ['EngramBackupOld', 'kept'],
  ['EngramTooFewCopies', 'away'],
  ['EngramReplicaNeverConnected', 'absent'],
  ['EngramReplicaFailed', 'absent'],
  ['EngramReplicationLag', 'silent-b'],
  ['EngramReplicaSilent', 'silent-b'],
  ['EngramReplicaStalled', 'stuck-b'],
  ['EngramSlotLost', 'away'],
  ['EngramReconnecting', 'flapping-b'],
  ['EngramShipperLost', 'dying-b'],
  ['EngramChecksumFailures', 'corrupt-c'],
  ['EngramPrimaryGone', 'of-dead-primary'],
  ['EngramPrimaryStalled', 'of-stalled-primary'],
];
/** Those of etcd are tried in causes.test.ts. */
const ELSEWHERE = ['EngramLeaderless', 'EngramLeaseLost', 'EngramEtcdAway'];

function fires(alerts: readonly FiringAlert[], [name, node]: (typeof EXPECTED)[number]): boolean {
  return alerts.some((alert) => alert.name === name && alert.labels.node === node);
}

describe('every alert', () => {
  const seen: FiringAlert[] = [];

  beforeAll(async () => {
    requireHere(NEEDS.prometheus);
    folder = makeFolder();
    await Promise.all([
      healthyPair(),
      absentAndSilent(),
      stuckReplica(),
      badLinks(),
      badCertificates(),
      slotLost(),
      dyingShipper(),
      badDisks(),
      slowDisk(),
      rottenLog(),
      poisonEntry(),
      lostPrimaries(),
      strangers(),
      fillingDisk(),
      keptAndOld(),
      deadTarget(),
    ]);
    manager = await Alertmanager.start(folder);
    prometheus = await PrometheusServer.start(folder, scaledRules(), targets, manager.address);
    // Once it has been met it is known whose the silent address is.
    void prometheus.met('lone').then(() => lone.close());
    const deadline = performance.now() + WITHIN_MS;
    while (performance.now() < deadline && !EXPECTED.every((one) => fires(seen, one))) {
      await new Promise((resolve) => setTimeout(resolve, 300));
      seen.push(...(await prometheus.firing()));
    }
  }, 2 * WITHIN_MS);

  afterAll(async () => {
    for (const stop of stops) stop();
    for (const child of children) child.kill('SIGKILL');
    await prometheus?.stop();
    await manager?.stop();
    for (const proxy of proxies) await proxy.close();
    await Promise.all(nodes.map((node) => node.close()));
    gone?.close();
    if (folder) removeFolder(folder);
  }, WITHIN_MS);

  test('is tried here', () => {
    const rules = [...fs.readFileSync(RULES, 'utf8').matchAll(/alert: (\S+)/g)].map((m) => m[1]!);
    expect(rules.length).toBeGreaterThan(15);
    const tried = new Set([...EXPECTED.map(([name]) => name), ...ELSEWHERE]);
    expect([...tried].sort()).toEqual(rules.sort());
  });

  test.each(EXPECTED)('%s fires on %s', (...expected) => {
    expect(fires(seen, expected)).toBe(true);
  });

  test('and reaches Alertmanager, which holds back what has the same cause', async () => {
    let held: HeldAlert[] = [];
    const names = (state: string): string[] =>
      held
        .filter(({ status }) => status.state === state)
        .map(({ labels: { alertname, node } }) => `${alertname} ${node}`);
    // It is told again and again: what is late on a busy machine comes with the next message.
    const look = async (): Promise<string[]> => {
      held = await manager.held();
      return names('suppressed');
    };
    await expect.poll(look, { timeout: 30_000 }).toContain('EngramNodeDown lone');
    const active = names('active');
    for (const [more, of] of [
      ['EngramNodeDown lone', 'EngramClusterDown all'],
      ['EngramDiskFullSoon filling', 'EngramDiskFullNow filling'],
      ['EngramReplicaFailed absent', 'EngramTooFewCopies absent'],
      ['EngramReplicaNeverConnected absent', 'EngramTooFewCopies absent'],
      ['EngramReplicationLag silent-b', 'EngramTooFewCopies silent-b'],
      ['EngramSlotLost away', 'EngramTooFewCopies away'],
    ] as const) {
      expect(names('suppressed'), more).toContain(more);
      expect(active).toContain(of);
    }
    // Of no node somebody is told twice at night.
    const pages = held.filter(
      ({ labels: { severity, alertname, node }, status }) =>
        severity === 'page' &&
        status.state === 'active' &&
        // The real disk is everybody's.
        (alertname !== 'EngramDiskFullNow' || node === 'filling'),
    );
    const causes = pages.map(({ labels }) => labels.node);
    expect(new Set(causes).size, JSON.stringify(pages)).toBe(causes.length);
  });

  test('none fires for a healthy pair', () => {
    // A machine that has no time for a scrape, and a disk that others fill, are another matter.
    const others = ['EngramNodeDown', 'EngramDiskFullNow', 'EngramDiskFullSoon'];
    const wrong = seen.filter(
      ({ name, labels }) => labels.node!.startsWith('healthy') && !others.includes(name),
    );
    expect(wrong).toEqual([]);
  });

  test('a real Prometheus evaluates every query of the dashboard', async () => {
    const dashboard = JSON.parse(fs.readFileSync(DASHBOARD, 'utf8')) as {
      panels: { targets?: { expr: string }[] }[];
    };
    const queries = dashboard.panels.flatMap((p) => (p.targets ?? []).map((t) => t.expr));
    const empty: string[] = [];
    for (const query of queries) {
      const filled = query
        .replaceAll('$instance', '.*')
        .replaceAll('$memory_space', '.*')
        .replaceAll('$__rate_interval', '20s');
      if ((await prometheus.query(filled)).length === 0) empty.push(query);
    }
    expect(empty).toEqual([]);
  });

  describe('promtool', () => {
    test('reads /metrics; it remarks on nothing but units and names that are kept', async () => {
      for (const name of ['healthy', 'healthy-b']) {
        const text = await (await fetch(`http://${targets[name]}/metrics`)).text();
        const { code, output } = promtool(['check', 'metrics'], text);
        expect([0, 3], output).toContain(code);
        // DESIGN 11 gives milliseconds and these names; anything else it remarks on is a fault.
        const kept = [
          /"milliseconds"/,
          /abbreviated units/,
          /^engram_wal_(bytes_written|fsync_count) /,
        ];
        const isFault = (line: string): boolean => line !== '' && !kept.some((k) => k.test(line));
        const faults = output.split('\n').filter(isFault);
        expect(faults).toEqual([]);
      }
    });

    test('refuses what is no exposition, so that its word means something', () => {
      expect(promtool(['check', 'metrics'], 'engram_wal_segments{a="b} 1\n').code).toBe(1);
    });

    test('accepts the rules, and the configuration that names them', () => {
      const rules = promtool(['check', 'rules', RULES]);
      expect(rules.code, rules.output).toBe(0);
      const config = promtool(['check', 'config', path.join(DEPLOY, 'prometheus/prometheus.yml')]);
      expect(config.code, config.output).toBe(0);
    });
  });
});
