/** How many entries a second are flushed on each of two replicas, all nodes on this machine? */
import { DataDirs, logBytes } from './data-dir.js';
import type { Plan } from './plan.js';
import { type ClusterRun, runCluster, type Used } from './processes.js';
import { type Figures, type Result, summarise } from './result.js';

const DEFAULT_SECONDS = 6;
const REPLICAS = 2;
const MAX_BYTES = 2 * 1024 ** 3;

export async function replicate(plan: Plan): Promise<Result[]> {
  const dirs = new DataDirs();
  const results: Result[] = [];
  const maxBytes = plan.maxBytes ?? logBytes(MAX_BYTES, 1 + REPLICAS);
  try {
    for (const regime of plan.regimes) {
      for (const payloadBytes of plan.payloads) {
        const runs: Figures[] = [];
        for (let run = 1; run <= plan.runs; run++) {
          plan.progress(`replicate ${regime}, ${payloadBytes} B, run ${run} of ${plan.runs}`);
          const { burst, leadBytes } = plan;
          const seconds = plan.seconds ?? DEFAULT_SECONDS;
          const nodes = dirs.prepare(1 + REPLICAS, regime, maxBytes);
          const job = { payloadBytes, maxBytes, burst, leadBytes, seconds };
          const done = await runCluster<Figures>('replicate', nodes, job, plan.profileDir);
          runs.push(withReplicas(done));
        }
        const labels = { name: 'replicate', case: regime, payloadBytes, spaces: 1 };
        const { isTmpfs: tmpfs } = dirs;
        results.push(summarise({ ...labels, replicas: REPLICAS, tmpfs }, runs));
      }
    }
  } finally {
    dirs.remove();
  }
  return results;
}

/** Adds what a replica has used, the mean of all. Throws where one lacks what it has acked. */
export function withReplicas({ result, replicas }: ClusterRun<Figures>): Figures {
  const { lastSequence, ...figures } = result;
  for (const { durableSequence } of replicas) {
    if (durableSequence === lastSequence) continue;
    throw new Error(`a replica ends at ${durableSequence}, the primary at ${lastSequence}`);
  }
  const mean = (of: (used: Used) => number): number =>
    replicas.reduce((sum, used) => sum + of(used), 0) / replicas.length;
  return {
    ...figures,
    replicaCpuMicrosPerEntry: (mean((used) => used.cpuSeconds) * 1e6) / result.entries!,
    replicaSystemMicrosPerEntry: (mean((used) => used.systemSeconds) * 1e6) / result.entries!,
    replicaMaxRssBytes: mean((used) => used.maxRssBytes),
  };
}
