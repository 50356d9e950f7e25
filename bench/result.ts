/** What a benchmark says: one row for each case, with all that is needed to compare it. */
import { execFileSync } from 'node:child_process';
import os from 'node:os';

export interface Environment {
  readonly machine: {
    readonly cpu: string;
    readonly cores: number;
    readonly memoryBytes: number;
    /** Over the last minute, before the benchmark: near 0 on a quiet machine. */
    readonly loadBefore: number;
  };
  readonly node: string;
  readonly commit: string;
  /** Sources differ from the commit. */
  readonly dirty: boolean;
  readonly date: string;
}

/** Figures of one run; null where the case does not measure it. */
export type Figures = Readonly<Record<string, number | null>>;

/** One case: the median of its runs for each figure, and how far they lay apart. */
export interface Result {
  readonly name: string;
  /** What tells this case from the others of its name, apart from its measures. */
  readonly case: string;
  readonly payloadBytes: number | null;
  readonly replicas: number | null;
  readonly spaces: number | null;
  readonly entries: number | null;
  readonly seconds: number | null;
  readonly entriesPerSecond: number | null;
  readonly appendP50Ms: number | null;
  readonly appendP99Ms: number | null;
  readonly runs: number;
  /** Figures of some cases only. */
  readonly more: Figures;
  /** Per figure: the least and the greatest of the runs. */
  readonly spread: Readonly<Record<string, readonly [number, number]>>;
  /** The data directories were in memory: nothing of this says how fast a disk is. */
  readonly tmpfs: boolean | null;
  /** What an acknowledgement means, where that differs from case to case. */
  readonly promise?: string;
}

export type SavedResult = Result & Environment;

const COLUMNS = ['entries', 'seconds', 'entriesPerSecond', 'appendP50Ms', 'appendP99Ms'] as const;

/** Relative to this folder: what the figures depend on. */
const MEASURED = ['../src', '.', '../package.json', '../package-lock.json', ':(exclude)results'];

export function environment(): Environment {
  const git = (...args: string[]): string =>
    execFileSync('git', args, {
      cwd: import.meta.dirname,
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'ignore'],
    }).trim();
  let commit = 'unknown';
  let dirty = false;
  try {
    commit = git('rev-parse', '--short=12', 'HEAD');
    dirty = git('status', '--porcelain', '--', ...MEASURED) !== '';
  } catch {
    // Outside a checkout there is no commit to name.
  }
  const cpus = os.cpus();
  return {
    machine: {
      cpu: cpus[0]?.model ?? 'unknown',
      cores: cpus.length,
      memoryBytes: os.totalmem(),
      loadBefore: os.loadavg()[0]!,
    },
    node: process.version,
    commit,
    dirty,
    date: new Date().toISOString(),
  };
}

/** Folds the runs of one case into its row. */
export function summarise(
  labels: Pick<Result, 'name' | 'case' | 'payloadBytes' | 'replicas' | 'spaces' | 'tmpfs'>,
  runs: readonly Figures[],
): Result {
  const middle: Record<string, number | null> = {};
  const spread: Record<string, readonly [number, number]> = {};
  for (const key of Object.keys(runs[0]!)) {
    const values = runs.map((run) => run[key] ?? null).filter((v) => v !== null);
    middle[key] = median(values);
    if (values.length > 0) spread[key] = [Math.min(...values), Math.max(...values)];
  }
  const [entries, seconds, entriesPerSecond, appendP50Ms, appendP99Ms] = COLUMNS.map((key) => {
    const value = middle[key] ?? null;
    delete middle[key];
    return value;
  }) as [number | null, number | null, number | null, number | null, number | null];
  const figures = { entries, seconds, entriesPerSecond, appendP50Ms, appendP99Ms };
  return { ...labels, ...figures, runs: runs.length, more: middle, spread };
}

/** @returns null of nothing */
export function median(values: readonly number[]): number | null {
  if (values.length === 0) return null;
  const sorted = [...values].sort((a, b) => a - b);
  const half = Math.floor(sorted.length / 2);
  return sorted.length % 2 === 1 ? sorted[half]! : (sorted[half - 1]! + sorted[half]!) / 2;
}
