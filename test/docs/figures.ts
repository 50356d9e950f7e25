/** The figures of README.md: the newest kept result of each benchmark, and nothing else. */
import fs from 'node:fs';
import path from 'node:path';
import { ROOT } from './blocks.js';
import { item, paragraph } from './lines.js';

interface Machine {
  readonly cpu: string;
  readonly cores: number;
  readonly loadBefore: number;
}

interface Row {
  readonly case: string;
  readonly payloadBytes: number | null;
  readonly spaces: number | null;
  readonly entriesPerSecond: number | null;
  readonly appendP50Ms: number | null;
  readonly appendP99Ms: number | null;
  readonly more: Readonly<Record<string, number>>;
  readonly machine: Machine;
  readonly node: string;
  readonly date: string;
}

interface Percentiles {
  readonly p50: number;
  readonly p99: number;
}

interface Failovers {
  readonly electedMs: Percentiles & { readonly count: number };
  readonly fromSigkillMs: Percentiles;
  readonly runs: readonly Pick<Row, 'machine' | 'node' | 'date'>[];
}

const RESULTS = path.join(ROOT, 'bench/results');

function kept(file: string): unknown {
  return JSON.parse(fs.readFileSync(path.join(RESULTS, file), 'utf8'));
}

/** The rows of the newest result of a benchmark; undefined where none is kept. */
function newest(name: string): readonly Row[] | undefined {
  const files = fs
    .readdirSync(RESULTS)
    .filter((f) => new RegExp(`^${name}-[0-9a-f]+\\.json$`).test(f));
  const all = files.map((file) => kept(file) as readonly Row[]);
  return all.sort((a, b) => b[0]!.date.localeCompare(a[0]!.date))[0];
}

function rowOf(name: string, begins: string, payloadBytes = 256): Row {
  const isIt = (r: Row): boolean => r.case.startsWith(begins) && r.payloadBytes === payloadBytes;
  return newest(name)!.find(isIt)!;
}

/** Three digits that count: 734 K, 2.46 M. */
function short(value: number): string {
  const [size, unit] = value >= 1e6 ? [1e6, ' M'] : value >= 1e4 ? [1e3, ' K'] : [1, ''];
  return `${Number((value / size).toPrecision(3))}${unit}`;
}

function ms(value: number): string {
  return value >= 1_000 ? `${(value / 1_000).toFixed(1)} s` : `${Number(value.toPrecision(2))} ms`;
}

function table(rows: readonly (readonly [string, string])[]): string[] {
  return ['| | |', '|---|---|', ...rows.map(([what, figure]) => `| ${what} | ${figure} |`)];
}

/** When and where, as the results say it themselves. */
function origin(): string {
  const names = ['append', 'replicate', 'latency', 'isolation', 'restart', 'switchover'];
  if (newest('mass-failover')) names.push('mass-failover');
  const { runs } = kept('failover.json') as Failovers;
  const all = [
    ...names.map((name) => ({ name, ...newest(name)![0]! })),
    { name: 'failover', ...runs[0]! },
  ];
  const days = new Map<string, string[]>();
  for (const { name, date, machine, node } of all) {
    const where = `${machine.cores} cores (${machine.cpu.replaceAll('(R)', '')}), Node ${node}`;
    const day = `${date.slice(0, 10)}, ${where}`;
    days.set(day, [...(days.get(day) ?? []), `\`${name}\` (${machine.loadBefore.toFixed(1)})`]);
  }
  const told = [...days].map(([day, which]) => item(`${day}: ${which.join(', ')}`, 0, 98));
  const about =
    'One machine ran all nodes of each. In brackets, its load before: above 0 others were ';
  const rest = 'at work. The failovers ran at real-time priority for that reason.';
  return [paragraph(`${about}${rest}`, 98), '', ...told].join('\n');
}

/** A lost node that led thousands of spaces: counted as the failovers are. */
function massRows(): [string, string][] {
  const row = newest('mass-failover')?.find((one) => one.case.startsWith('etcd'));
  if (!row) return [];
  const what = `... where it led ${row.spaces!.toLocaleString('en-US')} spaces: p50, the last`;
  return [[what, `${ms(row.more.p50Ms!)}, ${ms(row.more.lastMs!)}`]];
}

export function figuresText(): string {
  const offered = rowOf('latency', 'warm, 100000/s');
  const { pauseP50Ms, pauseP99Ms } = rowOf('switchover', 'planned').more;
  const { electedMs, fromSigkillMs } = kept('failover.json') as Failovers;
  const { entriesPerSecondRatio } = rowOf('isolation', 'warm, ratio').more;
  const kills = kept('campaign.json') as { kills: number; acknowledged: number };
  const { modes } = kept('power-loss.json') as { modes: Record<string, { losses: number }> };
  const losses = Object.values(modes).reduce((sum, mode) => sum + mode.losses, 0);
  const count = (n: number): string => n.toLocaleString('en-US');
  const opened = ['close', 'SIGKILL'].map(
    (how) => rowOf('restart', `8.0 GiB, after ${how}`).more.openMs!,
  );
  const rows: [string, string][] = [
    [
      'Entries of 256 bytes made durable on one node',
      `${short(rowOf('append', 'warm').entriesPerSecond!)}/s`,
    ],
    [
      '... flushed on each of two replicas',
      `${short(rowOf('replicate', 'warm').entriesPerSecond!)}/s`,
    ],
    [
      '... where each segment is a new file',
      `${short(rowOf('replicate', 'fresh').entriesPerSecond!)}/s`,
    ],
    [
      'An append, with 100 K/s offered and two replicas: p50, p99',
      `${ms(offered.appendP50Ms!)}, ${ms(offered.appendP99Ms!)}`,
    ],
    ['... until both replicas have it: p99', ms(offered.more.lagP99Ms!)],
    [
      'Throughput with a dead and a slow replica besides',
      `${entriesPerSecondRatio!.toFixed(2)} of that without`,
    ],
    ['Opening a log of 8 GiB, after a close and after a kill', opened.map(ms).join(', ')],
    ['A planned hand-over stops appends for: p50, p99', `${ms(pauseP50Ms!)}, ${ms(pauseP99Ms!)}`],
    [
      'A leader is killed, etcd, lease of 2 s: the next append: p50, p99',
      `${ms(fromSigkillMs.p50)}, ${ms(fromSigkillMs.p99)}`,
    ],
    [
      `... from the end of its lease (${count(electedMs.count)} failovers)`,
      `${ms(electedMs.p50)}, ${ms(electedMs.p99)}`,
    ],
    ...massRows(),
    [
      'SIGKILLs under load, simulated power losses',
      `${count(kills.kills)}, ${count(losses)}: nothing lost`,
    ],
  ];
  return [...table(rows), '', origin()].join('\n');
}
