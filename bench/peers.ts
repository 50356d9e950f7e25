/**
 * Others that keep a log on three nodes, in one run with ours: the same payloads, machine and
 * number of copies, each at its best settings; each row says what an acknowledgement means.
 */
import { once } from 'node:events';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { DataDirs } from './data-dir.js';
import { etcd } from './peers/etcd.js';
import { hypercore } from './peers/hypercore.js';
import { nats } from './peers/nats.js';
import { ours } from './peers/ours.js';
import type { Peer, Way } from './peers/peer.js';
import { postgres } from './peers/postgres.js';
import { redis } from './peers/redis.js';
import { cpuSecondsOf } from './peers/servers.js';
import type { Plan } from './plan.js';
import { Child } from './processes.js';
import { REPLICAS, replicateRun } from './replicate.js';
import { type Figures, type Result, summarise } from './result.js';

const DEFAULT_SECONDS = 5;
/** Beyond a run, its warming up included: something hangs. */
const LATE_SECONDS = 30;
const PAYLOAD_BYTES = 256;
const PEERS: readonly Peer[] = [ours, postgres, redis, nats, etcd, hypercore];
/** The row that all others are held against: a host that imports the library. */
const IN_PROCESS = 'engram-wal, in process';

interface Row {
  readonly what: string;
  readonly promise: string;
  readonly run: () => Promise<Figures>;
  readonly runs: Figures[];
}

export async function peers(plan: Plan): Promise<Result[]> {
  const dirs = new DataDirs();
  const rows: Row[] = [
    {
      what: IN_PROCESS,
      promise: ours.promise,
      run: () => inProcess(plan, dirs),
      runs: [],
    },
  ];
  for (const peer of PEERS) {
    const version = peer.version();
    if (version === undefined) {
      plan.progress(`MISSING: ${peer.name}; to have it: ${peer.howToHaveIt}`);
      continue;
    }
    for (const way of peer.ways) {
      const name = peer === ours ? peer.name : `${peer.name} ${version}`;
      const what = `${name}, ${way.what}`;
      const isIn = (one: string): boolean => what.toLowerCase().includes(one.toLowerCase());
      if (plan.only && !plan.only.some(isIn)) continue;
      rows.push({ what, promise: peer.promise, run: () => oneRun(plan, peer, way), runs: [] });
    }
  }
  let tmpfs: boolean;
  try {
    // Round by round: whatever drifts hits all of them.
    for (let round = 1; round <= plan.runs; round++) {
      for (const { what, run, runs } of round % 2 === 1 ? rows : [...rows].reverse()) {
        plan.progress(`peers, round ${round} of ${plan.runs}: ${what}`);
        try {
          runs.push(await run());
        } catch (error) {
          // The others are worth their figures; what is missing is said.
          plan.progress(`FAILED: ${what}: ${error instanceof Error ? error.message : error}`);
        }
      }
    }
    tmpfs = dirs.isTmpfs;
  } finally {
    dirs.remove();
  }
  const best = rows[0]!.runs;
  if (best.length < plan.runs)
    throw new Error('a node of ours failed: there is nothing to compare');
  const whole = rows.filter(({ runs }) => runs.length === plan.runs);
  return whole.map(({ what, promise, runs }) => {
    const all = runs.map((run, i) => ({
      ...run,
      oursToThis: best[i]!.entriesPerSecond! / run.entriesPerSecond!,
    }));
    const labels = { name: 'peers', case: what, payloadBytes: PAYLOAD_BYTES, spaces: null };
    const row = summarise({ ...labels, replicas: REPLICAS, tmpfs }, all);
    return { ...row, promise };
  });
}

async function inProcess(plan: Plan, dirs: DataDirs): Promise<Figures> {
  const seconds = plan.seconds ?? DEFAULT_SECONDS;
  const run = await replicateRun({ ...plan, seconds }, dirs, 'ours', 'warm', PAYLOAD_BYTES);
  const { entries, entriesPerSecond, primaryCpuMicrosPerEntry, replicaCpuMicrosPerEntry } = run;
  const cpu = primaryCpuMicrosPerEntry! + REPLICAS * replicaCpuMicrosPerEntry!;
  const figures = { entries: entries!, seconds: run.seconds!, entriesPerSecond: entriesPerSecond! };
  return { ...figures, cpuMicrosPerEntry: cpu };
}

interface Driven extends Figures {
  readonly entries: number;
  readonly clientCpuSeconds: number;
}

/** Its servers on empty folders, its client in a process of its own. */
async function oneRun(plan: Plan, peer: Peer, way: Way): Promise<Figures> {
  const root = fs.mkdtempSync(path.join(os.tmpdir(), 'engram-wal-peers-'));
  const removed = (): void => fs.rmSync(root, { recursive: true, force: true });
  process.once('exit', removed);
  const cluster = await peer.start(root);
  const { what: _, how, ...rest } = way;
  const seconds = plan.seconds ?? DEFAULT_SECONDS;
  const job = { ...rest, client: peer.client, at: { ...cluster.at, how }, seconds };
  const driver = new Child('../peers/driver', { ...job, payloadBytes: PAYLOAD_BYTES }, {});
  try {
    let before = 0;
    driver.onMark(() => {
      before = cpuSecondsOf(cluster.pids);
    });
    const late = AbortSignal.timeout((seconds + LATE_SECONDS) * 1_000);
    const tooLate = once(late, 'abort').then(() => Promise.reject(new Error('it does not end')));
    const { result } = await Promise.race([driver.next('result'), tooLate]);
    const { clientCpuSeconds, ...figures } = result as Driven;
    const servers = cpuSecondsOf(cluster.pids) - before;
    const { entries } = figures;
    return {
      ...figures,
      batch: way.batch,
      inFlight: way.inFlight,
      cpuMicrosPerEntry: ((servers + clientCpuSeconds) * 1e6) / entries,
      clientCpuMicrosPerEntry: (clientCpuSeconds * 1e6) / entries,
    };
  } finally {
    driver.kill();
    await cluster.stop();
    process.off('exit', removed);
    removed();
  }
}
