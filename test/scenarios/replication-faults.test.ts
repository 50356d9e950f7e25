import { type ChildProcess, fork } from 'node:child_process';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import type { Entry, Node, NodeOptions } from '#src/main/index.js';
import type { Platform } from '#src/main/node/machine.js';
import { nodePlatform } from '#src/main/node/machine.js';
import { openNodeOn } from '#src/main/node/open-node.js';
import type { ShipperThread } from '#src/main/runtime/machine.js';
import { nodeDisk } from '#src/main/segments/node-disk.js';
import {
  at,
  contentOf,
  heard,
  makeFolder,
  openSmall,
  removeFolder,
  SMALL,
  until,
} from '../support/cluster.js';
import { TINY } from '../support/fake-cluster.js';
import { FakeDisk } from '../support/fake-disk.js';
import { TcpProxy } from '../support/tcp-proxy.js';
import { WireClient } from '../support/wire-client.js';

const LISTEN = { host: '127.0.0.1', port: 0 };
const PROGRAM = path.join(import.meta.dirname, '../crash/busy-node.mjs');

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

async function start(nodeId: string, more: Partial<NodeOptions> = {}): Promise<Node> {
  const node = await openSmall(path.join(folder, nodeId), nodeId, more);
  open.push(node);
  return node;
}

function kept(node: Node): Node {
  open.push(node);
  return node;
}

async function proxied(target: Node): Promise<{ proxy: TcpProxy; port: number }> {
  const proxy = new TcpProxy(target.address!.port);
  proxies.push(proxy);
  return { proxy, port: await proxy.listen() };
}

const payload = (n: number): Buffer => Buffer.from(`entry ${n} ${'.'.repeat(n % 50)}`);

describe('disks of replicas', () => {
  test('FAULT-11 a replica whose fdatasync fails says so and acks no more', async () => {
    const disk = new FakeDisk();
    const options = { ...TINY, nodeId: 'b', dataDir: '/data', listen: LISTEN };
    const b = kept(await openNodeOn(disk.mount(), options));
    const a = await start('a', { ...TINY, replicas: [at('b', b.address!.port)] });
    const space = await a.openSpace('s');
    await space.append(1, payload(1), { ack: { replicas: 1 } });
    const states = heard(a, 'replica-state');
    disk.inject({ call: 1, errno: 'EIO', only: 'fdatasync' });
    await space.append(1, payload(2));
    await until('it is told', () => states.some((s) => s.fatal === 'WalFailed'));
    expect(states.find((s) => s.fatal)).toMatchObject({ state: 'failed', replicaId: 'b' });
    // The primary goes on, and keeps what the replica lacks.
    for (let n = 3; n < 20; n++) await space.append(1, payload(n));
    expect(space.status().replicas[0]).toMatchObject({ ackedSequence: 1, slot: 'reserved' });
  });

  test('FAULT-50 a replica without room says so, and goes on by itself with some', async () => {
    const disk = new FakeDisk();
    const options = { ...TINY, nodeId: 'b', dataDir: '/data', listen: LISTEN };
    const b = kept(await openNodeOn(disk.mount(), options));
    const c = await start('c', { ...TINY, listen: LISTEN });
    const replicas = [at('b', b.address!.port), at('c', c.address!.port)];
    const a = await start('a', { ...TINY, replicas });
    const space = await a.openSpace('s');
    await space.append(1, payload(1), { ack: { replicas: 2 } });
    const states = heard(a, 'replica-state');
    disk.capacityBytes = disk.usedBytes + 4_096;
    for (let n = 2; n < 60; n++) await space.append(1, Buffer.alloc(500, n));
    await until('it is told', () => states.some((s) => s.reason.startsWith('DiskFull')));
    expect(states.find((s) => s.reason.startsWith('DiskFull'))).toMatchObject({ state: 'failed' });
    await space.flushed(59, { replicas: 1, timeoutMs: 20_000 });
    disk.capacityBytes = Number.POSITIVE_INFINITY;
    await space.flushed(59, { replicas: 2, timeoutMs: 20_000 });
    expect(await contentOf(b.space('s'))).toEqual(await contentOf(space));
  });

  test('FAULT-23 a primary whose disk has lost what a replica has fills itself up', async () => {
    const disk = new FakeDisk();
    const b = await start('b', { ...TINY, listen: LISTEN });
    const replicas = [at('b', b.address!.port)];
    // The word of `b` is what this is about, however long it takes.
    const waits = { replicas, openConfirmMs: 20_000 };
    const options = { ...TINY, nodeId: 'a', dataDir: '/data', ...waits };
    const first = await openNodeOn(disk.mount(), options);
    const space = await first.openSpace('s');
    await space.append(1, payload(1), { ack: { replicas: 1, timeoutMs: 20_000 } });
    await first.close();
    const image = disk.image();
    const second = await openNodeOn(disk.mount(), options);
    const again = await second.openSpace('s');
    await again.append(1, payload(2), { ack: { replicas: 1, timeoutMs: 20_000 } });
    await second.close();
    disk.restore(image);
    const third = kept(await openNodeOn(disk.mount(), options));
    const regressed = heard(third, 'regressed');
    const fenced = heard(third, 'fenced');
    // It has filled itself up, and leads on in an epoch of its own: no sequence is used again.
    const refilled = await third.openSpace('s');
    expect(regressed).toHaveLength(1);
    // What comes back of its own candidacy is no rival's.
    expect(fenced).toEqual([]);
    expect(await refilled.append(1, payload(3))).toEqual({ sequence: 4, epoch: 2 });
    await refilled.flushed(4, { replicas: 1, timeoutMs: 20_000 });
    expect(await contentOf(b.space('s'))).toEqual(await contentOf(refilled));
    expect(await contentOf(refilled)).toHaveLength(4);
  });
});

describe('identities', () => {
  test('FAULT-26 a second process of one name is refused while the first lives', async () => {
    const b = await start('b', { listen: LISTEN });
    const duplicates = heard(b, 'duplicate-node');
    const first = new WireClient(b.address!.port);
    await first.hello('b', { nodeId: 'twin', incarnation: 1n });
    const second = new WireClient(b.address!.port);
    const refused = second.hello('b', { nodeId: 'twin', incarnation: 2n });
    await first.next('ping');
    first.send({ kind: 'pong' });
    await expect(refused).rejects.toThrow(/closed/);
    expect(second.frames.find((f) => f.kind === 'bye')).toMatchObject({
      code: 'DuplicateNode',
      fatal: true,
    });
    expect(duplicates).toEqual([{ nodeId: 'twin', directories: [undefined, undefined] }]);
    // One that does not answer is gone, and is replaced.
    const third = new WireClient(b.address!.port);
    await third.hello('b', { nodeId: 'twin', incarnation: 3n });
    await first.closed;
    third.socket.destroy();
    const own = new WireClient(b.address!.port);
    await expect(own.hello('b', { nodeId: 'b', incarnation: 4n })).rejects.toThrow(/closed/);
    expect(own.frames.find((f) => f.kind === 'bye')).toMatchObject({ code: 'DuplicateNode' });
  });

  test('FAULT-26 by directory: another one and a copy are refused; no restart is', async () => {
    const b = await start('b', { listen: LISTEN });
    const duplicates = heard(b, 'duplicate-node');
    const [own, other] = ['1'.repeat(32), '2'.repeat(32)];
    let n = 0n;
    const dial = (directoryId: string): { client: WireClient; welcomed: Promise<unknown> } => {
      const client = new WireClient(b.address!.port);
      const auth = Buffer.from(directoryId, 'hex');
      const hello = { nodeId: 'twin', maxVersion: 2, incarnation: ++n, auth };
      return { client, welcomed: client.hello('b', hello) };
    };
    const first = dial(own);
    await first.welcomed;
    for (const [directoryId, words] of [
      [other, `this one is directory ${other}`],
      [own, 'this one is a copy of the same directory'],
    ] as const) {
      const second = dial(directoryId);
      await first.client.next('ping');
      first.client.send({ kind: 'pong' });
      await expect(second.welcomed).rejects.toThrow(/closed/);
      const bye = second.client.frames.find((f) => f.kind === 'bye');
      expect(bye).toMatchObject({ code: 'DuplicateNode', fatal: true });
      expect((bye as { message: string }).message).toContain(words);
      expect(duplicates.splice(0)).toEqual([{ nodeId: 'twin', directories: [own, directoryId] }]);
      expect(b.status().primaries).toMatchObject([{ isConnected: true, directoryId: own }]);
    }
    // Restarted, before anybody knows that the process before it is dead; so is a new disk.
    for (const directoryId of [own, other]) {
      const again = dial(directoryId);
      await again.welcomed;
      await until('its place is taken', () => b.status().primaries[0]!.directoryId === directoryId);
    }
    await first.client.closed;
    expect(duplicates).toEqual([]);
  });

  test('FAULT-26 by directory, whichever side dials: both are told', async () => {
    const b = await start('b', { listen: LISTEN });
    const a = await start('a', {
      listen: LISTEN,
      lead: true,
      replicas: [at('b', b.address!.port)],
    });
    await (await a.openSpace('s')).append(1, payload(1), { ack: { replicas: 1 } });
    const duplicates = heard(a, 'duplicate-node');
    // One lives where we ship to; another one of its name would ship to us.
    const other = '2'.repeat(32);
    const hello = { nodeId: 'b', maxVersion: 2, auth: Buffer.from(other, 'hex') };
    const second = new WireClient(a.address!.port);
    await expect(second.hello('a', hello)).rejects.toThrow(/closed/);
    expect(second.frames).toMatchObject([{ kind: 'bye', code: 'DuplicateNode', fatal: true }]);
    const { directoryId } = b.status();
    expect(duplicates.splice(0)).toEqual([{ nodeId: 'b', directories: [directoryId, other] }]);
    expect(a.status().replicas).toMatchObject([{ state: 'streaming', directoryId }]);
    // The other way round: one ships to us and lives; another one stands where we dial.
    const c = await start('c', { listen: LISTEN });
    const first = new WireClient(a.address!.port);
    await first.hello('a', { ...hello, nodeId: 'c' });
    const gone = heard(c, 'primary-connection');
    const states = heard(a, 'replica-state');
    const added = a.addReplica(at('c', c.address!.port));
    const answers = (async () => {
      for (;;) {
        await first.next('ping');
        first.send({ kind: 'pong' });
      }
    })().catch(() => undefined);
    await until('we are told', () => states.some((s) => s.fatal === 'DuplicateNode'));
    await until('it is told', () => gone.some(({ reason }) => reason.includes('another c')));
    const directories = [other, c.status().directoryId];
    expect(duplicates[0]).toEqual({ nodeId: 'c', directories });
    first.socket.destroy();
    await answers;
    await added;
  });

  test('FAULT-26 two primaries of one copied directory: the second does not ship', async () => {
    const b = await start('b', { listen: LISTEN });
    const replicas = [at('b', b.address!.port)];
    const a = await start('a', { replicas });
    const space = await a.openSpace('s');
    await space.append(1, payload(1), { ack: { replicas: 1 } });
    const clone = kept(await openSmall(path.join(folder, 'clone'), 'a', { replicas }));
    const states = heard(clone, 'replica-state');
    await until('it is told', () => states.some((s) => s.fatal === 'DuplicateNode'));
    await space.append(1, payload(2), { ack: { replicas: 1 } });
  });
});

describe('links', () => {
  test('FAULT-34 a half-open link is given up after 10 s, and the rest is resumed', async () => {
    const b = await start('b', { listen: LISTEN });
    const { proxy, port } = await proxied(b);
    const a = await start('a', { replicas: [at('b', port)] });
    const space = await a.openSpace('s');
    await space.append(1, payload(1), { ack: { replicas: 1 } });
    const states = heard(a, 'replica-state');
    proxy.stall('forth', 'back');
    for (let n = 2; n < 10; n++) await space.append(1, payload(n));
    await until('it is given up', () => states.length > 0, 30_000);
    expect(states[0]!.reason).toBe('nothing received within the read timeout');
    proxy.flow();
    await space.flushed(9, { replicas: 1, timeoutMs: 20_000 });
    expect(await contentOf(b.space('s'))).toEqual(await contentOf(space));
  });

  test('FAULT-36 data flows and acks do not: no more than the window is sent', async () => {
    const b = await start('b', { listen: LISTEN });
    const { proxy, port } = await proxied(b);
    const windowBytes = 64 * 1024;
    const a = await start('a', { replicas: [at('b', port)], windowBytes });
    const space = await a.openSpace('s');
    await space.append(1, payload(1), { ack: { replicas: 1 } });
    const states = heard(a, 'replica-state');
    proxy.stall('back');
    for (let n = 0; n < 60; n++) await space.append(1, Buffer.alloc(10_000, n));
    const { sentSequence, ackedSequence } = space.status().replicas[0]!;
    expect(ackedSequence).toBe(1);
    expect((sentSequence - ackedSequence) * 10_064).toBeLessThan(2 * windowBytes + 64 * 1024);
    await until('it is given up', () => states.length > 0, 30_000);
    proxy.flow();
    proxy.cut();
    await space.flushed(61, { replicas: 1, timeoutMs: 20_000 });
    expect(await contentOf(b.space('s'))).toEqual(await contentOf(space));
  });

  test('FAULT-37 a slow replica is degraded; nobody else notices, nothing is lost', async () => {
    const b = await start('b', { listen: LISTEN });
    const c = await start('c', { listen: LISTEN });
    const { proxy, port } = await proxied(b);
    const replicas = [at('b', port), at('c', c.address!.port)];
    const a = await start('a', { replicas, windowBytes: 64 * 1024, lagAlertThresholdMs: 200 });
    const space = await a.openSpace('s');
    await space.append(1, payload(1), { ack: { replicas: 2 } });
    proxy.limit(100_000);
    for (let n = 0; n < 80; n++) {
      await space.append(1, Buffer.alloc(10_000, n), { ack: { replicas: 1, timeoutMs: 20_000 } });
    }
    const statusOf = (id: string) => space.status().replicas.find((r) => r.replicaId === id)!;
    await until('it is degraded', () => statusOf('b').status === 'degraded');
    expect(statusOf('c').lagEntries).toBe(0);
    await until('it is behind', () => a.status().replicas[0]!.catchUp.behindBytes > 0);
    expect(a.status().memory.inUse).toBeLessThan(a.status().memory.slabs);
    proxy.limit(Number.POSITIVE_INFINITY);
    await space.flushed(81, { replicas: 2, timeoutMs: 20_000 });
    expect(await contentOf(b.space('s'))).toEqual(await contentOf(space));
  });

  test('FAULT-30 bytes changed on the way end the link, are counted, and come again', async () => {
    const b = await start('b', { listen: LISTEN });
    const { proxy, port } = await proxied(b);
    const a = await start('a', { replicas: [at('b', port)] });
    const space = await a.openSpace('s');
    await space.append(1, payload(1), { ack: { replicas: 1 } });
    for (const way of ['forth', 'back', 'forth'] as const) {
      const before = a.status().replicas[0]!.checksumFailures;
      proxy.corrupt(way);
      await space.append(1, Buffer.alloc(5_000, 7), { ack: { replicas: 1, timeoutMs: 20_000 } });
      expect(a.status().replicas[0]!.checksumFailures).toBe(before + 1);
    }
    expect(await contentOf(b.space('s'))).toEqual(await contentOf(space));
  });
});

describe('the threads and clocks of a primary', () => {
  test('FAULT-76 a shipper that dies is started again; three deaths are a fault', async () => {
    const b = await start('b', { listen: LISTEN });
    const threads: ShipperThread[] = [];
    const connections: number[] = [];
    const platform: Platform = {
      ...nodePlatform,
      startShipper: (facts, hooks) => {
        const message: typeof hooks.message = (told) => {
          if (told.kind === 'welcomed') connections.push(told.connection);
          hooks.message(told);
        };
        const thread = nodePlatform.startShipper(facts, { ...hooks, message });
        threads.push(thread);
        return thread;
      },
    };
    const options = { ...SMALL, nodeId: 'a', dataDir: path.join(folder, 'a') };
    const replicas = [at('b', b.address!.port)];
    const a = kept(await openNodeOn(nodeDisk, { ...options, replicas }, platform));
    const lost = heard(a, 'shipper-lost');
    const space = await a.openSpace('s');
    for (let death = 1; death <= 3; death++) {
      const { sequence } = await space.append(1, payload(death));
      await space.flushed(sequence, { replicas: 1, timeoutMs: 20_000 });
      threads.at(-1)!.terminate();
      await until('its death is told', () => lost.length === death);
      await space.append(1, payload(death));
    }
    await until('it counts as broken', () => a.status().replicas[0]!.state === 'failed');
    expect(space.status().replicas[0]).toMatchObject({ status: 'failed', ackedSequence: 5 });
    // What main answers a thread that has died since is for no connection of the next one.
    expect(new Set(connections).size).toBe(connections.length);
  });

  test('FAULT-75 a primary whose event loop is blocked is called stalled, not dead', async () => {
    const b = await start('b', { listen: LISTEN });
    const child = fork(PROGRAM, [
      path.join(folder, 'a'),
      JSON.stringify([at('b', b.address!.port)]),
    ]);
    children.push(child);
    const links = heard(b, 'primary-connection');
    const stalls = heard(b, 'primary-stalled');
    await until('it leads', () => b.status().spaces.length === 1);
    child.send({ block: 4_500 });
    await until('it is stalled', () => stalls.length > 0);
    expect(stalls[0]).toMatchObject({ primaryId: 'primary', isStalled: true });
    await until('and moves again', () => stalls.length > 1);
    expect(stalls[1]).toMatchObject({ isStalled: false, stalledMs: 0 });
    expect(links.filter((l) => !l.connected)).toEqual([]);
  });

  test('FAULT-61 a primary that crashes over and over costs its replica no resync', async () => {
    const b = await start('b', { listen: LISTEN });
    const links = heard(b, 'primary-connection');
    const argv = [path.join(folder, 'a'), JSON.stringify([at('b', b.address!.port)])];
    let last = 0;
    for (let crash = 0; crash < 6; crash++) {
      const child = fork(PROGRAM, argv);
      children.push(child);
      const appended = new Promise<number>((resolve) => {
        child.on('message', (m: { open?: number; appended?: number; crashes?: number }) => {
          if (m.open !== undefined) expect([m.open, m.crashes]).toEqual([last, crash]);
          if (m.open !== undefined) child.send({ append: 50 });
          if (m.appended !== undefined) resolve(m.appended);
        });
      });
      last = await appended;
      expect(last).toBe(50 * (crash + 1));
      child.kill('SIGKILL');
      await new Promise((resolve) => child.once('exit', resolve));
      // What it has is a prefix, and none of it is taken back or sent anew.
      const here = b.status().spaces[0]?.durableSequence ?? 0;
      expect(here).toBeLessThanOrEqual(last);
    }
    const child = fork(PROGRAM, argv);
    children.push(child);
    const isOpen = new Promise<void>((resolve) => {
      child.on('message', (m: { open?: number }) => m.open !== undefined && resolve());
    });
    await until('all is there', () => b.status().spaces[0]!.durableSequence >= 300);
    // It may have been there before this life began: the crash counts once it has.
    await isOpen;
    expect(await contentOf(b.space('s'))).toHaveLength(300);
    child.kill('SIGKILL');
    await new Promise((resolve) => child.once('exit', resolve));
    // Whoever starts it is told how long to wait; a close ends the count.
    const options = { ...SMALL, nodeId: 'primary', dataDir: path.join(folder, 'a') };
    const told: unknown[] = [];
    const last7 = await openNodeOn(nodeDisk, options);
    last7.on('crash-loop', (event) => told.push(event));
    await until('it is told', () => told.length > 0);
    expect(told).toEqual([{ crashes: 7, restartHintMs: 60_000 }]);
    expect(last7.status().crashes).toBe(7);
    await last7.close();
    const calm = kept(await openNodeOn(nodeDisk, options));
    expect(calm.status().crashes).toBe(0);
    expect(links.filter((l) => l.connected).length).toBeGreaterThanOrEqual(2);
  });

  test('FAULT-22 what was durable and not shipped is shipped after a crash', async () => {
    const b = await start('b', { listen: LISTEN });
    const { port } = b.address!;
    const argv = [path.join(folder, 'a'), JSON.stringify([at('b', port)])];
    const crash = async (): Promise<void> => {
      const child = fork(PROGRAM, argv);
      children.push(child);
      const appended = new Promise((resolve) => {
        child.on('message', (m: { open?: number; appended?: number }) => {
          if (m.open !== undefined) child.send({ append: 500 });
          if (m.appended !== undefined) resolve(m.appended);
        });
      });
      await appended;
      child.kill('SIGKILL');
      await new Promise((resolve) => child.once('exit', resolve));
    };
    await b.close();
    // Nobody is there to ship to.
    await crash();
    const again = await start('b', { listen: { host: '127.0.0.1', port } });
    children.push(fork(PROGRAM, argv));
    await until('it is shipped', () => again.status().spaces[0]?.durableSequence >= 500);
  });

  test('FAULT-73 a wall clock that jumps disturbs neither links, stamps nor lag', async () => {
    const b = await start('b', { listen: LISTEN });
    const a = await start('a', { replicas: [at('b', b.address!.port)] });
    const space = await a.openSpace('s');
    const states = heard(a, 'replica-state');
    const real = Date.now.bind(Date);
    for (const hours of [0, 1, -1, 2, -3]) {
      vi.spyOn(Date, 'now').mockImplementation(() => real() + hours * 3_600_000);
      await space.append(1, payload(1), { ack: { replicas: 1 } });
      const { lagMs } = space.status().replicas[0]!;
      expect(lagMs).toBeGreaterThanOrEqual(0);
      expect(lagMs).toBeLessThan(60_000);
    }
    expect(states.filter((s) => s.state !== 'streaming')).toEqual([]);
    // Nor is who leads next behind what he was sent, by a clock that is.
    await a.close();
    await b.promote('s');
    const promoted = b.space('s');
    await promoted.append(1, payload(1));
    const stamps: bigint[] = [];
    for await (const entry of promoted.read()) stamps.push(entry.timestamp);
    expect(stamps).toEqual([...stamps].sort((x, y) => (x < y ? -1 : 1)));
  });
});

describe('applying', () => {
  test('FAULT-51 a host that commits position and data together applies once', async () => {
    const store = { applied: 0, seen: [] as number[] };
    let isFailing = false;
    const apply: NonNullable<NodeOptions['apply']> = async (entries, { position }) => {
      await new Promise((resolve) => setImmediate(resolve));
      if (isFailing) throw new Error('the process is dying');
      expect(position).toEqual({ epoch: 1, sequence: entries.at(-1)!.sequence });
      store.seen.push(...entries.map((e) => e.sequence));
      store.applied = position.sequence;
    };
    const replica = { listen: LISTEN, apply, appliedUpTo: () => store.applied, ...LONG_RETRY };
    const b = await start('b', replica);
    const { port } = b.address!;
    const a = await start('a', { replicas: [at('b', port)] });
    const space = await a.openSpace('s');
    for (let n = 0; n < 20; n++) await space.append(1, payload(n), { ack: { replicas: 1 } });
    await until('applied', () => store.applied === 20);
    isFailing = true;
    for (let n = 0; n < 20; n++) await space.append(1, payload(n), { ack: { replicas: 1 } });
    // Flushed, acknowledged, and not applied: it goes on there.
    await b.close();
    expect(store.applied).toBe(20);
    isFailing = false;
    await start('b', { ...replica, listen: { host: '127.0.0.1', port } });
    await until('the rest is applied', () => store.applied === 40);
    expect(store.seen).toEqual(Array.from({ length: 40 }, (_, i) => i + 1));
  });

  test('FAULT-52 a poison entry blocks its space visibly, until somebody skips it', async () => {
    const seen: number[] = [];
    const apply = (entries: Entry[]): void => {
      if (entries.some((e) => e.sequence === 3 && e.payload.length > 0)) throw new Error('poison');
      seen.push(...entries.map((e) => e.sequence));
    };
    const options = { listen: LISTEN, apply, applyRetries: 2 };
    const b = await start('b', options);
    const { port } = b.address!;
    const blocks = heard(b, 'apply-blocked');
    const skips = heard(b, 'entry-skipped');
    const resumed = heard(b, 'apply-resumed');
    const a = await start('a', { replicas: [at('b', port)] });
    const space = await a.openSpace('s');
    for (let n = 1; n <= 5; n++) await space.append(1, payload(n), { ack: { replicas: 1 } });
    await until('it blocks', () => blocks.length > 0);
    expect(blocks[0]).toMatchObject({ space: 's', sequence: 3, reason: 'poison' });
    const replica = b.space('s');
    expect(replica.status()).toMatchObject({ appliedSequence: 2, applyBlocked: { sequence: 3 } });
    // The log goes on being replicated.
    await space.append(1, payload(6), { ack: { replicas: 1 } });
    await expect(replica.skip(4)).rejects.toMatchObject({ code: 'Configuration' });
    await replica.skip(3);
    await until('it goes on', () => replica.status().appliedSequence >= 6);
    expect([seen, skips]).toEqual([[1, 2, 4, 5, 6], [{ space: 's', sequence: 3 }]]);
    expect(resumed).toEqual([{ space: 's', sequence: 3 }]);
    expect(replica.status()).toMatchObject({ applyBlocked: undefined, skipped: [3] });
    // It stays in the log, and stays skipped.
    expect(await contentOf(replica)).toHaveLength(6);
    await b.close();
    seen.length = 0;
    const again = await start('b', {
      ...options,
      appliedUpTo: () => 1,
      listen: { host: '127.0.0.1', port },
    });
    await until('applied again', () => again.space('s').status().appliedSequence >= 6);
    expect(seen).toEqual([2, 4, 5, 6]);
  });
});

describe('membership', () => {
  test('FAULT-55 a removed replica keeps nothing; an added one gets everything', async () => {
    const b = await start('b', { listen: LISTEN });
    const c = await start('c', { listen: LISTEN });
    const renewed = heard(c, 'directory-renewed');
    const replicas = [at('b', b.address!.port)];
    const a = await start('a', { replicas });
    const space = await a.openSpace('s');
    for (let n = 0; n < 10; n++) await space.append(1, payload(n));
    await a.addReplica(at('c', c.address!.port));
    await expect(a.addReplica(at('c', c.address!.port))).rejects.toMatchObject({
      code: 'Configuration',
    });
    await space.append(1, payload(10), { ack: { replicas: 2, timeoutMs: 20_000 } });
    await until('c counts', () => space.status().members?.pending === undefined);
    await space.flushed(space.status().lastSequence, { replicas: 2, timeoutMs: 20_000 });
    expect(await contentOf(c.space('s'))).toEqual(await contentOf(space));
    await b.close();
    await a.removeReplica('b');
    await expect(a.removeReplica('b')).rejects.toMatchObject({ code: 'ReplicaNotFound' });
    expect(space.status().replicas.map((r) => r.replicaId)).toEqual(['c']);
    await expect(space.append(1, payload(11), { ack: { replicas: 2 } })).rejects.toMatchObject({
      // One that is gone does not come back by itself: the space has too few.
      code: 'Configuration',
      details: { replicas: ['c'] },
    });
    // Nothing is kept for the one that is gone.
    for (let n = 0; n < 60; n++) await space.append(1, Buffer.alloc(10_000, n));
    const last = space.status().durableSequence;
    await space.flushed(last, { replicas: 1, timeoutMs: 20_000 });
    await space.checkpoint(last);
    await until('it is freed', () => space.status().firstSequence > 1);
    await a.close();
    const again = await start('a');
    const reopened = again.space('s');
    expect(reopened.status().replicas.map((r) => r.replicaId)).toEqual(['c']);
    await reopened.append(1, payload(12), { ack: { replicas: 1, timeoutMs: 20_000 } });
    // It was introduced anew while it streamed; nobody took that for a directory that went back.
    expect(renewed).toEqual([]);
    await c.close();
  });

  test('FAULT-55 a replica that never comes loses its slot after the idle time', async () => {
    const a = await start('a', { replicas: [at('b', 1)], slotIdleTimeoutMs: 400 });
    const lost = heard(a, 'slot-lost');
    const space = await a.openSpace('s');
    await space.append(1, payload(1));
    await until('it is lost', () => lost.length > 0);
    expect(lost).toEqual([{ space: 's', replicaId: 'b', flushed: 0, why: 'idle' }]);
    expect(space.status().replicas[0]!.slot).toBe('lost');
  });
});

/** A host that fails goes on failing for the whole test. */
const LONG_RETRY = { applyRetries: 1_000 };
