/**
 * What could this machine do? The bare pipeline (children/bare): the same fdatasyncs, sockets,
 * sums, group sizes, threads and processes as ours, and nothing else; at full rate and at offered
 * rates.
 */
import { DataDirs } from './data-dir.js';
import { latencyRun, PAYLOAD_BYTES } from './latency.js';
import type { Plan } from './plan.js';
import { REPLICAS, replicateRun } from './replicate.js';
import { type Figures, type Result, summarise } from './result.js';

export async function ceiling(plan: Plan): Promise<Result[]> {
  const dirs = new DataDirs();
  const results: Result[] = [];
  const measure = async (what: string, payloadBytes: number, run: () => Promise<Figures>) => {
    const runs: Figures[] = [];
    for (let n = 1; n <= plan.runs; n++) {
      plan.progress(`ceiling, ${what}, ${payloadBytes} B, run ${n} of ${plan.runs}`);
      runs.push(await run());
    }
    const labels = { name: 'ceiling', case: what, payloadBytes, replicas: REPLICAS, spaces: 1 };
    results.push(summarise({ ...labels, tmpfs: dirs.isTmpfs }, runs));
  };
  try {
    for (const bytes of plan.payloads) {
      await measure('warm', bytes, () => replicateRun(plan, dirs, 'bare', 'warm', bytes));
    }
    for (const rate of plan.rates) {
      await measure(`warm, ${rate}/s offered`, PAYLOAD_BYTES, () =>
        latencyRun(plan, dirs, 'bare', 'warm', rate),
      );
    }
  } finally {
    dirs.remove();
  }
  return results;
}
