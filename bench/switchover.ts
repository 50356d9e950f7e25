/**
 * For how long does a planned hand-over stop appends? Three nodes, one space under load, handed
 * from one to the next: what the report says, and what the host sees, from the last append that the
 * old primary has acknowledged to the first of the new one.
 */
import net from 'node:net';
import type { Member, Node } from '#src/main/index.js';
import { openNode } from '#src/main/index.js';
import { DataDirs } from './data-dir.js';
import type { Plan } from './plan.js';
import { type Result, summarise } from './result.js';

const MiB = 1024 * 1024;
const IDS = ['a', 'b', 'c'];
const HANDOVERS = 60;
const PAYLOAD = 256;
/** Appends between two hand-overs. */
const BETWEEN_MS = 20;

async function freePort(): Promise<number> {
  const server = net.createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as net.AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}

function quantile(values: readonly number[], q: number): number {
  const sorted = [...values].sort((x, y) => x - y);
  return sorted[Math.min(sorted.length - 1, Math.floor(q * sorted.length))]!;
}

export async function switchover(plan: Plan): Promise<Result[]> {
  const dirs = new DataDirs();
  const nodes = new Map<string, Node>();
  try {
    const members: Member[] = [];
    for (const nodeId of IDS) {
      members.push({ nodeId, host: '127.0.0.1', port: await freePort() });
    }
    const paths = dirs.prepare(IDS.length, 'warm', 64 * MiB);
    for (const [i, { nodeId, host, port }] of members.entries()) {
      const replicas = members.filter((m) => m.nodeId !== nodeId);
      const options = { dataDir: paths[i]!, nodeId, clusterId: 'bench', replicas };
      const listen = { host, port };
      nodes.set(nodeId, await openNode({ ...options, listen, lead: nodeId === 'a' }));
    }
    await nodes.get('a')!.openSpace('s');
    const measured = await handOver(nodes, plan);
    const [told, seen] = [measured.told, measured.seen];
    const figures = {
      entries: measured.appended,
      pauseP50Ms: quantile(told, 0.5),
      pauseP99Ms: quantile(told, 0.99),
      seenP50Ms: quantile(seen, 0.5),
      seenP99Ms: quantile(seen, 0.99),
      handovers: told.length,
    };
    const labels = { name: 'switchover', case: 'planned', payloadBytes: PAYLOAD, replicas: 2 };
    return [summarise({ ...labels, spaces: 1, tmpfs: dirs.isTmpfs }, [figures])];
  } finally {
    for (const node of nodes.values()) await node.close();
    dirs.remove();
  }
}

async function handOver(
  nodes: ReadonlyMap<string, Node>,
  plan: Plan,
): Promise<{ told: number[]; seen: number[]; appended: number }> {
  const told: number[] = [];
  const seen: number[] = [];
  const payload = new Uint8Array(PAYLOAD);
  let leader = 'a';
  let appended = 0;
  let isOver = false;
  let lastMs = performance.now();
  let lastLeader = leader;
  const load = (async () => {
    while (!isOver) {
      const by = leader;
      const done = await nodes
        .get(by)!
        .space('s')
        .append(1, payload)
        .then(
          () => true,
          () => false,
        );
      const now = performance.now();
      if (done) {
        if (by !== lastLeader) seen.push(now - lastMs);
        appended++;
        lastMs = now;
        lastLeader = by;
      } else await new Promise((resolve) => setImmediate(resolve));
    }
  })();
  for (let n = 0; n < HANDOVERS; n++) {
    if (n % 50 === 0) plan.progress(`switchover, ${n} of ${HANDOVERS}`);
    const to = IDS[(IDS.indexOf(leader) + 1) % IDS.length]!;
    const from = nodes.get(leader)!;
    while (!from.status().replicas.some((r) => r.replicaId === to && r.state === 'streaming')) {
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    await new Promise((resolve) => setTimeout(resolve, BETWEEN_MS));
    const { pauseMs } = await from.switchover('s', to);
    leader = to;
    told.push(pauseMs);
  }
  await new Promise((resolve) => setTimeout(resolve, BETWEEN_MS));
  isOver = true;
  await load;
  return { told, seen, appended };
}
