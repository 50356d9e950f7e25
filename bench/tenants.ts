/**
 * What do many spaces make of the throughput of one, and in which thread? The same entries, spread
 * over them: two clusters that live beside each other, and each works while the other one rests.
 */
import { DataDirs, logBytes } from './data-dir.js';
import { inTurn } from './in-turn.js';
import type { Plan } from './plan.js';
import { type Cluster, startCluster, type Used, type Watched } from './processes.js';
import { REPLICAS } from './replicate.js';
import { type Figures, type Result, summarise } from './result.js';

const DEFAULT_SECONDS = 4;
const PAYLOAD_BYTES = 256;
const ENTRY_BYTES = 64 + PAYLOAD_BYTES;
/** For all rounds of one node. */
const MAX_BYTES = 1024 ** 3;
const SPACES = [10_000, 100_000];
/** Beyond those that are opened. */
const SPARE_SPACES = 16;
const LEAST_PAIRS = 5;
const NODES = 1 + REPLICAS;

export async function tenants(plan: Plan): Promise<Result[]> {
  const sizes = plan.spaces === undefined ? SPACES : [plan.spaces];
  const dirs = new DataDirs();
  try {
    const results: Result[] = [];
    for (const many of sizes) results.push(...(await against(many, plan, dirs)));
    return results;
  } finally {
    dirs.remove();
  }
}

async function against(many: number, plan: Plan, dirs: DataDirs): Promise<Result[]> {
  const pairs = Math.max(plan.runs, LEAST_PAIRS);
  const maxBytes = plan.maxBytes ?? logBytes(MAX_BYTES, 2 * NODES);
  plan.progress(`tenants, directories of ${2 * NODES} nodes`);
  const nodes = dirs.prepare(2 * NODES, 'warm', maxBytes);
  const clusters: Cluster[] = [];
  const start = async (spaces: number): Promise<[Cluster, Figures]> => {
    plan.progress(`tenants, ${spaces} spaces are made`);
    const { burst, leadBytes, seconds = DEFAULT_SECONDS } = plan;
    // One more for the warming up.
    const mostEntries = Math.floor(maxBytes / ENTRY_BYTES / (pairs + 1));
    const job = { payloadBytes: PAYLOAD_BYTES, mostEntries, burst, leadBytes, seconds, spaces };
    const everywhere = { maxSpaces: many + SPARE_SPACES };
    const cluster = await startCluster(
      'tenants',
      nodes.slice(NODES * clusters.length, NODES * (clusters.length + 1)),
      { ...job, everywhere },
      { ...plan, threads: 'count' },
    );
    clusters.push(cluster);
    return [cluster, (await cluster.next('ready')).figures];
  };
  const round = (cluster: Cluster, spaces: number) => async (n: number) => {
    plan.progress(`tenants, ${spaces} spaces, round ${n} of ${pairs}`);
    const next = cluster.next('round');
    cluster.primary.send({ kind: 'round' });
    const { figures, watched } = await next;
    const used = await cluster.used();
    const entries = figures.entries!;
    const onReplicas = used.map((one) => one.threads!);
    return {
      ...figures,
      ...ofReplicas(used, entries),
      ...ofThreads('primary', [watched!], entries),
      ...ofThreads('replica', onReplicas, entries),
    };
  };
  const end = async (cluster: Cluster, spaces: number): Promise<Figures> => {
    plan.progress(`tenants, ${spaces} spaces are looked at, and opened again`);
    const next = cluster.next('result');
    cluster.primary.send({ kind: 'end' });
    const { lastSequence, ...figures } = (await next).result as Figures;
    for (const { durableSequence } of await cluster.used()) {
      if (durableSequence === lastSequence) continue;
      throw new Error(`a replica ends at ${durableSequence}, the primary at ${lastSequence}`);
    }
    await cluster.end();
    return figures;
  };
  try {
    const [one, madeOne] = await start(1);
    const [other, madeMany] = await start(many);
    const found = await inTurn(pairs, round(one, 1), round(other, many));
    const oneEnd = await end(one, 1);
    const manyEnd = await end(other, many);
    const { isTmpfs: tmpfs } = dirs;
    const labels = { name: 'tenants', payloadBytes: PAYLOAD_BYTES, replicas: REPLICAS, tmpfs };
    const row = (what: string, spaces: number, once: Figures, runs: Figures[]): Result =>
      summarise(
        { ...labels, case: what, spaces },
        runs.map((run) => ({ ...run, ...once })),
      );
    const ratios = found.map(([a, b]) => ({ ...b, ...besides(a, b) }));
    return [
      row(
        `one space, beside ${many}`,
        1,
        { ...madeOne, ...oneEnd },
        found.map(([a]) => a),
      ),
      row(`${many} spaces`, many, { ...madeMany, ...manyEnd }, ratios),
    ];
  } finally {
    for (const cluster of clusters) cluster.kill();
  }
}

/** The mean of all. */
function ofReplicas(all: readonly Used[], entries: number): Figures {
  const mean = (of: (used: Used) => number): number =>
    all.reduce((sum, used) => sum + of(used), 0) / all.length;
  return {
    replicaCpuMicrosPerEntry: (mean((used) => used.cpuSeconds) * 1e6) / entries,
    replicaMaxRssBytes: mean((used) => used.maxRssBytes),
  };
}

/** Processor time by thread, ns an entry; of several nodes the mean. */
function ofThreads(node: string, all: readonly Watched[], entries: number): Figures {
  const names = new Set(all.flatMap(({ threads }) => Object.keys(threads)));
  const ns = (name: string): number =>
    all.reduce((sum, { threads }) => sum + (threads[name]?.cpuNs ?? 0), 0) / all.length / entries;
  return Object.fromEntries([...names].map((name) => [`${node}, ${name}, ns`, ns(name)]));
}

/** Of all nodes together: what is left of the throughput where the processor is what lacks. */
function besides(one: Figures, many: Figures): Figures {
  const cpu = (of: Figures): number =>
    of.primaryCpuMicrosPerEntry! + REPLICAS * of.replicaCpuMicrosPerEntry!;
  return {
    ratioToOne: many.entriesPerSecond! / one.entriesPerSecond!,
    cpuRatioToOne: cpu(one) / cpu(many),
  };
}
