/**
 * Where do the nanoseconds of an entry and the microseconds of a commit go? By thread and stage, on
 * the primary and a replica, at full rate (beside the bare pipeline) and at offered rates:
 * processor time, sleeps, system calls, copies, the steps of a commit, the memory of one more
 * replica's stream.
 */
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { DataDirs, logBytes } from './data-dir.js';
import type { Plan } from './plan.js';
import { type ClusterRun, runCluster, type Started, type Used, type Watched } from './processes.js';
import { type Measured, REPLICAS } from './replicate.js';
import { type Figures, type Result, summarise } from './result.js';
import { handedMicros, type Sample, STEPS, stepsOf } from './where/commit.js';
import { type Profile, sharesOf } from './where/stages.js';

const DEFAULT_SECONDS = 4;
const PAYLOAD_BYTES = 256;
/** A third of it is written while all warms up (children/drive.mjs). */
const MAX_BYTES = 3 * 1024 ** 3;
/** For the warming up, and for what is written so that threads come by. */
const MORE_SECONDS = 10;
const STREAM_RATE = 50_000;
const STREAM_PAIRS = 3;
/** Less is not told: of a thread's stages, of a process's system calls. */
const LEAST_SHARE = 0.01;
const LEAST_CALLS_PER_COMMIT = 0.05;

interface Ran {
  readonly entries: number;
  readonly samples: readonly Sample[];
  readonly rssMib?: number;
  readonly watched: Watched;
  readonly pid: number;
}

const NODES = ['primary', 'replica'] as const;

/** What a run is of, but for the usual. */
interface How {
  readonly payloadBytes?: number;
  readonly replicas?: number;
  readonly which?: Measured;
  readonly isProfiled?: boolean;
  readonly settleMs?: number;
}

/** Full rate, or so many entries a second. */
type Load = number | undefined;

const nameOf = (load: Load): string => (load === undefined ? 'full rate' : `${load}/s`);

export async function where(plan: Plan): Promise<Result[]> {
  const bench = new Where(plan);
  try {
    for (const bytes of plan.payloads) {
      await bench.threads(undefined, bytes);
      if (!plan.alone) await bench.bare(bytes);
    }
    for (const rate of plan.rates.toReversed()) {
      await bench.threads(rate);
      if (!plan.alone) await bench.bare(PAYLOAD_BYTES, rate);
      await bench.commit(rate);
    }
    await bench.systemCalls(plan.rates[0]!);
    await bench.streams();
    return bench.results;
  } finally {
    bench.end();
  }
}

class Where {
  readonly #plan: Plan;
  readonly #dirs = new DataDirs();
  readonly #files = fs.mkdtempSync(path.join(os.tmpdir(), 'engram-wal-where-'));
  readonly results: Result[] = [];

  constructor(plan: Plan) {
    this.#plan = plan;
  }

  end(): void {
    this.#dirs.remove();
    fs.rmSync(this.#files, { recursive: true, force: true });
  }

  async #run(load: Load, started: Started, how: How = {}) {
    const { payloadBytes = PAYLOAD_BYTES, replicas = REPLICAS, which = 'ours', ...more } = how;
    const { burst, leadBytes } = this.#plan;
    const seconds = this.#plan.seconds ?? DEFAULT_SECONDS;
    const most = this.#plan.maxBytes ?? logBytes(MAX_BYTES, 1 + REPLICAS);
    const offered = (load ?? 0) * (seconds + MORE_SECONDS) * (payloadBytes + 64);
    const maxBytes = load === undefined ? most : offered;
    const nodes = this.#dirs.prepare(1 + replicas, 'warm', maxBytes);
    const sizes = { payloadBytes, maxBytes, burst, leadBytes, seconds };
    const job = { ...sizes, ...(load === undefined ? {} : { rate: load }), settleMs: 50, ...more };
    const file = which === 'ours' ? 'where' : 'bare/primary';
    return await runCluster<Ran>(file, nodes, job, { ...started, threadProfiles: this.#files });
  }

  #add(what: string, runs: readonly Figures[], payloadBytes = PAYLOAD_BYTES): void {
    const labels = { name: 'where', case: what, payloadBytes, replicas: REPLICAS, spaces: 1 };
    this.results.push(summarise({ ...labels, tmpfs: this.#dirs.isTmpfs }, runs));
  }

  /** Runs that count, of one kind. */
  async #counted(load: Load, how: How): Promise<ClusterRun<Ran>[]> {
    const { runs, progress } = this.#plan;
    const counted: ClusterRun<Ran>[] = [];
    for (let n = 1; n <= runs; n++) {
      const what = `${how.which ?? 'ours'}, ${how.payloadBytes} B`;
      progress(`where, ${nameOf(load)}, threads, ${what}, run ${n} of ${runs}`);
      counted.push(await this.#run(load, { threads: 'count' }, how));
    }
    return counted;
  }

  /** The processor time of each thread of the bare pipeline. */
  async bare(payloadBytes: number, load?: number): Promise<void> {
    const counted = await this.#counted(load, { payloadBytes, which: 'bare' });
    for (const node of NODES) {
      for (const thread of Object.keys(watchedOn(counted[0]!, node).threads)) {
        const figures = counted.map((run) =>
          perThread(watchedOn(run, node), thread, run.result.entries),
        );
        this.#add(`${nameOf(load)}, bare ${node}, ${thread}`, figures, payloadBytes);
      }
    }
  }

  /** Processor time by thread, out of the kernel's counters; its stages, out of profiles. */
  async threads(load: Load, payloadBytes = PAYLOAD_BYTES): Promise<void> {
    const counted = await this.#counted(load, { payloadBytes });
    this.#plan.progress(`where, ${nameOf(load)}, profiles, ${payloadBytes} B`);
    const how = { payloadBytes, isProfiled: true };
    const profiled = await this.#run(load, { threads: 'profile' }, how);
    for (const node of NODES) {
      const of = (run: ClusterRun<Ran>): Watched => watchedOn(run, node);
      const shares = this.#shares(of(profiled), node);
      for (const thread of Object.keys(of(counted[0]!).threads)) {
        const figures = counted.map((run) => perThread(of(run), thread, run.result.entries));
        this.#add(`${nameOf(load)}, ${node}, ${thread}`, figures, payloadBytes);
        const { cpuNsPerEntry, cpuUsPerCommit } = this.results.at(-1)!.more;
        for (const [stage, share] of shares.get(thread) ?? []) {
          if (share < LEAST_SHARE) continue;
          const part = {
            cpuNsPerEntry: cpuNsPerEntry! * share,
            cpuUsPerCommit: cpuUsPerCommit! * share,
            share,
          };
          this.#add(`${nameOf(load)}, ${node}, ${thread}: ${stage}`, [part], payloadBytes);
        }
      }
    }
  }

  /** By thread; of two of one name the mean. The primary is who has shippers. */
  #shares(watched: Watched, node: 'primary' | 'replica'): Map<string, [string, number][]> {
    const files = fs.readdirSync(this.#files).filter((file) => file.endsWith('.json'));
    const isPrimary = (pid: string): boolean =>
      files.some((file) => file.startsWith(`${pid}-shipper`));
    const found = new Map<string, Map<string, number>[]>();
    for (const file of files) {
      const pid = file.slice(0, file.indexOf('-'));
      if (isPrimary(pid) !== (node === 'primary')) continue;
      const text = fs.readFileSync(path.join(this.#files, file), 'utf8');
      const profile = JSON.parse(text) as Profile;
      const shares = sharesOf(profile, watched.fromMs, watched.toMs);
      found.set(profile.thread, [...(found.get(profile.thread) ?? []), shares]);
    }
    if (node === 'replica') for (const file of files) fs.rmSync(path.join(this.#files, file));
    return new Map([...found].map(([thread, all]) => [thread, meanShares(all)]));
  }

  /** What a commit waits for, step by step; copies on the way. */
  async commit(load: number): Promise<void> {
    const { runs, progress } = this.#plan;
    const traced: ClusterRun<Ran>[] = [];
    for (let n = 1; n <= runs; n++) {
      progress(`where, ${nameOf(load)}, steps of a commit, run ${n} of ${runs}`);
      traced.push(await this.#run(load, { threads: 'trace' }));
    }
    const steps = traced.map(({ result, replicas }) =>
      stepsOf(result.samples, result.watched, watchedOf(replicas)),
    );
    for (const step of STEPS) {
      const figures = steps.map((found) => percentiles(found.get(step)!));
      this.#add(`${nameOf(load)}, commit: ${step}`, figures);
    }
    const handed = traced.map(({ result }) => percentiles(handedMicros(result.watched, REPLICAS)));
    this.#add(`${nameOf(load)}, each batch: durable to socket`, handed);
    const copies = traced.map(({ result, replicas }) => ({
      ...copiesOf(result.watched, 'primary', result.entries),
      ...copiesOf(replicas[0]!.threads!, 'replica', result.entries),
    }));
    this.#add(`${nameOf(load)}, copies`, copies);
  }

  /** By name, of whole processes; what tracing costs makes commits fewer and larger. */
  async systemCalls(load: number): Promise<void> {
    if (spawnSync('strace', ['-V']).status !== 0) {
      this.#plan.progress('MISSING: strace; to have it: apt-get install strace');
      return;
    }
    this.#plan.progress(`where, ${nameOf(load)}, system calls`);
    const run = await this.#run(load, { threads: 'strace' }, { settleMs: 1_000 });
    const nodes = { primary: run.result.watched, replica: run.replicas[0]!.threads! };
    for (const [node, { calls, syncs }] of Object.entries(nodes)) {
      const often = Object.entries(calls)
        .map(([name, count]) => [name, count / syncs] as const)
        .filter(([, perCommit]) => perCommit >= LEAST_CALLS_PER_COMMIT);
      if (often.length === 0) continue;
      const figures = { commits: syncs, ...Object.fromEntries(often) };
      this.#add(`${nameOf(load)}, ${node}: system calls a commit, by strace`, [figures]);
    }
  }

  /** Resident memory of a primary with one replica and with two, in turn. */
  async streams(): Promise<void> {
    const runs: Figures[] = [];
    for (let pair = 1; pair <= Math.max(this.#plan.runs, STREAM_PAIRS); pair++) {
      this.#plan.progress(`where, memory of one more stream, pair ${pair}`);
      const one = await this.#run(STREAM_RATE, {}, { replicas: 1 });
      const two = await this.#run(STREAM_RATE, {}, { replicas: 2 });
      const [withOne, withTwo] = [one.result.rssMib!, two.result.rssMib!];
      runs.push({ withOneMib: withOne, withTwoMib: withTwo, oneMoreMib: withTwo - withOne });
    }
    this.#add(`${nameOf(STREAM_RATE)}, memory of one more replica's stream`, runs);
  }
}

function watchedOn({ result, replicas }: ClusterRun<Ran>, node: (typeof NODES)[number]): Watched {
  return node === 'primary' ? result.watched : replicas[0]!.threads!;
}

function watchedOf(replicas: readonly Used[]): Watched[] {
  return replicas.map(({ threads }) => threads!);
}

/** Threads of one name together: two shippers are told as their sum. */
function perThread({ threads, syncs }: Watched, thread: string, entries: number): Figures {
  const { cpuNs, sleeps, pushedOut, reads, writes } = threads[thread] ?? {};
  return {
    cpuNsPerEntry: (cpuNs ?? 0) / entries,
    cpuUsPerCommit: (cpuNs ?? 0) / 1e3 / syncs,
    sleepsPerCommit: (sleeps ?? 0) / syncs,
    pushedOutPerCommit: (pushedOut ?? 0) / syncs,
    readCallsPerCommit: (reads ?? 0) / syncs,
    writeCallsPerCommit: (writes ?? 0) / syncs,
    entriesPerCommit: entries / syncs,
  };
}

function copiesOf({ threads, syncs }: Watched, node: string, entries: number): Figures {
  const found: Record<string, number> = {};
  for (const [thread, { copies, copiedBytes }] of Object.entries(threads)) {
    if (!copies) continue;
    found[`${node} ${thread}: bytes an entry`] = copiedBytes! / entries;
    found[`${node} ${thread}: copies a commit`] = copies / syncs;
  }
  return found;
}

function percentiles(values: readonly number[]): Figures {
  const sorted = [...values].sort((a, b) => a - b);
  const at = (p: number): number | null =>
    sorted[Math.max(0, Math.ceil((p / 100) * sorted.length) - 1)] ?? null;
  return { p50Us: at(50), p99Us: at(99), samples: sorted.length };
}

function meanShares(all: readonly Map<string, number>[]): [string, number][] {
  const sums = new Map<string, number>();
  for (const shares of all) {
    for (const [stage, share] of shares) {
      sums.set(stage, (sums.get(stage) ?? 0) + share / all.length);
    }
  }
  return [...sums].sort(([, a], [, b]) => b - a);
}
