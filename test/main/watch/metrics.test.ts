import path from 'node:path';
import { Counter, Registry } from 'prom-client';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { Node, NodeOptions } from '#src/main/index.js';
import { METRICS } from '#src/shared/metrics/catalog.js';
import { makeFolder, openSmall, removeFolder } from '../../support/cluster.js';
import { sampleOf, samplesOf } from '../../support/exposition.js';

const LISTEN = { host: '127.0.0.1', port: 0 };

let folder: string;
let nodes: Node[];

beforeEach(() => {
  folder = makeFolder();
  nodes = [];
});

afterEach(async () => {
  for (const node of nodes) await node.close();
  removeFolder(folder);
});

async function open(nodeId: string, more: Partial<NodeOptions> = {}): Promise<Node> {
  const node = await openSmall(path.join(folder, nodeId), nodeId, more);
  nodes.push(node);
  return node;
}

async function textOf(node: Node): Promise<string> {
  return (await node.metrics()).body;
}

const LINK = { replica_id: 'b', primary_id: 'a' };

describe('a scrape', () => {
  test('tells what was appended, shipped and acknowledged, on both sides', async () => {
    const b = await open('b', { listen: LISTEN });
    const a = await open('a', { replicas: [{ nodeId: 'b', ...b.address! }] });
    const space = await a.openSpace('s');
    for (let n = 0; n < 50; n++)
      await space.append(1, Buffer.alloc(100, n), { ack: { replicas: 1 } });
    space.tryAppend(1, Buffer.alloc(10));
    await space.flushed(51, { replicas: 1 });
    const { contentType, body } = await a.metrics();
    expect(contentType).toBe('text/plain; version=0.0.4; charset=utf-8');
    const pair = { memory_space: 's', ...LINK };
    const of = (name: string, labels = {}) => sampleOf(body, name, labels);
    // 51 entries, and records of the node itself.
    const writes = of('engram_wal_writes_total');
    expect(writes).toBeGreaterThanOrEqual(51 + 1);
    expect(writes).toBeLessThan(51 + 60);
    expect(of('engram_wal_bytes_written')).toBeGreaterThan(50 * 164 + 74);
    expect(of('engram_wal_append_duration_ms_count')).toBe(51);
    expect(of('engram_wal_append_duration_ms_bucket', { le: '+Inf' })).toBe(51);
    expect(of('engram_wal_append_duration_ms_sum')).toBeGreaterThan(0);
    expect(of('engram_wal_fsync_count')).toBe(of('engram_wal_fsync_duration_ms_count'));
    expect(of('engram_wal_fsync_count')).toBeGreaterThanOrEqual(51);
    expect(of('engram_wal_group_commit_entries_sum')).toBe(writes);
    expect(of('engram_wal_segments')).toBe(1);
    expect(of('engram_wal_state', { state: 'ok' })).toBe(1);
    expect(of('engram_replication_lag_entries', pair)).toBe(0);
    expect(of('engram_replication_lag_ms', pair)).toBe(0);
    expect(of('engram_replication_replica_status', pair)).toBe(3);
    expect(of('engram_replication_stalled', pair)).toBe(0);
    expect(of('engram_replication_rpo_entries', { memory_space: 's' })).toBe(0);
    expect(of('engram_replication_entries_acked_total', LINK)).toBe(51);
    expect(of('engram_replication_streams', LINK)).toBe(1);
    expect(of('engram_replication_connection_pool_active', LINK)).toBe(1);
    expect(of('engram_replication_never_connected', LINK)).toBe(0);
    expect(of('engram_replication_last_received_age_ms', LINK)).toBeLessThan(60_000);
    const batches = of('engram_replication_batches_sent_total', LINK);
    expect(batches).toBeGreaterThan(0);
    expect(batches).toBeLessThanOrEqual(51);
    expect(of('engram_replication_batch_size_bytes_count', LINK)).toBe(batches);
    expect(of('engram_replication_batches_failed_total', LINK)).toBe(0);
    const sent = of('engram_replication_bytes_total', { ...LINK, direction: 'sent' });
    expect(sent).toBeGreaterThan(of('engram_replication_batch_size_bytes_sum', LINK));
    expect(of('engram_node_events_total', { event: 'space-role' })).toBe(1);

    const there = await textOf(b);
    const received = { ...LINK, direction: 'received' };
    expect(sampleOf(there, 'engram_replication_bytes_total', received)).toBeGreaterThan(sent / 2);
    expect(sampleOf(there, 'engram_replication_primary_connected', LINK)).toBe(1);
    expect(sampleOf(there, 'engram_wal_append_duration_ms_count')).toBe(0);
    expect(sampleOf(there, 'engram_node_spaces', { role: 'replica' })).toBe(1);
  });

  test('has a help text and the labels of DESIGN 11 for every metric', async () => {
    const b = await open('b', { listen: LISTEN });
    const a = await open('a', { replicas: [{ nodeId: 'b', ...b.address! }] });
    await a.openSpace('s');
    const body = await textOf(a);
    for (const { name, type } of METRICS) {
      expect(body).toMatch(new RegExp(`^# HELP engram_${name} .{20,}[.]$`, 'm'));
      expect(body).toContain(`# TYPE engram_${name} ${type}\n`);
    }
    const known = ['memory_space', 'replica_id', 'primary_id'];
    const more = ['kind', 'direction', 'reason', 'state', 'severity', 'event', 'role', 'le'];
    more.push('door', 'address_class');
    const labels = new Set(samplesOf(body).flatMap((s) => Object.keys(s.labels)));
    labels.delete('node_id');
    labels.delete('cluster_id');
    expect([...labels].sort()).toEqual([...known, ...more].sort());
  });

  test('tells what is shipped of each space, and no more than that of all', async () => {
    const b = await open('b', { listen: LISTEN });
    const a = await open('a', { replicas: [{ nodeId: 'b', ...b.address! }] });
    const [one, two] = [await a.openSpace('one'), await a.openSpace('two')];
    await one.append(1, Buffer.alloc(5_000), { ack: { replicas: 1 } });
    for (let n = 0; n < 5; n++) await two.append(1, Buffer.alloc(10), { ack: { replicas: 1 } });
    const { body } = await a.metrics();
    const of = (name: string, space: string): number =>
      sampleOf(body, `engram_replication_space_${name}`, { memory_space: space, ...LINK });
    const batches = [of('batches_sent_total', 'one'), of('batches_sent_total', 'two')] as const;
    expect(batches[0]).toBeGreaterThanOrEqual(1);
    expect(batches[1]).toBeGreaterThanOrEqual(5);
    const all = sampleOf(body, 'engram_replication_batches_sent_total', LINK);
    expect(batches[0] + batches[1]).toBe(all);
    const bytes = [of('batch_bytes_total', 'one'), of('batch_bytes_total', 'two')] as const;
    expect(bytes[0]).toBeGreaterThan(5_000);
    expect(bytes[1]).toBeLessThan(5_000);
    const sum = sampleOf(body, 'engram_replication_batch_size_bytes_sum', LINK);
    expect(bytes[0] + bytes[1]).toBe(sum);
  });

  test('escapes what a name of a space may hold', async () => {
    const b = await open('b', { listen: LISTEN });
    const a = await open('a', { replicas: [{ nodeId: 'b', ...b.address! }] });
    const names = ['quote " brace } comma ,', 'back \\ slash \\n', 'ünï ☃ 𝄞', '{}='];
    for (const name of names) await a.openSpace(name);
    const seen = samplesOf(await textOf(a))
      .filter((s) => s.name === 'engram_replication_lag_entries')
      .map((s) => s.labels.memory_space);
    expect(seen.sort()).toEqual([...names].sort());
  });

  test('follows spaces and replicas that come and go', async () => {
    const b = await open('b', { listen: LISTEN });
    const c = await open('c', { listen: LISTEN });
    const a = await open('a', { replicas: [{ nodeId: 'b', ...b.address! }] });
    const pairs = async () =>
      samplesOf(await textOf(a))
        .filter((s) => s.name === 'engram_replication_replica_status')
        .map((s) => `${s.labels.memory_space}@${s.labels.replica_id}`)
        .sort();
    expect(await pairs()).toEqual([]);
    await a.openSpace('x');
    expect(await pairs()).toEqual(['x@b']);
    await a.addReplica({ nodeId: 'c', ...c.address! });
    await a.openSpace('y');
    expect(await pairs()).toEqual(['x@b', 'x@c', 'y@b', 'y@c']);
    await a.removeReplica('b');
    expect(await pairs()).toEqual(['x@c', 'y@c']);
  });

  test('is shared by those who ask at the same time, and ends with the node', async () => {
    const a = await open('a');
    const [one, two] = await Promise.all([a.metrics(), a.metrics()]);
    expect(one).toBe(two);
    await a.close();
    await expect(a.metrics()).rejects.toMatchObject({ code: 'Closed' });
  });
});

describe('a registry of the host', () => {
  test('holds the same metrics beside its own, until the node closes', async () => {
    const registry = new Registry();
    new Counter({ name: 'host_total', help: 'of the host', registers: [registry] }).inc(7);
    const b = await open('b', { listen: LISTEN });
    const a = await open('a', {
      replicas: [{ nodeId: 'b', ...b.address! }],
      metricsRegistry: registry,
      metricsPrefix: 'log_a_',
    });
    const space = await a.openSpace('s');
    await space.append(1, Buffer.from('x'), { ack: { replicas: 1 } });
    const { body, contentType } = await a.metrics();
    expect(contentType).toBe(registry.contentType);
    expect(sampleOf(body, 'host_total')).toBe(7);
    expect(sampleOf(body, 'log_a_wal_append_duration_ms_count')).toBe(1);
    expect(sampleOf(body, 'log_a_replication_lag_entries')).toBe(0);
    registry.resetMetrics();
    await space.append(1, Buffer.from('y'));
    const again = await registry.metrics();
    expect(sampleOf(again, 'log_a_wal_append_duration_ms_count')).toBe(2);
    expect(sampleOf(again, 'host_total')).toBe(0);
    const second = open('c', { metricsRegistry: registry, metricsPrefix: 'log_a_' });
    await expect(second).rejects.toThrow(/log_a_wal_writes_total/);
    await expect(second).rejects.toMatchObject({ code: 'Configuration' });
    expect(sampleOf(await registry.metrics(), 'log_a_wal_append_duration_ms_count')).toBe(2);
    await a.close();
    expect(await registry.metrics()).not.toContain('log_a_');
  });

  test('may be of the OpenMetrics kind', async () => {
    const registry = new Registry();
    registry.setContentType(Registry.OPENMETRICS_CONTENT_TYPE as never);
    const a = await open('a', { metricsRegistry: registry as never });
    const { body, contentType } = await a.metrics();
    expect(contentType).toContain('openmetrics');
    expect(body.endsWith('# EOF\n')).toBe(true);
    expect(body).toContain('engram_wal_writes_total ');
    expect((await a.metrics()).body).toContain('engram_wal_writes_total ');
  });
});
