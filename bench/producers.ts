/** What threads of the host that append by themselves bring: 1 and 2 of them, against main. */
import { DataDirs, logBytes } from './data-dir.js';
import type { Plan } from './plan.js';
import { runAlone } from './processes.js';
import { type Figures, type Result, summarise } from './result.js';

const DEFAULT_SECONDS = 3;
const PAYLOAD_BYTES = 256;
const MAX_BYTES = 3 * 1024 ** 3;

interface Ran extends Record<string, number | null> {
  readonly entriesPerSecond: number;
  readonly mainMicrosPerEntry: number;
}

export async function producers(plan: Plan): Promise<Result[]> {
  const dirs = new DataDirs();
  const results: Result[] = [];
  const maxBytes = plan.maxBytes ?? logBytes(MAX_BYTES, 1);
  try {
    for (const how of ['append', 'tryAppend']) {
      const runs: Figures[][] = [[], [], []];
      for (let run = 1; run <= plan.runs; run++) {
        const found: Ran[] = [];
        // One behind the other in each run: whatever drifts meanwhile hits all.
        for (const threads of [0, 1, 2]) {
          plan.progress(`producers ${how}, ${threads} threads, run ${run} of ${plan.runs}`);
          const [dataDir] = dirs.prepare(1, 'warm', maxBytes);
          const node = { dataDir, nodeId: 'primary', clusterId: 'bench' };
          const seconds = plan.seconds ?? DEFAULT_SECONDS;
          const job = { node, how, threads, seconds, maxBytes, payloadBytes: PAYLOAD_BYTES };
          const ran = await runAlone<Ran>('producers', job, plan);
          found.push(ran);
          const [main, one] = found;
          runs[threads]!.push({
            ...ran,
            ofMain: ran.entriesPerSecond / main!.entriesPerSecond,
            ofOne: one ? ran.entriesPerSecond / one.entriesPerSecond : null,
            mainTimeOfMain: ran.mainMicrosPerEntry / main!.mainMicrosPerEntry,
          });
        }
      }
      for (const [threads, of] of runs.entries()) {
        const from = ['main', '1 producer', '2 producers'][threads]!;
        const labels = { name: 'producers', case: `${how}, ${from}`, payloadBytes: PAYLOAD_BYTES };
        const more = { replicas: 0, spaces: 1, tmpfs: dirs.isTmpfs };
        results.push(summarise({ ...labels, ...more }, of));
      }
    }
  } finally {
    dirs.remove();
  }
  return results;
}
