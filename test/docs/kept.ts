/** Kept results of benchmarks, as documents quote them: the newest of each. */
import fs from 'node:fs';
import path from 'node:path';
import { ROOT } from './blocks.js';

export interface Machine {
  readonly cpu: string;
  readonly cores: number;
  readonly loadBefore: number;
}

export interface Row {
  readonly name: string;
  readonly case: string;
  readonly payloadBytes: number | null;
  readonly spaces: number | null;
  readonly entriesPerSecond: number | null;
  readonly appendP50Ms: number | null;
  readonly appendP99Ms: number | null;
  readonly more: Readonly<Record<string, number>>;
  readonly spread: Readonly<Record<string, readonly [number, number]>>;
  /** Of `peers`: what an acknowledgement means. */
  readonly promise?: string;
  readonly commit: string;
  readonly machine: Machine;
  readonly node: string;
  readonly date: string;
}

export interface Percentiles {
  readonly p50: number;
  readonly p99: number;
}

export interface Failovers {
  readonly electedMs: Percentiles & { readonly count: number };
  readonly fromSigkillMs: Percentiles;
  readonly runs: readonly Pick<Row, 'machine' | 'node' | 'date' | 'commit'>[];
}

const RESULTS = path.join(ROOT, 'bench/results');

export function kept(file: string): unknown {
  return JSON.parse(fs.readFileSync(path.join(RESULTS, file), 'utf8'));
}

/** The rows of the newest result of a benchmark; undefined where none is kept. */
export function newest(name: string): readonly Row[] | undefined {
  const files = fs
    .readdirSync(RESULTS)
    .filter((f) => new RegExp(`^${name}-[0-9a-f]+\\.json$`).test(f));
  const all = files.map((file) => kept(file) as readonly Row[]);
  return all.sort((a, b) => b[0]!.date.localeCompare(a[0]!.date))[0];
}

export function rowOf(name: string, begins: string, payloadBytes = 256): Row {
  const isIt = (r: Row): boolean => r.case.startsWith(begins) && r.payloadBytes === payloadBytes;
  return newest(name)!.find(isIt)!;
}

/** Three digits that count: 734 K, 2.46 M. */
export function short(value: number): string {
  const [size, unit] = value >= 1e6 ? [1e6, ' M'] : value >= 1e4 ? [1e3, ' K'] : [1, ''];
  return `${Number((value / size).toPrecision(3))}${unit}`;
}

export function ms(value: number): string {
  return value >= 1_000 ? `${(value / 1_000).toFixed(1)} s` : `${Number(value.toPrecision(2))} ms`;
}

export function table(rows: readonly (readonly [string, string])[]): string[] {
  return ['| | |', '|---|---|', ...rows.map(([what, figure]) => `| ${what} | ${figure} |`)];
}

/** Machine, day and load, of one result. */
export function originOf({ machine, node, date }: Pick<Row, 'machine' | 'node' | 'date'>): string {
  const cpu = machine.cpu.replaceAll('(R)', '');
  const load = machine.loadBefore.toFixed(1);
  return `${date.slice(0, 10)}, ${machine.cores} cores, ${cpu}, Node ${node}, load ${load}`;
}
