/**
 * At a fixed offered rate: how long until an append is acknowledged, and until it is flushed? In
 * turn with the bare pipeline (children/bare) at the same rate.
 */
import { ENTRY_HEADER_BYTES } from '#src/shared/limits.js';
import { DataDirs, type Regime } from './data-dir.js';
import { inTurn } from './in-turn.js';
import type { Plan } from './plan.js';
import { runCluster } from './processes.js';
import { type Measured, REPLICAS, withReplicas } from './replicate.js';
import { type Figures, type Result, summarise } from './result.js';

const DEFAULT_SECONDS = 10;
export const PAYLOAD_BYTES = 256;
/** The run before the clock starts, see children/drive.mjs. */
const WARM_UP_SECONDS = 6;

export async function latency(plan: Plan): Promise<Result[]> {
  const dirs = new DataDirs();
  const results: Result[] = [];
  try {
    for (const regime of plan.regimes) {
      for (const rate of plan.rates) {
        const run = (which: Measured) => (n: number) => {
          plan.progress(`latency ${regime}, ${rate}/s, ${which}, run ${n} of ${plan.runs}`);
          return latencyRun(plan, dirs, which, regime, rate);
        };
        const runs: Figures[] = [];
        if (plan.alone || regime !== 'warm') {
          for (let n = 1; n <= plan.runs; n++) runs.push(await run('ours')(n));
        } else {
          const pairs = await inTurn(plan.runs, run('ours'), run('bare'));
          runs.push(...pairs.map(([ours, bare]) => ({ ...ours, ...besideCeiling(ours, bare) })));
        }
        const labels = { name: 'latency', case: `${regime}, ${rate}/s offered`, spaces: 1 };
        const { isTmpfs: tmpfs } = dirs;
        const measures = { payloadBytes: PAYLOAD_BYTES, replicas: REPLICAS, tmpfs };
        results.push(summarise({ ...labels, ...measures }, runs));
      }
    }
  } finally {
    dirs.remove();
  }
  return results;
}

/** Above 1: ours takes longer, or more. */
function besideCeiling(ours: Figures, bare: Figures): Figures {
  const ratio = (key: string): number => ours[key]! / bare[key]!;
  return {
    ceilingAppendP50Ms: bare.appendP50Ms!,
    ceilingAppendP99Ms: bare.appendP99Ms!,
    ceilingLagP99Ms: bare.lagP99Ms!,
    ceilingPrimaryCpuMicrosPerEntry: bare.primaryCpuMicrosPerEntry!,
    ceilingReplicaCpuMicrosPerEntry: bare.replicaCpuMicrosPerEntry!,
    appendP50ToCeiling: ratio('appendP50Ms'),
    appendP99ToCeiling: ratio('appendP99Ms'),
    primaryCpuToCeiling: ratio('primaryCpuMicrosPerEntry'),
    replicaCpuToCeiling: ratio('replicaCpuMicrosPerEntry'),
  };
}

/** One run at so many entries a second. */
export async function latencyRun(
  plan: Plan,
  dirs: DataDirs,
  which: Measured,
  regime: Regime,
  rate: number,
): Promise<Figures> {
  const seconds = plan.seconds ?? DEFAULT_SECONDS;
  const bytes = rate * (seconds + WARM_UP_SECONDS) * (ENTRY_HEADER_BYTES + PAYLOAD_BYTES);
  const nodes = dirs.prepare(1 + REPLICAS, regime, bytes);
  const job = { payloadBytes: PAYLOAD_BYTES, rate, seconds };
  const file = which === 'ours' ? 'latency' : 'bare/primary';
  const done = await runCluster<Figures>(file, nodes, job, plan);
  return { offeredPerSecond: rate, ...withReplicas(done) };
}
