/**
 * Silence must not look like health: what lag, status, alerts, events and metrics say of each fault
 * to those who operate a node.
 */
import { type ChildProcess, fork } from 'node:child_process';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import type { Node, NodeOptions, Space } from '#src/main/index.js';
import { openNodeOn } from '#src/main/node/open-node.js';
import { at, heard, makeFolder, openSmall, removeFolder, until } from '../support/cluster.js';
import { freePort } from '../support/etcd.js';
import { sampleOf } from '../support/exposition.js';
import { TINY } from '../support/fake-cluster.js';
import { FakeDisk } from '../support/fake-disk.js';
import { TcpProxy } from '../support/tcp-proxy.js';

const LISTEN = { host: '127.0.0.1', port: 0 };
const BUSY_NODE = path.join(import.meta.dirname, '../crash/busy-node.mjs');
/** A watch that is quick to tell. */
const QUICK = {
  lagPollMs: 50,
  lagAlertThresholdMs: 300,
  lagDegradedThresholdMs: 1_200,
  stalledAfterMs: 800,
} as const;
const HOUR_MS = 3_600_000;
const LINK = { replica_id: 'b', primary_id: 'a' };

let folder: string;
let open: Node[];
let proxies: TcpProxy[];
let children: ChildProcess[];

beforeEach(() => {
  folder = makeFolder();
  open = [];
  proxies = [];
  children = [];
});

afterEach(async () => {
  vi.restoreAllMocks();
  for (const child of children) child.kill('SIGKILL');
  for (const proxy of proxies) await proxy.close();
  await Promise.all(open.map((node) => node.close()));
  removeFolder(folder);
});

function kept(node: Node): Node {
  open.push(node);
  return node;
}

async function start(nodeId: string, more: Partial<NodeOptions> = {}): Promise<Node> {
  return kept(await openSmall(path.join(folder, nodeId), nodeId, { ...QUICK, ...more }));
}

async function onFake(disk: FakeDisk, nodeId: string, more: Partial<NodeOptions> = {}) {
  return kept(await openNodeOn(disk.mount(), { ...TINY, dataDir: '/data', nodeId, ...more }));
}

async function metric(node: Node, name: string, labels: Record<string, string> = {}) {
  return sampleOf((await node.metrics()).body, `engram_${name}`, labels);
}

async function shipped(space: Space): Promise<void> {
  const { sequence } = await space.append(1, Buffer.alloc(50));
  await space.flushed(sequence, { replicas: 1, timeoutMs: 30_000 });
}

const replicaOf = (space: Space) => space.status().replicas[0]!;

/** A primary behind a proxy, caught up. */
async function proxiedPair(more: Partial<NodeOptions> = {}) {
  const b = await start('b', { listen: LISTEN });
  const proxy = new TcpProxy(b.address!.port);
  proxies.push(proxy);
  const a = await start('a', { replicas: [at('b', await proxy.listen())], ...more });
  const space = await a.openSpace('s');
  await shipped(space);
  await until('it is healthy', () => replicaOf(space).status === 'healthy');
  return { a, b, space, proxy };
}

describe('a replica that never connected', () => {
  test('has an unknown lag, is failed, and its alerts go by how long nobody knows', async () => {
    const a = await start('a', { replicas: [at('b', await freePort())], openConfirmMs: 50 });
    const alerts = heard(a, 'lag-alert');
    const space = await a.openSpace('s');
    await space.append(1, Buffer.alloc(50));
    expect(replicaOf(space)).toMatchObject({ state: 'never-connected', lagMs: 'unknown' });
    await until('it is failed', () => replicaOf(space).status === 'failed');
    expect(replicaOf(space).reason).toContain('ECONNREFUSED');
    await until('the alert is critical', () => replicaOf(space).alert === 'critical');
    await until('it is told', () => alerts.at(-1)?.alert === 'critical');
    expect(alerts.at(-1)).toMatchObject({ replicaId: 'b', spaces: ['s'], lagMs: 'unknown' });
    expect(space.status().rpo).toMatchObject({ entries: 1, ms: 'unknown' });
    expect(await metric(a, 'replication_lag_ms')).toBeNaN();
    expect(await metric(a, 'replication_lag_entries')).toBe(1);
    expect(await metric(a, 'replication_rpo_ms')).toBeNaN();
    expect(await metric(a, 'replication_never_connected', LINK)).toBe(1);
    expect(await metric(a, 'replication_last_received_age_ms', LINK)).toBeNaN();
    expect(await metric(a, 'replication_replica_status')).toBe(0);
    expect(await metric(a, 'replication_reconnects_total', { reason: 'refused' })).toBeGreaterThan(
      2,
    );
    expect(await metric(a, 'replication_lag_alert_total', { severity: 'critical' })).toBe(1);
  });

  test('and lacks no more after a restart than it was known to lack before', async () => {
    const b = await start('b', { listen: LISTEN });
    const { port } = b.address!;
    const a = await start('a', { replicas: [at('b', port)] });
    const space = await a.openSpace('s');
    for (let n = 0; n < 9; n++) await shipped(space);
    await b.close();
    await space.append(1, Buffer.alloc(50));
    await a.close();
    const again = await start('a', { replicas: [at('b', port)], openConfirmMs: 50 });
    expect(replicaOf(again.space('s'))).toMatchObject({ lagEntries: 1, lagMs: 'unknown' });
    expect(again.space('s').status().rpo.entries).toBe(1);
  });
});

describe('a link', () => {
  test('FAULT-35 that leads nowhere: lag grows, never stands still, and comes back', async () => {
    const { a, space, proxy } = await proxiedPair();
    const alerts = heard(a, 'lag-alert');
    const statuses = heard(a, 'replica-status');
    proxy.blackHole(true);
    await space.append(1, Buffer.alloc(50));
    let last = 0;
    await until('it is critical', () => {
      const { lagMs } = replicaOf(space);
      expect(lagMs).toBeGreaterThanOrEqual(last);
      last = lagMs as number;
      return replicaOf(space).alert === 'critical';
    });
    const before = await metric(a, 'replication_lag_ms');
    expect(before).toBeGreaterThan(QUICK.lagDegradedThresholdMs * 0.8);
    await new Promise((resolve) => setTimeout(resolve, 100));
    expect(await metric(a, 'replication_lag_ms')).toBeGreaterThanOrEqual(before + 90);
    expect(await metric(a, 'replication_connection_pool_active', LINK)).toBe(0);
    expect(await metric(a, 'replication_streams', LINK)).toBe(0);
    expect(replicaOf(space).status).toBe('degraded');
    proxy.blackHole(false);
    await until('it is over', () => alerts.at(-1)?.alert === 'none');
    expect(alerts.map((e) => e.alert)).toEqual(['warning', 'critical', 'none']);
    await until('it is healthy', () => statuses.at(-1)?.status === 'healthy');
    expect(await metric(a, 'replication_lag_ms')).toBe(0);
    expect(await metric(a, 'replication_lag_alert_total', { severity: 'warning' })).toBe(1);
  });

  test('that is silent: its age grows while nothing is appended, and it is given up', async () => {
    const { a, space, proxy } = await proxiedPair();
    proxy.stall('forth', 'back');
    const ageOf = () => a.status().replicas[0]!.lastReceivedAgeMs!;
    await until('it is silent', () => ageOf() > 2_500);
    expect(await metric(a, 'replication_last_received_age_ms', LINK)).toBeGreaterThan(2_500);
    // Nothing is lacking, and nobody says that all is well for longer than it can be known.
    expect(replicaOf(space)).toMatchObject({ lagMs: 0, lagEntries: 0 });
    await until('it is given up', () => replicaOf(space).state !== 'streaming', 30_000);
    expect(await metric(a, 'replication_reconnects_total', { reason: 'silent' })).toBe(1);
    expect(await metric(a, 'replication_connection_pool_active', LINK)).toBe(0);
    expect(ageOf()).toBeGreaterThan(9_000);
  });

  test('that lives and is stuck: stalled, with its stage, until the position moves', async () => {
    const disk = new FakeDisk();
    const b = await onFake(disk, 'b', { listen: LISTEN });
    // Heartbeats tell every second what has been received.
    const more = { ...TINY, stalledAfterMs: 2_500, replicas: [at('b', b.address!.port)] };
    const a = await start('a', more);
    const space = await a.openSpace('s');
    await shipped(space);
    const stalls = heard(a, 'replica-stalled');
    disk.delay = { only: 'fdatasync', ms: 7_000 };
    const { sequence } = await space.append(1, Buffer.alloc(50));
    await until('it is stalled', () => replicaOf(space).state === 'stalled');
    expect(replicaOf(space)).toMatchObject({ stalledAt: 'flush', status: 'degraded' });
    expect(replicaOf(space).reason).toMatch(/^flush: 2 is received there, 1 flushed/);
    await until('it is told', () => stalls.length === 1);
    expect(stalls[0]).toEqual({ replicaId: 'b', isStalled: true, stage: 'flush', spaces: ['s'] });
    expect(await metric(a, 'replication_stalled')).toBe(1);
    expect(await metric(a, 'replication_connection_pool_active', LINK)).toBe(1);
    disk.delay = undefined;
    await space.flushed(sequence, { replicas: 1, timeoutMs: 30_000 });
    await until('it moves again', () => stalls.length === 2);
    expect(stalls[1]).toMatchObject({ isStalled: false, stage: 'flush' });
    expect(await metric(a, 'replication_stalled')).toBe(0);
  });

  test('FAULT-37 that is slow: behind in bytes and entries, in every figure', async () => {
    const { a, space, proxy } = await proxiedPair({ windowBytes: 64 * 1024 });
    proxy.limit(40_000);
    for (let n = 0; n < 40; n++) await space.append(1, Buffer.alloc(10_000, n));
    await until('it is degraded', () => replicaOf(space).status === 'degraded');
    const entries = await metric(a, 'replication_lag_entries');
    expect(entries).toBeGreaterThan(0);
    expect(await metric(a, 'replication_lag_bytes')).toBeGreaterThanOrEqual(entries * 10_000);
    expect(await metric(a, 'replication_replica_status')).toBe(1);
    expect(await metric(a, 'replication_rpo_entries')).toBeGreaterThan(0);
    expect(await metric(a, 'wal_waiting_appends')).toBe(0);
    proxy.limit(Number.POSITIVE_INFINITY);
    await space.flushed(41, { replicas: 1, timeoutMs: 30_000 });
    expect(await metric(a, 'replication_lag_bytes')).toBe(0);
  });
});

describe('clocks', () => {
  test('FAULT-73 a wall clock set an hour forth and back changes no lag and no alert', async () => {
    const { a, space, proxy } = await proxiedPair({
      lagAlertThresholdMs: 60_000,
      lagDegradedThresholdMs: 120_000,
    });
    const alerts = heard(a, 'lag-alert');
    const realNow = Date.now;
    proxy.stall('back');
    await space.append(1, Buffer.alloc(50));
    for (const offset of [HOUR_MS, -HOUR_MS, 0]) {
      vi.spyOn(Date, 'now').mockImplementation(() => realNow() + offset);
      await space.append(1, Buffer.alloc(50));
      await new Promise((resolve) => setTimeout(resolve, 120));
      const { lagMs } = replicaOf(space);
      expect(lagMs).toBeGreaterThan(100);
      expect(lagMs).toBeLessThan(30_000);
      const scraped = await metric(a, 'replication_lag_ms');
      expect(scraped).toBeGreaterThanOrEqual(lagMs as number);
      expect(scraped).toBeLessThan(30_000);
      expect(await metric(a, 'replication_last_received_age_ms', LINK)).toBeLessThan(30_000);
    }
    expect(alerts).toEqual([]);
    proxy.flow();
    await space.flushed(5, { replicas: 1, timeoutMs: 30_000 });
    expect(replicaOf(space).lagMs).toBe(0);
  });

  test('FAULT-73 nor that of entries from before the node was opened', async () => {
    const disk = new FakeDisk();
    const b = await onFake(disk, 'b', { listen: LISTEN });
    const proxy = new TcpProxy(b.address!.port);
    proxies.push(proxy);
    const replicas = [at('b', await proxy.listen())];
    const first = await start('a', { ...TINY, replicas });
    await shipped(await first.openSpace('s'));
    proxy.stall('forth', 'back');
    await first.space('s').append(1, Buffer.alloc(50));
    const closed = first.close();
    proxy.cut();
    await closed;
    proxy.flow();
    disk.delay = { only: 'fdatasync', ms: 20_000 };
    const realNow = Date.now;
    const again = await start('a', { ...TINY, replicas });
    const space = again.space('s');
    await until('it is compared', () => replicaOf(space).lagMs !== 'unknown');
    for (const offset of [HOUR_MS, -HOUR_MS]) {
      vi.spyOn(Date, 'now').mockImplementation(() => realNow() + offset);
      const links = heard(again, 'replica-state');
      proxy.cut();
      await until('it is back', () => links.some((e) => e.state === 'catching-up'));
      // Compared again at some moment of these.
      for (let look = 0; look < 30; look++) {
        await new Promise((resolve) => setTimeout(resolve, 10));
        const { lagMs, lagEntries } = replicaOf(space);
        expect(lagEntries).toBe(1);
        expect(lagMs).toBeGreaterThanOrEqual(0);
        expect(lagMs).toBeLessThan(HOUR_MS / 10);
      }
    }
    disk.delay = undefined;
  });
});

describe('spaces, hosts and primaries', () => {
  test('FAULT-52 an entry that the host cannot apply is a blocked space', async () => {
    const apply = (): never => {
      throw new Error('the host cannot');
    };
    const b = await start('b', { listen: LISTEN, apply, applyRetries: 1 });
    const a = await start('a', { replicas: [at('b', b.address!.port)] });
    expect(await metric(b, 'apply_blocked_spaces')).toBe(0);
    await shipped(await a.openSpace('s'));
    await until('it is blocked', () => b.space('s').status().applyBlocked !== undefined);
    expect(await metric(b, 'apply_blocked_spaces')).toBe(1);
    expect(await metric(b, 'node_events_total', { event: 'apply-blocked' })).toBe(1);
    // It replicates all the same.
    expect(await metric(a, 'replication_lag_entries')).toBe(0);
  });

  test('FAULT-54 a slot that is lost is a failed replica, not a quiet one', async () => {
    const replicas = [at('b', await freePort())];
    const more = { ...TINY, replicas, openConfirmMs: 50, maxSlotBytes: 32 * 1024 };
    const a = await start('a', more);
    const space = await a.openSpace('s');
    await until('the slot is lost', () => {
      space.tryAppend(1, Buffer.alloc(1_000));
      return replicaOf(space).slot === 'lost';
    });
    expect(replicaOf(space)).toMatchObject({ state: 'slot-lost', status: 'failed' });
    expect(replicaOf(space).reason).toContain('no longer keeps');
    expect(await metric(a, 'replication_lost_slots', LINK)).toBe(1);
    expect(await metric(a, 'node_events_total', { event: 'slot-lost' })).toBe(1);
    expect(await metric(a, 'replication_replica_status')).toBe(0);
  });

  test('FAULT-75 a primary whose event loop is blocked is stalled at its replica', async () => {
    const b = await start('b', { listen: LISTEN });
    const child = fork(BUSY_NODE, [
      path.join(folder, 'primary'),
      JSON.stringify([at('b', b.address!.port)]),
    ]);
    children.push(child);
    const stalls = heard(b, 'primary-stalled');
    const of = { primary_id: 'primary' };
    await until('it leads', () => b.status().spaces.length === 1);
    expect(await metric(b, 'replication_primary_stalled', of)).toBe(0);
    child.send({ block: 4_500 });
    await until('it is stalled', () => stalls.length > 0);
    expect(await metric(b, 'replication_primary_stalled', of)).toBe(1);
    expect(await metric(b, 'replication_primary_connected', of)).toBe(1);
    await until('it moves again', () => stalls.length > 1);
    expect(await metric(b, 'replication_primary_stalled', of)).toBe(0);
    child.kill('SIGKILL');
    await until('it is gone', () => b.status().primaries[0]?.isConnected === false);
    expect(await metric(b, 'replication_primary_connected', of)).toBe(0);
  });

  test('FAULT-79 a listener of alerts that throws stops neither watch nor metrics', async () => {
    vi.spyOn(process, 'emitWarning').mockImplementation(() => undefined);
    const { a, space, proxy } = await proxiedPair();
    a.on('lag-alert', () => {
      throw new Error('the host’s own');
    });
    const alerts = heard(a, 'lag-alert');
    proxy.stall('back');
    await space.append(1, Buffer.alloc(50));
    await until('both are told', () => alerts.length === 2);
    expect(alerts.map((e) => e.alert)).toEqual(['warning', 'critical']);
    expect(await metric(a, 'node_events_total', { event: 'lag-alert' })).toBe(2);
  });

  test('FAULT-81 a region of many bad entries is one range and one event', async () => {
    const disk = new FakeDisk();
    const options = { segmentBytes: 64 * 1024, memoryBudgetBytes: 128 * 1024 };
    const first = await onFake(disk, 'a', options);
    const space = await first.openSpace('s');
    for (let n = 0; n < 300; n++) await space.append(1, Buffer.alloc(100, n));
    await first.close();
    const segment = disk.list('/data').find((name) => /^wal-.*[.]log$/.test(name))!;
    disk.edit(`/data/${segment}`, (bytes) => bytes.fill(0xa5, 4_096, 24_576));
    const node = await onFake(disk, 'a', options);
    const read = async (): Promise<void> => {
      for await (const _ of node.space('s').read());
    };
    await expect(read()).rejects.toMatchObject({ code: 'CorruptionDetected' });
    await until('it is known', () => node.status().holes.length > 0);
    expect(await metric(node, 'wal_corrupt_ranges')).toBe(1);
    expect(await metric(node, 'node_damaged_spaces')).toBe(1);
    expect(await metric(node, 'node_events_total', { event: 'damaged' })).toBe(1);
  });
});
