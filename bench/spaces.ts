/** What does a call cost among 10, 1,000 and 10,000 spaces; how long is the longest turn? */
import { DataDirs } from './data-dir.js';
import type { Plan } from './plan.js';
import { runAlone } from './processes.js';
import { type Figures, type Result, summarise } from './result.js';

const MiB = 1024 ** 2;
const NODE = { nodeId: 'primary', clusterId: 'bench' };
/** 4,000: for the longest turn. */
const SIZES = [10, 1_000, 4_000, 10_000];
/** A segment holds an entry of each of 10,000 spaces. */
const SEGMENT_BYTES = MiB;
const SEGMENTS = 60;
const SUBSCRIBERS = 200;

async function among(count: number, plan: Plan, dirs: DataDirs): Promise<Figures> {
  const [dataDir] = dirs.prepare(1, 'fresh', 0);
  const sizes = { segmentBytes: SEGMENT_BYTES, groupBytes: MiB / 2, maxEntryBytes: MiB / 4 };
  const node = { ...NODE, ...sizes, dataDir };
  const job = { node, spaces: count, segments: SEGMENTS };
  const found = await runAlone<Record<string, number>>('spaces', job, plan);
  const [emptyDir] = dirs.prepare(1, 'fresh', 0);
  const reads = { kind: 'tenant', spaces: count, bytes: SEGMENTS * MiB, reads: 50 };
  const reader = { node: { ...NODE, ...sizes, dataDir: emptyDir }, ...reads };
  const { p50Ms, bytesPerRead } = await runAlone<Record<string, number>>('readers', reader);
  return { ...found, readUs: 1_000 * p50Ms!, bytesPerRead: bytesPerRead! };
}

async function idle(dirs: DataDirs): Promise<Figures> {
  const [dataDir] = dirs.prepare(1, 'fresh', 0);
  const job = { node: { ...NODE, dataDir }, kind: 'idle', subscribers: SUBSCRIBERS };
  const found = await runAlone<Record<string, number>>('readers', { ...job, bytes: 64 * MiB });
  const { rssMb, heapMb, buffersMb } = found;
  return { rssMb: rssMb!, heapMb: heapMb!, buffersMb: buffersMb! };
}

export async function spaces(plan: Plan): Promise<Result[]> {
  const dirs = new DataDirs();
  const results: Result[] = [];
  const tmpfs = dirs.isTmpfs;
  const labels = { name: 'spaces', payloadBytes: 32, replicas: 0, tmpfs };
  try {
    const medians: Result[] = [];
    for (const count of SIZES) {
      const runs: Figures[] = [];
      for (let run = 1; run <= plan.runs; run++) {
        plan.progress(`spaces: ${count}, run ${run} of ${plan.runs}`);
        runs.push(await among(count, plan, dirs));
      }
      medians.push(summarise({ ...labels, case: `among ${count}`, spaces: count }, runs));
    }
    results.push(...medians);
    results.push(ratios(medians[0]!, medians.at(-1)!, labels));
    const runs: Figures[] = [];
    for (let run = 1; run <= plan.runs; run++) {
      plan.progress(`spaces: ${SUBSCRIBERS} idle subscribers, run ${run} of ${plan.runs}`);
      runs.push(await idle(dirs));
    }
    const what = `${SUBSCRIBERS} idle subscribers`;
    results.push(summarise({ ...labels, payloadBytes: 1_024, case: what, spaces: 1 }, runs));
  } finally {
    dirs.remove();
  }
  return results;
}

/** A call among most spaces against one among fewest. */
function ratios(
  few: Result,
  many: Result,
  labels: Pick<Result, 'name' | 'payloadBytes' | 'replicas' | 'tmpfs'>,
): Result {
  const calls = ['createUs', 'openUs', 'checkpointUs', 'readUs', 'appendUs', 'spaceStatusUs'];
  const found = calls.map((call) => [call, many.more[call]! / few.more[call]!]);
  const what = `${many.spaces} against ${few.spaces}, a call`;
  const runs = [Object.fromEntries(found) as Figures];
  return summarise({ ...labels, case: what, spaces: many.spaces }, runs);
}
