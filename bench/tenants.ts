/** What do many spaces make of the throughput of one? The same entries, spread over them. */
import { DataDirs, logBytes } from './data-dir.js';
import { inTurn } from './in-turn.js';
import type { Plan } from './plan.js';
import { runCluster } from './processes.js';
import { REPLICAS, withReplicas } from './replicate.js';
import { type Figures, type Result, summarise } from './result.js';

const DEFAULT_SECONDS = 5;
const PAYLOAD_BYTES = 256;
const MAX_BYTES = 2 * 1024 ** 3;
const SPACES = [10_000, 100_000];
/** Beyond those that are opened. */
const SPARE_SPACES = 16;
const LEAST_PAIRS = 5;

export async function tenants(plan: Plan): Promise<Result[]> {
  const sizes = plan.spaces === undefined ? SPACES : [plan.spaces];
  const results: Result[] = [];
  for (const many of sizes) results.push(...(await against(many, plan)));
  return results;
}

async function against(many: number, plan: Plan): Promise<Result[]> {
  const dirs = new DataDirs();
  const pairs = Math.max(plan.runs, LEAST_PAIRS);
  const maxBytes = plan.maxBytes ?? logBytes(MAX_BYTES, 1 + REPLICAS);
  const run = (spaces: number) => async (n: number) => {
    plan.progress(`tenants, ${spaces} spaces, pair ${n} of ${pairs}`);
    const nodes = dirs.prepare(1 + REPLICAS, 'warm', maxBytes);
    const { burst, leadBytes } = plan;
    const seconds = plan.seconds ?? DEFAULT_SECONDS;
    const sizes = { payloadBytes: PAYLOAD_BYTES, maxBytes, burst, leadBytes, seconds, spaces };
    const job = { ...sizes, everywhere: { maxSpaces: many + SPARE_SPACES } };
    return withReplicas(await runCluster<Figures>('tenants', nodes, job, plan));
  };
  try {
    const found = await inTurn(pairs, run(1), run(many));
    const { isTmpfs: tmpfs } = dirs;
    const labels = { name: 'tenants', payloadBytes: PAYLOAD_BYTES, replicas: REPLICAS, tmpfs };
    const row = (what: string, spaces: number, runs: Figures[]): Result =>
      summarise({ ...labels, case: what, spaces }, runs);
    return [
      row(
        `one space, beside ${many}`,
        1,
        found.map(([one]) => one),
      ),
      row(
        `${many} spaces`,
        many,
        found.map(([one, other]) => ({
          ...other,
          ratioToOne: other.entriesPerSecond! / one.entriesPerSecond!,
        })),
      ),
    ];
  } finally {
    dirs.remove();
  }
}
