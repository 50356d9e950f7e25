/** How fast is a log read back at opening, and does a restart take longer with a longer log? */
import fs from 'node:fs';
import path from 'node:path';
import { DataDirs, logBytes } from './data-dir.js';
import type { Plan } from './plan.js';
import { runAlone } from './processes.js';
import { type Figures, type Result, summarise } from './result.js';

const GiB = 1024 ** 3;
const PAYLOAD = 256;
const NODE = { nodeId: 'primary', clusterId: 'bench' };

interface Reopened {
  readonly entries: number;
  readonly logBytes: number;
  readonly openMs: number;
  readonly firstAckMs: number;
}

async function fill(dataDir: string, bytes: number, isKilled: boolean): Promise<void> {
  const node = { ...NODE, dataDir };
  await runAlone('fill', { node, payloadBytes: PAYLOAD, bytes, isKilled });
}

function reopen(dataDir: string, plan: Plan): Promise<Reopened> {
  return runAlone<Reopened>('reopen', { node: { ...NODE, dataDir } }, plan);
}

/** MB of log read back a second, with the page cache warm: everything from LSN 0, no state. */
export async function recovery(plan: Plan): Promise<Result[]> {
  const dirs = new DataDirs();
  try {
    const bytes = plan.maxBytes ?? logBytes(GiB, 1);
    const [dataDir] = dirs.prepare(1, 'fresh', bytes);
    plan.progress(`recovery: a log of ${Math.round(bytes / 1024 ** 2)} MiB`);
    await fill(dataDir!, bytes, true);
    const runs: Figures[] = [];
    for (let run = 1; run <= plan.runs; run++) {
      plan.progress(`recovery, run ${run} of ${plan.runs}`);
      for (const name of fs.readdirSync(dataDir!)) {
        const isDerived = name.startsWith('state-') || name.endsWith('.idx');
        if (isDerived) fs.rmSync(path.join(dataDir!, name));
      }
      const found = await reopen(dataDir!, plan);
      const megabytes = found.logBytes / 1e6;
      const seconds = found.openMs / 1_000;
      const { entries } = found;
      const entriesPerSecond = entries / seconds;
      runs.push({ entries, seconds, entriesPerSecond, megabytesPerSecond: megabytes / seconds });
    }
    const labels = { name: 'recovery', case: 'without state', payloadBytes: PAYLOAD };
    return [summarise({ ...labels, replicas: 0, spaces: 1, tmpfs: dirs.isTmpfs }, runs)];
  } finally {
    dirs.remove();
  }
}

/** Opening a short and a long log, after a clean close and after SIGKILL. */
export async function restart(plan: Plan): Promise<Result[]> {
  const dirs = new DataDirs();
  const results: Result[] = [];
  const long = plan.maxBytes ?? 8 * GiB;
  try {
    for (const isKilled of [false, true]) {
      for (const bytes of [long / 8, long]) {
        const runs: Figures[] = [];
        const [dataDir] = dirs.prepare(1, 'fresh', bytes);
        const size = `${(bytes / GiB).toPrecision(2)} GiB`;
        const what = `${size}, ${isKilled ? 'after SIGKILL' : 'after close'}`;
        plan.progress(`restart: a log of ${what}`);
        await fill(dataDir!, bytes, isKilled);
        // After the first opening the log has been closed: a killed one is killed again.
        for (let run = 1; run <= plan.runs; run++) {
          if (isKilled && run > 1) await fill(dataDir!, bytes + run * 1024 ** 2, true);
          const { entries, openMs, firstAckMs } = await reopen(dataDir!, plan);
          runs.push({ entries, seconds: openMs / 1_000, openMs, firstAckMs });
        }
        const labels = { name: 'restart', case: what, payloadBytes: PAYLOAD };
        results.push(summarise({ ...labels, replicas: 0, spaces: 1, tmpfs: dirs.isTmpfs }, runs));
      }
    }
  } finally {
    dirs.remove();
  }
  return results;
}
