/** How many entries a second become durable on one node, and how long does an append wait? */
import { DataDirs, logBytes } from './data-dir.js';
import type { Plan } from './plan.js';
import { runAlone } from './processes.js';
import { type Figures, type Result, summarise } from './result.js';

const DEFAULT_SECONDS = 5;
/** Concurrent callers of the part that measures acks. */
const CALLERS = 128;
/** Two thirds for the part that measures throughput, one for acks. */
const MAX_BYTES = 6 * 1024 ** 3;

export async function append(plan: Plan): Promise<Result[]> {
  const dirs = new DataDirs();
  const results: Result[] = [];
  const maxBytes = plan.maxBytes ?? logBytes(MAX_BYTES, 1);
  try {
    for (const regime of plan.regimes) {
      for (const payloadBytes of plan.payloads) {
        const runs: Figures[] = [];
        for (let run = 1; run <= plan.runs; run++) {
          plan.progress(`append ${regime}, ${payloadBytes} B, run ${run} of ${plan.runs}`);
          const [dataDir] = dirs.prepare(1, regime, maxBytes);
          const { burst } = plan;
          const seconds = plan.seconds ?? DEFAULT_SECONDS;
          const node = { dataDir, nodeId: 'primary', clusterId: 'bench' };
          const job = { node, payloadBytes, maxBytes, burst, seconds, callers: CALLERS };
          runs.push(await runAlone<Figures>('append', job, plan));
        }
        const labels = { name: 'append', case: regime, payloadBytes, replicas: 0, spaces: 1 };
        results.push(summarise({ ...labels, tmpfs: dirs.isTmpfs }, runs));
      }
    }
  } finally {
    dirs.remove();
  }
  return results;
}
