/**
 * What does recycling cost? Appends while segments are freed and used again, against appends into
 * spare segments that were prepared before the run; in turn, so that both meet the same machine.
 */
import { DataDirs, logBytes } from './data-dir.js';
import type { Plan } from './plan.js';
import { runAlone } from './processes.js';
import { type Figures, type Result, summarise } from './result.js';

const GiB = 1024 ** 3;
const PAYLOAD = 256;
const DEFAULT_SECONDS = 4;
const MAX_BYTES = 6 * GiB;
/** What the host keeps: it checkpoints what is older. */
const CHECKPOINT_SEGMENTS = 2;
/** Pairs at least: one run of each tells little. */
const LEAST_RUNS = 5;

export async function recycle(plan: Plan): Promise<Result[]> {
  const spareDirs = new DataDirs();
  const recycleDirs = new DataDirs();
  const spares: Figures[] = [];
  const recycled: Figures[] = [];
  const pairs = Math.max(LEAST_RUNS, plan.runs);
  const seconds = plan.seconds ?? DEFAULT_SECONDS;
  const bytes = plan.maxBytes ?? logBytes(MAX_BYTES, 1);
  const measure = (dataDir: string, checkpointSegments: number): Promise<Figures> => {
    const node = { dataDir, nodeId: 'primary', clusterId: 'bench' };
    const { burst } = plan;
    const job = { node, payloadBytes: PAYLOAD, seconds, burst, checkpointSegments };
    return runAlone<Figures>('recycle', job, plan);
  };
  try {
    for (let pair = 1; pair <= pairs; pair++) {
      plan.progress(`recycle, pair ${pair} of ${pairs}`);
      const [spare] = spareDirs.prepare(1, 'warm', bytes);
      spares.push(await measure(spare!, 0));
      const [own] = recycleDirs.prepare(1, 'fresh', bytes);
      recycled.push(await measure(own!, CHECKPOINT_SEGMENTS));
    }
    const ratios = recycled.map((run, i) => ({
      ...run,
      ratioToSpares: run.entriesPerSecond! / spares[i]!.entriesPerSecond!,
    }));
    const labels = { name: 'recycle', payloadBytes: PAYLOAD, replicas: 0, spaces: 1 };
    const { isTmpfs: tmpfs } = spareDirs;
    return [
      summarise({ ...labels, case: 'prepared spares', tmpfs }, spares),
      summarise({ ...labels, case: 'recycling', tmpfs }, ratios),
    ];
  } finally {
    spareDirs.remove();
    recycleDirs.remove();
  }
}
