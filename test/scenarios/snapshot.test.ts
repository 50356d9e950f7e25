/** Replicas whose entries are freed get a snapshot: FAULTS rows 54 and 56-60, on real sockets. */
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { Node, NodeEvents, NodeOptions, Space } from '#src/main/index.js';
import { contentOf, makeFolder, openSmall, removeFolder, until } from '../support/cluster.js';
import { TINY } from '../support/fake-cluster.js';
import { StateHost } from '../support/state-host.js';

const LISTEN = { host: '127.0.0.1', port: 0 };
const SIZES = { ...TINY, maxSlotBytes: 64 * 1024, snapshotChunkBytes: 4 * 1024 };

let folder: string;
let open: Node[];

beforeEach(() => {
  folder = makeFolder();
  open = [];
});

afterEach(async () => {
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

function heard<K extends keyof NodeEvents>(node: Node, name: K): NodeEvents[K][] {
  const events: NodeEvents[K][] = [];
  node.on(name, (event) => events.push(event));
  return events;
}

function at(nodeId: string, port: number): { nodeId: string; host: string; port: number } {
  return { nodeId, host: '127.0.0.1', port };
}

let made = 0;
const payload = (): Buffer => Buffer.from(`${++made} `.padEnd(1_500, `${made % 10}`));

async function fill(space: Space, host: StateHost, entries: number): Promise<void> {
  for (let n = 0; n < entries; n++) await host.append(space, payload());
}

/** The host needs nothing of the log any more, and it is gone. */
async function giveUp(node: Node, space: Space): Promise<void> {
  await space.checkpoint(space.status().durableSequence + 1);
  await until('segments are freed', () => node.status().segments <= 2);
}

/** The replica has all that its primary has: the state, and the log from where its own begins. */
async function same(space: Space, on: Node, hosts: [StateHost, StateHost]): Promise<void> {
  const last = space.status().durableSequence;
  await space.flushed(last, { replicas: space.status().replicas.length, timeoutMs: 20_000 });
  const copy = on.space(space.name);
  await until('it is applied', () => copy.status().appliedSequence === last);
  expect(hosts[1].digest(space.name)).toBe(hosts[0].digest(space.name));
  const { firstSequence } = copy.status();
  const from = Math.max(firstSequence, space.status().firstSequence);
  if (from <= last) {
    expect(await contentOf(copy, { from })).toEqual(await contentOf(space, { from }));
  }
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
