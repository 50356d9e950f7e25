/** What does watching cost: the lag monitor, counting, scrapes, and appends beside scrapes? */
import { DataDirs } from './data-dir.js';
import type { Plan } from './plan.js';
import { runAlone, runCluster } from './processes.js';
import { type Figures, type Result, summarise } from './result.js';

const SPACES = [1, 100, 1_000];
const REPLICAS = 2;
const TICKS = 2_000;
const PERIOD_MS = 5_000;
const SCRAPES = 25;
const DEFAULT_SECONDS = 3;
/** Five hundred times as often as by default, and never: the difference must show, if any does. */
const OFTEN_MS = 10;
const NEVER_MS = 2 ** 30;

interface Ticks {
  readonly cpuMicrosPerTick: number;
  readonly wallMicrosPerTick: number;
}

export async function lagOverhead(plan: Plan): Promise<Result[]> {
  const dirs = new DataDirs();
  const seconds = plan.seconds ?? DEFAULT_SECONDS;
  const results: Result[] = [];
  try {
    for (const spaces of SPACES) {
      for (const behind of [false, true]) results.push(await ticks(plan, spaces, behind));
    }
    for (const isBurst of [true, false]) {
      results.push(await recording(plan, dirs, seconds, isBurst));
    }
    for (const spaces of SPACES) results.push(await scrapes(plan, dirs, seconds, spaces));
  } finally {
    dirs.remove();
  }
  return results;
}

/** Back to back, in a process that does nothing else. */
async function ticks(plan: Plan, spaces: number, behind: boolean): Promise<Result> {
  const name = `ticks, all ${behind ? 'behind' : 'caught up'}`;
  const runs: Figures[] = [];
  for (let run = 1; run <= plan.runs; run++) {
    plan.progress(`lag-overhead ${name}, ${spaces} spaces, run ${run} of ${plan.runs}`);
    const job = { spaces, replicas: REPLICAS, ticks: TICKS, behind };
    const done = await runAlone<Ticks>('lag-ticks', job, plan);
    const cpuPercent = (100 * done.cpuMicrosPerTick) / (1_000 * PERIOD_MS);
    runs.push({ ...done, cpuPercentOfOneCore: cpuPercent });
  }
  const labels = { name: 'lag-overhead', case: name, payloadBytes: null, tmpfs: null };
  return summarise({ ...labels, replicas: REPLICAS, spaces }, runs);
}

async function recording(
  plan: Plan,
  dirs: DataDirs,
  seconds: number,
  isBurst: boolean,
): Promise<Result> {
  const name = `counting, ${isBurst ? 'appends in bursts' : 'one append at a time'}`;
  const runs: Figures[] = [];
  for (let run = 1; run <= plan.runs; run++) {
    plan.progress(`lag-overhead ${name}, run ${run} of ${plan.runs}`);
    const [dataDir] = dirs.prepare(1, 'fresh', 0);
    const node = { dataDir, nodeId: 'primary', clusterId: 'bench' };
    const job = { node, seconds, isBurst };
    runs.push(await runAlone<Figures>('recording', job, plan));
  }
  const labels = { name: 'lag-overhead', case: name, payloadBytes: 256, tmpfs: dirs.isTmpfs };
  return summarise({ ...labels, replicas: 0, spaces: 1 }, runs);
}

/** A cluster under load: with the monitor as often as it can, and without, in turn. */
async function scrapes(
  plan: Plan,
  dirs: DataDirs,
  seconds: number,
  spaces: number,
): Promise<Result> {
  const runs: Figures[] = [];
  for (let run = 1; run <= plan.runs; run++) {
    plan.progress(`lag-overhead scrapes, ${spaces} spaces, run ${run} of ${plan.runs}`);
    const of = async (lagPollMs: number): Promise<Figures> => {
      const nodes = dirs.prepare(1 + REPLICAS, 'fresh', 0);
      const job = { spaces, scrapes: SCRAPES, seconds, lagPollMs };
      return (await runCluster<Figures>('scrape', nodes, job, plan)).result;
    };
    const often = await of(OFTEN_MS);
    const { cpuMicrosPerEntry, ...figures } = await of(NEVER_MS);
    runs.push({
      ...figures,
      cpuMicrosPerEntryWithoutPolls: cpuMicrosPerEntry!,
      cpuMicrosPerEntryPolling500TimesAsOften: often.cpuMicrosPerEntry!,
    });
  }
  const labels = { name: 'lag-overhead', case: 'scrapes, 5,000 entries/s', payloadBytes: 256 };
  return summarise({ ...labels, replicas: REPLICAS, spaces, tmpfs: dirs.isTmpfs }, runs);
}
