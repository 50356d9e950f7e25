/**
 * Three nodes on hosts of their own with a real etcd: network namespaces whose links are cut, where
 * that is permitted, else loopback with proxies. One cluster for all tests; each leaves it whole.
 */
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { Checker } from '../failover/checker.js';
import { type Ack, Cluster, eventually, type NodeProcess, nowMs } from '../failover/cluster.js';
import { makeFolder, removeFolder } from '../support/cluster.js';

const TTL_MS = 2_000;
const SPACES = ['s0', 's1', 's2', 's3', 's4', 's5'];

let folder: string;
let cluster: Cluster;
let checker: Checker;
/** What was told since the test began. */
let acks: { node: NodeProcess; ack: Ack }[] = [];

beforeAll(async () => {
  folder = makeFolder();
  cluster = await Cluster.start(folder, { ttlMs: TTL_MS });
  checker = new Checker();
  cluster.onAck = (node, ack) => {
    checker.ack(node.nodeId, ack);
    acks.push({ node, ack });
  };
  for (const name of SPACES) await ask(cluster.nodes[0]!, { open: [name] });
  for (const node of cluster.nodes) await ask(node, { open: SPACES });
  for (const node of cluster.nodes) await ask(node, { load: true });
});

beforeEach(async () => {
  await whole();
  acks = [];
});

afterAll(async () => {
  await cluster?.close();
  removeFolder(folder);
});

async function ask(node: NodeProcess, message: Record<string, unknown>) {
  const answer = await node.ask(message);
  if (answer.error) throw new Error(answer.error.message);
  return answer;
}

/** All spaces are led and followed by both others. */
async function whole(): Promise<void> {
  await eventually('the cluster is whole', async () => {
    const all = (await Promise.all(cluster.nodes.map((n) => n.status()))).flat();
    const led = all.filter((s) => s.role === 'primary');
    return (
      cluster.nodes.every((n) => n.hasLease) &&
      led.length === SPACES.length &&
      led.every((s) => s.replicas.length === 2 && s.replicas.every(([, s]) => s === 'streaming'))
    );
  });
}

/** The index of the node that leads most, and what it leads. */
async function busiest(): Promise<{ index: number; spaces: string[]; node: NodeProcess }> {
  const leaders = await cluster.leaders(SPACES);
  const ledBy = (id: string): string[] => SPACES.filter((s) => leaders.get(s) === id);
  const [most] = [...cluster.nodes].sort((x, y) => ledBy(y.nodeId).length - ledBy(x.nodeId).length);
  const spaces = ledBy(most!.nodeId);
  return { index: cluster.nodes.indexOf(most!), spaces, node: most! };
}

/** Every one of these spaces is appended to by another node than this one. */
async function ledElsewhere(spaces: readonly string[], node: NodeProcess): Promise<void> {
  await eventually(`${spaces} are led by others than ${node.nodeId}`, async () => {
    const by = new Map(acks.map((a) => [a.ack[0], a.node]));
    return spaces.every((s) => by.has(s) && by.get(s) !== node);
  });
}

/** Who leads what in which epoch. */
async function epochs(): Promise<string[]> {
  const all = await Promise.all(cluster.nodes.map((n) => n.status()));
  return all.flatMap((spaces, n) =>
    spaces.filter((s) => s.role === 'primary').map((s) => `${s.name} ${s.epoch} ${'abc'[n]}`),
  );
}

/** The last acknowledgement of one node and the first one of another, by space. */
function handOvers(
  spaces: readonly string[],
  from: NodeProcess,
): { last: number; first: number }[] {
  return spaces.map((space) => {
    const of = acks.filter((a) => a.ack[0] === space);
    const last = Math.max(...of.filter((a) => a.node === from).map((a) => a.ack[6]));
    const first = Math.min(...of.filter((a) => a.node !== from).map((a) => a.ack[6]));
    return { last, first };
  });
}

describe('three hosts and an etcd', () => {
  test('spaces are spread; an append elsewhere names who leads and where', async () => {
    const leaders = await cluster.leaders(SPACES);
    for (const node of cluster.nodes) {
      const led = [...leaders.values()].filter((id) => id === node.nodeId);
      expect(led).toHaveLength(2);
    }
    const space = SPACES.find((s) => leaders.get(s) !== 'a')!;
    const { error } = await cluster.nodes[0]!.ask({ append: { space, payload: 'x' } });
    const leader = leaders.get(space)!;
    const index = cluster.nodes.findIndex((n) => n.nodeId === leader);
    const { listen, advertise } = cluster.hosts.nodes[index]!;
    const address = advertise ?? listen;
    expect(error).toMatchObject({
      code: 'NotPrimary',
      details: { primaryNodeId: leader, address },
    });
    const { located } = await ask(cluster.nodes[0]!, { locate: space });
    expect(located).toMatchObject({ nodeId: leader, address });
  });

  test('FAULT-67 cut off, a leader stops in time, another leads, it comes back', async () => {
    const { index, spaces, node } = await busiest();
    const cutMs = nowMs();
    cluster.hosts.cut(index);
    await ledElsewhere(spaces, node);
    cluster.hosts.heal(index);
    await whole();
    for (const { last, first } of handOvers(spaces, node)) {
      // It could know nothing of the other one: its own clock has stopped it.
      expect(last).toBeLessThan(first);
      expect(last).toBeLessThan(cutMs + TTL_MS);
    }
    expect((await cluster.leaders(spaces)).size).toBe(spaces.length);
  });

  test('cut off from etcd alone, a leader is replaced, and nothing is taken back', async () => {
    const { index, spaces, node } = await busiest();
    const before = node.events.filter((e) => e.name === 'rewound').length;
    cluster.hosts.cutEtcd(index);
    await ledElsewhere(spaces, node);
    cluster.hosts.healEtcd(index);
    await whole();
    for (const { last, first } of handOvers(spaces, node)) expect(last).toBeLessThan(first);
    if (cluster.hosts.kind === 'namespaces') {
      // Its replicas had all that it had acknowledged, before one of them led.
      expect(node.events.filter((e) => e.name === 'rewound')).toHaveLength(before);
    }
  });

  test('FAULT-74 stopped beyond its lease, it acknowledges nothing on waking', async () => {
    const { spaces, node } = await busiest();
    node.signal('SIGSTOP');
    await ledElsewhere(spaces, node);
    const wakesMs = nowMs();
    node.signal('SIGCONT');
    await whole();
    const late = acks.filter((a) => a.node === node && a.ack[6] > wakesMs);
    // What it leads since, if anything, it leads in an epoch of its own, which the checker sees.
    const old = late.filter((a) =>
      acks.some((b) => b.node !== node && b.ack[0] === a.ack[0] && b.ack[1] > a.ack[1]),
    );
    expect(old).toEqual([]);
  });

  test('FAULT-84 asleep beyond its lease, it acknowledges nothing on waking', async () => {
    const { index, spaces, node } = await busiest();
    await ask(node, { sleeps: true });
    // It wakes without a network, as laptops do: nobody tells it what has happened.
    node.signal('SIGSTOP');
    cluster.hosts.cut(index);
    await ledElsewhere(spaces, node);
    const wakesMs = nowMs();
    node.signal('SIGCONT');
    await eventually('it has had its time', async () => nowMs() > wakesMs + TTL_MS);
    cluster.hosts.heal(index);
    await whole();
    const late = acks.filter((a) => a.node === node && a.ack[6] > wakesMs);
    const old = late.filter((a) =>
      acks.some((b) => b.node !== node && b.ack[0] === a.ack[0] && b.ack[1] > a.ack[1]),
    );
    expect(old.map((a) => a.ack.slice(0, 3))).toEqual([]);
    // Its clock is the machine's again.
    await node.end('SIGTERM');
    await node.start();
    await ask(node, { load: true });
  });

  test('FAULT-80 SIGTERM: others lead before the lease runs out; all is kept', async () => {
    const { spaces, node } = await busiest();
    const termMs = nowMs();
    await node.end('SIGTERM');
    await ledElsewhere(spaces, node);
    for (const { first } of handOvers(spaces, node)) expect(first - termMs).toBeLessThan(TTL_MS);
    await node.start();
    await ask(node, { load: true });
    await whole();
    // Whatever it had acknowledged others had: nothing was to be taken back.
    const rewound = node.events.filter((e) => e.name === 'rewound' && e.atMs > termMs);
    expect(rewound).toEqual([]);
  });

  test('etcd dies: leaders stop in time; it comes back: all goes on', async () => {
    const before = await epochs();
    const diedMs = nowMs();
    await cluster.etcd.kill();
    await eventually('nobody holds a lease', async () => cluster.nodes.every((n) => !n.hasLease));
    const lastMs = Math.max(...acks.map((a) => a.ack[6]));
    expect(lastMs).toBeLessThan(diedMs + TTL_MS);
    await cluster.etcd.start();
    acks = [];
    await eventually('all are appended to', async () =>
      SPACES.every((s) => acks.some((a) => a.ack[0] === s)),
    );
    await whole();
    // etcd has kept the leases: whoever led leads on.
    expect(await epochs()).toEqual(before);
  });

  test('at the end all nodes hold the same, and nothing that was promised is lost', async () => {
    for (const node of cluster.nodes) await ask(node, { load: false });
    await eventually('all have all', async () => {
      const all = await Promise.all(cluster.nodes.map((n) => n.status()));
      return SPACES.every((name) => {
        const ends = all.map((spaces) => spaces.find((s) => s.name === name)?.durable);
        return ends.every((end) => end === ends[0]);
      });
    });
    const logs = new Map<string, Record<string, string[]>>();
    for (const node of cluster.nodes)
      logs.set(node.nodeId, (await ask(node, { read: true })).spaces!);
    const verdict = checker.judge(logs, (id, payload) => cluster.isKept(id, payload));
    expect(verdict.withReplicas).toBeGreaterThan(100);
  });
});
