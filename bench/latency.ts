/** At a fixed offered rate: how long until an append is acknowledged, and until it is flushed? */
import { ENTRY_HEADER_BYTES } from '#src/shared/limits.js';
import { DataDirs } from './data-dir.js';
import type { Plan } from './plan.js';
import { runCluster } from './processes.js';
import { withReplicas } from './replicate.js';
import { type Figures, type Result, summarise } from './result.js';

const DEFAULT_SECONDS = 10;
const REPLICAS = 2;
const PAYLOAD_BYTES = 256;
/** The run before the clock starts, see children/latency.mjs. */
const WARM_UP_SECONDS = 2;

export async function latency(plan: Plan): Promise<Result[]> {
  const dirs = new DataDirs();
  const results: Result[] = [];
  const seconds = plan.seconds ?? DEFAULT_SECONDS;
  try {
    for (const regime of plan.regimes) {
      for (const rate of plan.rates) {
        const runs: Figures[] = [];
        for (let run = 1; run <= plan.runs; run++) {
          plan.progress(`latency ${regime}, ${rate}/s offered, run ${run} of ${plan.runs}`);
          const entries = rate * (seconds + WARM_UP_SECONDS);
          const bytes = entries * (ENTRY_HEADER_BYTES + PAYLOAD_BYTES);
          const nodes = dirs.prepare(1 + REPLICAS, regime, bytes);
          const job = { payloadBytes: PAYLOAD_BYTES, rate, seconds };
          const done = await runCluster<Figures>('latency', nodes, job, plan.profileDir);
          runs.push({ offeredPerSecond: rate, ...withReplicas(done) });
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
