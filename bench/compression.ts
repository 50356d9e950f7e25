/** What does compression save on the wire, and what does it cost in processor time? */
import { type Compression, compressionProblem } from '#src/shared/wire/compression.js';
import { DataDirs, logBytes } from './data-dir.js';
import type { Plan } from './plan.js';
import { runCluster } from './processes.js';
import { withReplicas } from './replicate.js';
import { type Figures, type Result, summarise } from './result.js';

const DEFAULT_SECONDS = 4;
const REPLICAS = 1;
const PAYLOAD_BYTES = 256;
/** A third of it is written while all warms up. */
const MAX_BYTES = 1.5 * 1024 ** 3;
const KINDS: readonly Compression[] = ['none', 'lz4', 'zstd'];

export async function compression(plan: Plan): Promise<Result[]> {
  const dirs = new DataDirs();
  const runs = new Map<Compression, Figures[]>();
  // zstd only where this Node has it.
  for (const kind of KINDS) if (!compressionProblem(kind)) runs.set(kind, []);
  const maxBytes = plan.maxBytes ?? logBytes(MAX_BYTES, 1 + REPLICAS);
  const { burst, leadBytes } = plan;
  const seconds = plan.seconds ?? DEFAULT_SECONDS;
  const sizes = { payloadBytes: PAYLOAD_BYTES, isText: true, maxBytes };
  try {
    for (let run = 1; run <= plan.runs; run++) {
      for (const [kind, figures] of runs) {
        plan.progress(`compression ${kind}, run ${run} of ${plan.runs}`);
        const nodes = dirs.prepare(1 + REPLICAS, 'warm', maxBytes);
        const job = { ...sizes, burst, leadBytes, seconds, options: { compression: kind } };
        figures.push(withReplicas(await runCluster<Figures>('replicate', nodes, job)));
      }
    }
    const { isTmpfs: tmpfs } = dirs;
    const labels = { name: 'compression', payloadBytes: PAYLOAD_BYTES, spaces: 1, tmpfs };
    return [...runs].map(([kind, figures]) =>
      summarise({ ...labels, case: kind, replicas: REPLICAS }, figures),
    );
  } finally {
    dirs.remove();
  }
}
