/** Replicas whose entries are freed get a snapshot: FAULTS rows 54 and 56-60, on real sockets. */
import fs from 'node:fs';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { Node, NodeOptions, Space } from '#src/main/index.js';
import {
  at,
  contentOf,
  heard,
  makeFolder,
  openSmall,
  removeFolder,
  until,
} from '../support/cluster.js';
import { TINY } from '../support/fake-cluster.js';
import { Gate, StateHost } from '../support/state-host.js';
import { TcpProxy } from '../support/tcp-proxy.js';

const LISTEN = { host: '127.0.0.1', port: 0 };
const SIZES = { ...TINY, maxSlotBytes: 64 * 1024, snapshotChunkBytes: 4 * 1024 };

let folder: string;
let open: Node[];
let proxies: TcpProxy[];

beforeEach(() => {
  folder = makeFolder();
  open = [];
  proxies = [];
});

afterEach(async () => {
  for (const proxy of proxies) await proxy.close();
  await Promise.all(open.map((node) => node.close()));
  removeFolder(folder);
});

async function start(nodeId: string, more: Partial<NodeOptions> = {}): Promise<Node> {
  const node = await openSmall(path.join(folder, nodeId), nodeId, { ...SIZES, ...more });
  open.push(node);
  return node;
}

/** A replica with a host; the same host over all its lives. */
function replica(nodeId: string, host: StateHost, more: Partial<NodeOptions> = {}): Promise<Node> {
  const { apply, appliedUpTo, restore } = host;
  return start(nodeId, { listen: LISTEN, apply, appliedUpTo, restore, ...more });
}

let made = 0;
const payload = (): Buffer => Buffer.from(`${++made} `.padEnd(1_500, `${made % 10}`));

async function fill(space: Space, host: StateHost, entries: number): Promise<void> {
  for (let n = 0; n < entries; n++) await host.append(space, payload());
}

/** The host needs nothing of the log any more, and it is gone. */
async function giveUp(node: Node, space: Space): Promise<void> {
  await until('segments are freed', () => {
    // Each one asks for a pass, as each roll does.
    void space.checkpoint(space.status().durableSequence + 1);
    return node.status().segments <= 2;
  });
}

/** The replica has all that its primary has: the state, and the log from where its own begins. */
async function same(space: Space, on: Node, hosts: [StateHost, StateHost]): Promise<void> {
  const last = space.status().durableSequence;
  await space.flushed(last, { replicas: space.status().replicas.length, timeoutMs: 20_000 });
  const copy = on.space(space.name);
  await until('it is applied', () => copy.status().appliedSequence >= last);
  expect(hosts[1].digest(space.name)).toBe(hosts[0].digest(space.name));
  const { firstSequence } = copy.status();
  const from = Math.max(firstSequence, space.status().firstSequence);
  if (from <= last) {
    expect(await contentOf(copy, { from })).toEqual(await contentOf(space, { from }));
  }
}

/** A primary whose replica is away, and lacks what is freed. */
interface Lost {
  readonly a: Node;
  readonly space: Space;
  readonly hosts: [StateHost, StateHost];
  readonly proxy: TcpProxy;
  /** Before each piece of the snapshot. */
  readonly gate: Gate;
  /** The replica comes back. */
  comeBack(more?: Partial<NodeOptions>): Promise<Node>;
}

async function lost(more: Partial<NodeOptions> = {}): Promise<Lost> {
  const hosts: [StateHost, StateHost] = [new StateHost(), new StateHost()];
  const gate = new Gate();
  hosts[0].beforePiece = gate.pass;
  const b = await replica('b', hosts[1]);
  const { port } = b.address!;
  const proxy = new TcpProxy(port);
  proxies.push(proxy);
  const replicas = [at('b', await proxy.listen())];
  const a = await start('a', { replicas, snapshot: hosts[0].snapshot, ...more });
  const space = await a.openSpace('s');
  await fill(space, hosts[0], 5);
  await same(space, b, hosts);
  await b.close();
  await fill(space, hosts[0], 100);
  await giveUp(a, space);
  const comeBack = (options: Partial<NodeOptions> = {}): Promise<Node> =>
    replica('b', hosts[1], { listen: { ...LISTEN, port }, ...options });
  return { a, space, hosts, proxy, gate, comeBack };
}

/** Where replicas collect snapshots. */
function spools(nodeId: string): string[] {
  const dir = path.join(folder, nodeId, 'snapshots');
  return fs.existsSync(dir) ? fs.readdirSync(dir).map((name) => path.join(dir, name)) : [];
}

describe('a replica that comes back too late', () => {
  test('FAULT-54 its slot is lost, the log is freed, a snapshot comes by itself', async () => {
    const hosts: [StateHost, StateHost] = [new StateHost(), new StateHost()];
    let b = await replica('b', hosts[1]);
    const { port } = b.address!;
    const a = await start('a', { replicas: [at('b', port)], snapshot: hosts[0].snapshot });
    const lost = heard(a, 'slot-lost');
    const news = [heard(a, 'snapshot-started'), heard(a, 'snapshot-done')] as const;
    const space = await a.openSpace('s');
    await fill(space, hosts[0], 5);
    await same(space, b, hosts);
    await b.close();
    await fill(space, hosts[0], 120);
    await giveUp(a, space);
    expect(lost).toMatchObject([{ space: 's', replicaId: 'b', flushed: 5, why: 'bytes' }]);
    expect(space.status().replicas[0]).toMatchObject({ state: 'slot-lost', slot: 'lost' });
    const { firstSequence, durableSequence } = space.status();
    expect(firstSequence).toBeGreaterThan(100);
    b = await replica('b', hosts[1], { listen: { ...LISTEN, port } });
    const told = heard(b, 'snapshot-done');
    await same(space, b, hosts);
    expect(news[0]).toEqual([{ space: 's', replicaId: 'b', sequence: durableSequence, chunk: 0 }]);
    expect(news[1]).toMatchObject([{ space: 's', replicaId: 'b', sequence: durableSequence }]);
    expect(told).toEqual(news[1]);
    expect(hosts[1].restores).toBe(1);
    // It goes on as any replica, and does not pretend to have what it never got.
    await fill(space, hosts[0], 30);
    await same(space, b, hosts);
    const copy = b.space('s');
    expect(copy.status()).toMatchObject({
      firstSequence: durableSequence + 1,
      snapshot: undefined,
    });
    expect(space.status().replicas[0]).toMatchObject({ state: 'streaming', snapshot: undefined });
    await expect(contentOf(copy, { from: 3 })).rejects.toMatchObject({ code: 'Trimmed' });
    // And after another opening, from its own log.
    await b.close();
    b = await replica('b', hosts[1], { listen: { ...LISTEN, port } });
    await fill(space, hosts[0], 3);
    await same(space, b, hosts);
    expect(hosts[1].restores).toBe(1);
  });
});

describe('a snapshot that is interrupted', () => {
  test('FAULT-56 goes on at the next chunk: nothing is asked of the host twice', async () => {
    const { a, space, hosts, proxy, gate, comeBack } = await lost();
    const started = heard(a, 'snapshot-started');
    gate.closeAt(60);
    const b = await comeBack();
    await until('it is in the middle', () => gate.isReached);
    const status = () => space.status().replicas[0]!;
    await until('what was given is stored', () => (status().snapshot?.chunks ?? 0) >= 15);
    expect(status()).toMatchObject({ state: 'snapshotting', snapshot: { phase: 'sending' } });
    expect(b.space('s').status().snapshot).toMatchObject({ phase: 'receiving' });
    const { chunks } = status().snapshot!;
    proxy.cut();
    await until('it is kept', () => status().snapshot?.phase === 'parked' || started.length > 1);
    gate.open();
    await same(space, b, hosts);
    expect(started).toHaveLength(2);
    expect(started[1]!.chunk).toBeGreaterThanOrEqual(chunks);
    expect(hosts[0]).toMatchObject({ snapshots: 1, pulled: 105, closed: 1 });
    expect(hosts[1].restores).toBe(1);
    await until('the spool is gone', () => spools('b').length === 0);
  });

  test('FAULT-56 a replica that is back too late gets another one, from the start', async () => {
    const { a, space, hosts, gate, comeBack } = await lost({ snapshotGraceMs: 200 });
    const failed = heard(a, 'snapshot-failed');
    gate.closeAt(60);
    let b = await comeBack();
    await until('it is in the middle', () => gate.isReached);
    await b.close();
    expect(spools('b')).toHaveLength(1);
    await until('the primary gives it up', () => failed.length > 0);
    expect(failed[0]).toMatchObject({ space: 's', replicaId: 'b', code: 'SnapshotFailed' });
    gate.open();
    await until('its host lets go', () => hosts[0].closed === 1);
    // What it has of the old one is of no use any more.
    b = await comeBack();
    await same(space, b, hosts);
    expect(hosts[0].snapshots).toBe(2);
    expect(hosts[1].restores).toBe(1);
  });

  test('FAULT-56 partial files that are of no use are deleted at start-up', async () => {
    const { hosts, gate, comeBack } = await lost();
    gate.closeAt(30);
    let b = await comeBack({ snapshotGraceMs: 300 });
    await until('it is in the middle', () => gate.isReached);
    await b.close();
    const [spool] = spools('b');
    const stranger = path.join(path.dirname(spool!), `${'ab'.repeat(16)}.part`);
    fs.copyFileSync(spool!, stranger);
    fs.writeFileSync(spool!, 'no spool at all');
    gate.open();
    b = await comeBack({ snapshotGraceMs: 300, listen: LISTEN });
    expect(spools('b')).toEqual([]);
    await b.close();
    expect(hosts[1].restores).toBe(0);
  });

  test('a kept part is deleted when the grace time is over', async () => {
    const { gate, comeBack } = await lost();
    gate.closeAt(30);
    let b = await comeBack();
    await until('it is in the middle', () => gate.isReached);
    await b.close();
    // At another address: nobody dials it.
    b = await comeBack({ snapshotGraceMs: 300, listen: LISTEN });
    expect(spools('b')).toHaveLength(1);
    await until('the part is gone', () => spools('b').length === 0);
    gate.open();
    await b.close();
  });
});

describe('a snapshot that is corrupt', () => {
  test('FAULT-57 on the wire: the link ends, and the chunk comes again', async () => {
    const { a, space, hosts, proxy, gate, comeBack } = await lost();
    const started = heard(a, 'snapshot-started');
    gate.closeAt(40);
    const b = await comeBack();
    const links = heard(b, 'primary-connection');
    await until('it is in the middle', () => gate.isReached);
    proxy.corrupt('forth');
    gate.open();
    await same(space, b, hosts);
    // The reason may get lost on the way back, in the reset of a connection that is still sent on.
    expect(links.some((l) => !l.connected)).toBe(true);
    expect(started.length).toBeGreaterThanOrEqual(2);
    expect(started.at(-1)!.chunk).toBeGreaterThan(0);
    expect(hosts[0]).toMatchObject({ snapshots: 1, pulled: 105 });
    expect(hosts[1].restores).toBe(1);
  });

  test('FAULT-57 on the disk: discarded, told, and the old state goes on', async () => {
    const { a, space, hosts, gate, comeBack } = await lost();
    const failed = [heard(a, 'snapshot-failed')];
    const before = hosts[1].digest('s');
    gate.closeAt(100);
    const b = await comeBack();
    failed.push(heard(b, 'snapshot-failed'));
    await until('most of it is there', () => gate.isReached);
    await until('and stored', () => (b.space('s').status().snapshot?.chunks ?? 0) > 30);
    const [spool] = spools('b');
    const bytes = fs.readFileSync(spool!);
    bytes[bytes.length >> 1]! ^= 4;
    fs.writeFileSync(spool!, bytes);
    // The second one waits: what is there meanwhile is what was there before.
    hosts[0].beforePiece = async (n) => {
      if (hosts[0].snapshots > 1) await gate.pass(n);
    };
    gate.open();
    await until('both tell', () => failed.every((events) => events.length > 0));
    for (const events of failed) {
      expect(events[0]).toMatchObject({ space: 's', replicaId: 'b', code: 'ChecksumMismatch' });
    }
    expect(hosts[1].digest('s')).toBe(before);
    expect(await contentOf(b.space('s'))).toHaveLength(5);
    gate.open();
    await same(space, b, hosts);
    expect(hosts[0].snapshots).toBe(2);
    expect(hosts[1].restores).toBe(1);
  });
});

describe('the log meanwhile', () => {
  test('FAULT-59 what comes behind the snapshot is kept until the replica streams', async () => {
    const { a, space, hosts, gate, comeBack } = await lost();
    gate.closeAt(50);
    const b = await comeBack();
    await until('it is in the middle', () => gate.isReached);
    const { sequence } = space.status().replicas[0]!.snapshot!;
    // Less than a slot may keep, and the host needs none of it.
    for (let n = 0; n < 3; n++) {
      await fill(space, hosts[0], 10);
      await space.checkpoint(space.status().durableSequence + 1);
    }
    expect(space.status().firstSequence).toBeLessThanOrEqual(sequence + 1);
    expect(space.status().replicas[0]).toMatchObject({ slot: expect.not.stringMatching('lost') });
    gate.open();
    await same(space, b, hosts);
    expect(hosts[0].snapshots).toBe(1);
    expect(b.space('s').status().firstSequence).toBe(sequence + 1);
    await space.checkpoint(space.status().durableSequence + 1);
    await fill(space, hosts[0], 30);
    await same(space, b, hosts);
    await giveUp(a, space);
  });

  test('FAULT-59 more than a slot may keep: given up at once, not finished too old', async () => {
    const { a, space, hosts, gate, comeBack } = await lost();
    const failed = heard(a, 'snapshot-failed');
    gate.closeAt(50);
    const b = await comeBack();
    await until('it is in the middle', () => gate.isReached);
    const { sequence } = space.status().replicas[0]!.snapshot!;
    await fill(space, hosts[0], 120);
    await space.checkpoint(space.status().durableSequence + 1);
    await until('it is given up', () => failed.length > 0);
    expect(failed[0]).toMatchObject({ code: 'SnapshotFailed' });
    expect(failed[0]!.reason).toContain('maxSlotBytes');
    await until('what follows the first one is freed', () => {
      void space.checkpoint(space.status().durableSequence + 1);
      return space.status().firstSequence > sequence + 1;
    });
    gate.open();
    await same(space, b, hosts);
    // One that was begun while entries still came had to be given up as well.
    expect(hosts[0].snapshots).toBeGreaterThan(1);
    expect(hosts[1].restores).toBe(1);
  });
});
