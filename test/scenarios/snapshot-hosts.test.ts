/** Snapshots of several replicas, of hosts that fail or supply none, of a replica that is new. */
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { Node, NodeOptions, Space } from '#src/main/index.js';
import { heard, makeFolder, openSmall, removeFolder, until } from '../support/cluster.js';
import { TINY } from '../support/fake-cluster.js';
import { Gate, StateHost } from '../support/state-host.js';

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

function replica(nodeId: string, host: StateHost, more: Partial<NodeOptions> = {}): Promise<Node> {
  const { apply, appliedUpTo, restore } = host;
  return start(nodeId, { listen: LISTEN, apply, appliedUpTo, restore, ...more });
}

function at(nodeId: string, node: Node): { nodeId: string; host: string; port: number } {
  return { nodeId, host: '127.0.0.1', port: node.address!.port };
}

let made = 0;

async function fill(space: Space, host: StateHost, entries: number): Promise<void> {
  for (let n = 0; n < entries; n++) {
    await host.append(space, Buffer.from(`${++made} `.padEnd(1_500, `${made % 10}`)));
  }
}

async function giveUp(node: Node, space: Space): Promise<void> {
  await until('segments are freed', () => {
    // Each one asks for a pass, as each roll does.
    void space.checkpoint(space.status().durableSequence + 1);
    return node.status().segments <= 2;
  });
}

async function applied(space: Space, host: StateHost, copies: [Node, StateHost][]): Promise<void> {
  const last = space.status().durableSequence;
  for (const [node, copy] of copies) {
    const have = (): number => node.space(space.name).status().appliedSequence;
    await until(`${node.nodeId} has all`, () => node.status().spaces.length > 0 && have() >= last);
    expect(copy.digest(space.name)).toBe(host.digest(space.name));
  }
}

describe('several replicas', () => {
  test('FAULT-60 one full sync at a time; who is only behind waits for none', async () => {
    const names = ['b', 'c', 'd'];
    const own = new StateHost();
    const hosts = new Map([...names, 'e'].map((name) => [name, new StateHost()]));
    const gate = new Gate();
    let running = 0;
    let most = 0;
    own.beforePiece = async (n) => {
      if (n === 0) most = Math.max(most, ++running);
      await gate.pass(n);
    };
    const nodes = new Map<string, Node>();
    for (const [name, host] of hosts) nodes.set(name, await replica(name, host));
    const replicas = [...nodes].map(([name, node]) => at(name, node));
    const snapshot: NodeOptions['snapshot'] = async (space) => {
      const { sequence, chunks } = await own.snapshot(space);
      return {
        sequence,
        chunks: (async function* () {
          yield* chunks;
          running--;
        })(),
      };
    };
    const a = await start('a', { replicas, snapshot });
    const space = await a.openSpace('s', { replicas: names });
    const other = await a.openSpace('t', { replicas: ['e'] });
    await fill(space, own, 5);
    await fill(other, own, 5);
    const copies = names.map((name): [Node, StateHost] => [nodes.get(name)!, hosts.get(name)!]);
    await applied(space, own, copies);
    for (const node of nodes.values()) await node.close();
    await fill(space, own, 100);
    await giveUp(a, space);
    await fill(other, own, 5);
    gate.closeAt(0);
    const back = async ({ nodeId, port }: { nodeId: string; port: number }): Promise<Node> => {
      const node = await replica(nodeId, hosts.get(nodeId)!, { listen: { ...LISTEN, port } });
      nodes.set(nodeId, node);
      return node;
    };
    for (const address of replicas.slice(0, 3)) await back(address);
    const phases = (): (string | undefined)[] =>
      space.status().replicas.map((r) => r.snapshot?.phase);
    await until('one is sent, two wait', () => {
      const found = phases().slice(0, 3).sort();
      return found.join() === 'queued,queued,sending';
    });
    expect(own.snapshots).toBe(1);
    // Who is only behind is not queued: it catches up beside them.
    const e = await back(replicas[3]!);
    await applied(other, own, [[e, hosts.get('e')!]]);
    expect(hosts.get('e')!.restores).toBe(0);
    expect(phases().slice(0, 3).sort()).toEqual(['queued', 'queued', 'sending']);
    gate.open();
    const again = names.map((name): [Node, StateHost] => [nodes.get(name)!, hosts.get(name)!]);
    await applied(space, own, again);
    expect(most).toBe(1);
    for (const name of names) expect(hosts.get(name)!.restores).toBe(1);
    expect(own.snapshots).toBeGreaterThanOrEqual(3);
    await until('all stream', () => phases().every((phase) => phase === undefined));
  });

  test('a replica that is added when the first entries are freed gets a snapshot', async () => {
    const own = new StateHost();
    const a = await start('a', { snapshot: own.snapshot });
    const space = await a.openSpace('s');
    await fill(space, own, 60);
    await giveUp(a, space);
    const { durableSequence } = space.status();
    const host = new StateHost();
    const b = await replica('b', host);
    await a.addReplica(at('b', b));
    await fill(space, own, 5);
    await applied(space, own, [[b, host]]);
    expect(host.restores).toBe(1);
    expect(b.space('s').status().firstSequence).toBeGreaterThan(durableSequence);
    // Its log is what follows the snapshot, and holds nothing before.
    await expect(b.space('s').read({ from: 1 }).next()).rejects.toMatchObject({ code: 'Trimmed' });
  });
});

describe('hosts', () => {
  async function late(options: Partial<NodeOptions>, own: StateHost): Promise<[Node, Space]> {
    const a = await start('a', options);
    const space = await a.openSpace('s');
    await fill(space, own, 60);
    await giveUp(a, space);
    return [a, space];
  }

  test('without snapshot() who needs older entries is told so, on both nodes', async () => {
    const own = new StateHost();
    const [a, space] = await late({}, own);
    const told = [heard(a, 'snapshot-failed')];
    const refused = heard(a, 'replica-refused');
    const b = await replica('b', new StateHost());
    told.push(heard(b, 'snapshot-failed'));
    await a.addReplica(at('b', b));
    await until('both know', () => told.every((events) => events.length > 0));
    for (const [event] of told) {
      expect(event).toMatchObject({ space: 's', replicaId: 'b', code: 'SnapshotUnavailable' });
    }
    expect(refused).toMatchObject([{ space: 's', replicaId: 'b', verdict: 'snapshot' }]);
    expect(space.status().replicas[0]).toMatchObject({
      state: 'snapshot-needed',
      status: 'failed',
      snapshot: { phase: 'failed', failure: expect.stringContaining('SnapshotUnavailable') },
    });
    // Nothing else is held up by it.
    const t = await a.openSpace('t');
    await t.append(1, Buffer.from('x'), { ack: { replicas: 1 } });
  });

  test('a log that is whole needs no snapshot(): it is the state', async () => {
    const own = new StateHost();
    const a = await start('a');
    const space = await a.openSpace('s');
    await fill(space, own, 60);
    const host = new StateHost();
    const b = await replica('b', host);
    await a.addReplica(at('b', b));
    await applied(space, own, [[b, host]]);
    expect(host.restores).toBe(0);
  });

  test('a replica without restore() says so', async () => {
    const own = new StateHost();
    const [a, space] = await late({ snapshot: own.snapshot }, own);
    const failed = heard(a, 'snapshot-failed');
    const b = await start('b', { listen: LISTEN });
    await a.addReplica(at('b', b));
    await until('it is told', () => failed.length > 0);
    expect(failed[0]).toMatchObject({ replicaId: 'b', code: 'SnapshotUnavailable' });
    expect(space.status().replicas[0]!.snapshot!.failure).toContain('restore()');
    expect(own.snapshots).toBe(0);
  });

  test('what the hosts throw is told, and tried again until it works', async () => {
    const own = new StateHost();
    let calls = 0;
    const odd: NodeOptions['snapshot'] = (space) => {
      switch (++calls) {
        case 1:
          throw new Error(`not now, ${'ü€'.repeat(200)}`);
        case 2:
          return { sequence: 3, chunks: [] };
        case 3:
          return { sequence: 10_000, chunks: [] };
        case 4:
          return { sequence: 60, chunks: ['text' as unknown as Uint8Array] };
        case 5:
          return undefined as never;
        default:
          return own.snapshot(space);
      }
    };
    const [a, space] = await late({ snapshot: odd }, own);
    const failed = heard(a, 'snapshot-failed');
    const host = new StateHost();
    let restores = 0;
    const restore: NodeOptions['restore'] = async (name, snapshot) => {
      // It may stop anywhere, and gets all of it again.
      if (++restores === 1) throw new Error('no database');
      if (restores === 2) for await (const _ of snapshot.chunks) throw new Error('half of it');
      await host.restore(name, snapshot);
    };
    const b = await replica('b', host, { restore });
    const troubles = heard(b, 'snapshot-failed');
    await a.addReplica(at('b', b));
    await applied(space, own, [[b, host]]);
    expect(calls).toBe(6);
    expect(restores).toBe(3);
    expect(failed.map((e) => e.code)).toEqual(new Array(5).fill('SnapshotFailed'));
    expect(failed[0]!.reason).toContain('not now');
    expect(failed[1]!.reason).toContain('of entry 3');
    expect(failed[2]!.reason).toContain('of entry 10000');
    expect(failed[3]!.reason).toContain('Uint8Array');
    expect(troubles.filter((e) => e.reason.includes('restore() threw'))).toHaveLength(2);
  });

  test('an empty snapshot, and one of a single byte', async () => {
    const own = new StateHost();
    let bytes = 0;
    const [a, space] = await late(
      {
        snapshot: (name) => ({
          sequence: own.sequence(name),
          chunks: [new Uint8Array(0), new Uint8Array(bytes)],
        }),
      },
      own,
    );
    const got: number[] = [];
    const restore: NodeOptions['restore'] = async (_, { chunks }) => {
      let length = 0;
      for await (const chunk of chunks) length += chunk.length;
      got.push(length);
    };
    for (const nodeId of ['b', 'c']) {
      const node = await start(nodeId, { listen: LISTEN, restore });
      await a.addReplica(at(nodeId, node));
      await until('it streams', () =>
        space.status().replicas.every((r) => r.ackedSequence === space.status().durableSequence),
      );
      bytes++;
    }
    expect(got).toEqual([0, 1]);
  });

  test('options are checked', async () => {
    const restore = async (): Promise<void> => undefined;
    await expect(start('x', { restore })).rejects.toMatchObject({ code: 'Configuration' });
    const long = { snapshotChunkBytes: 2 * 1024 * 1024 };
    await expect(start('x', long)).rejects.toMatchObject({ code: 'Configuration' });
    const none = { snapshot: 'yes' as never };
    await expect(start('x', none)).rejects.toMatchObject({ code: 'Configuration' });
  });
});
