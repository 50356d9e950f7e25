/**
 * How many entries a second are flushed on each of two replicas, all nodes on this machine? In turn
 * with the bare pipeline (children/bare), which says how much of it is the machine's own.
 */
import { DataDirs, logBytes, type Regime } from './data-dir.js';
import { inTurn } from './in-turn.js';
import type { Plan } from './plan.js';
import { type ClusterRun, runCluster, type Used } from './processes.js';
import { type Figures, type Result, summarise } from './result.js';

const DEFAULT_SECONDS = 6;
export const REPLICAS = 2;
/** A third of it is written while all warms up (children/drive.mjs). */
const MAX_BYTES = 3 * 1024 ** 3;

/** What is measured: a node of ours, or the bare pipeline. */
export type Measured = 'ours' | 'bare';

export async function replicate(plan: Plan): Promise<Result[]> {
  const dirs = new DataDirs();
  const results: Result[] = [];
  try {
    for (const regime of plan.regimes) {
      for (const payloadBytes of plan.payloads) {
        const run = (which: Measured) => (n: number) => {
          plan.progress(
            `replicate ${regime}, ${payloadBytes} B, ${which}, run ${n} of ${plan.runs}`,
          );
          return replicateRun(plan, dirs, which, regime, payloadBytes);
        };
        const runs: Figures[] = [];
        // The bare pipeline writes into what is there: it has no files of its own to make.
        if (plan.alone || regime !== 'warm') {
          for (let n = 1; n <= plan.runs; n++) runs.push(await run('ours')(n));
        } else {
          const pairs = await inTurn(plan.runs, run('ours'), run('bare'));
          runs.push(...pairs.map(([ours, bare]) => ({ ...ours, ...besideCeiling(ours, bare) })));
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

function besideCeiling(ours: Figures, bare: Figures): Figures {
  return {
    ceilingPerSecond: bare.entriesPerSecond!,
    ceilingPrimaryCpuMicrosPerEntry: bare.primaryCpuMicrosPerEntry!,
    ceilingReplicaCpuMicrosPerEntry: bare.replicaCpuMicrosPerEntry!,
    ratioToCeiling: ours.entriesPerSecond! / bare.entriesPerSecond!,
  };
}

/** One run at full rate. */
export async function replicateRun(
  plan: Plan,
  dirs: DataDirs,
  which: Measured,
  regime: Regime,
  payloadBytes: number,
): Promise<Figures> {
  const { burst, leadBytes } = plan;
  const seconds = plan.seconds ?? DEFAULT_SECONDS;
  const maxBytes = plan.maxBytes ?? logBytes(MAX_BYTES, 1 + REPLICAS);
  const nodes = dirs.prepare(1 + REPLICAS, regime, maxBytes);
  const job = { payloadBytes, maxBytes, burst, leadBytes, seconds };
  const file = which === 'ours' ? 'replicate' : 'bare/primary';
  return withReplicas(await runCluster<Figures>(file, nodes, job, plan));
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
