/** The bench suite: `npm run bench`, `npm run bench -- NAME`, `--json` for machines. */
import fs from 'node:fs';
import path from 'node:path';
import Table from 'cli-table3';
import { Command, CommanderError, InvalidArgumentError } from 'commander';
import { DEFAULT_MAX_ENTRY_BYTES } from '#src/shared/limits.js';
import { append } from './append.js';
import { ceiling } from './ceiling.js';
import { codec } from './codec.js';
import { compare, comparisonTable, NotComparable } from './compare.js';
import { compression } from './compression.js';
import type { Regime } from './data-dir.js';
import { features } from './features.js';
import { isolation } from './isolation.js';
import { lagOverhead } from './lag-overhead.js';
import { latency } from './latency.js';
import { massFailover } from './mass-failover.js';
import { peers } from './peers.js';
import type { Plan } from './plan.js';
import { producers } from './producers.js';
import { recovery, restart } from './recovery.js';
import { recycle } from './recycle.js';
import { replicate } from './replicate.js';
import { environment, type Result, type SavedResult } from './result.js';
import { spaces } from './spaces.js';
import { switchover } from './switchover.js';
import { tenants } from './tenants.js';
import { tls } from './tls.js';
import { where } from './where.js';

const BENCHES: Readonly<Record<string, (plan: Plan) => Promise<Result[]>>> = {
  codec,
  append,
  features,
  producers,
  replicate,
  latency,
  ceiling,
  peers,
  where,
  isolation,
  compression,
  tls,
  recovery,
  restart,
  recycle,
  'lag-overhead': lagOverhead,
  switchover,
  'mass-failover': massFailover,
  spaces,
  tenants,
};
/** Only where they are named: the first stands beside two others, the others want much. */
const BY_NAME: ReadonlySet<string> = new Set(['ceiling', 'peers', 'where']);
const USUAL = Object.keys(BENCHES).filter((one) => !BY_NAME.has(one));
/** Regimes of a benchmark for which none was named. */
const REGIMES: Readonly<Record<string, readonly Regime[]>> = { replicate: ['warm', 'fresh'] };
/** `compare A B`, and the benchmarks to compare checkouts by. */
const COMPARE = 'compare';
const USAGE_ERROR = 4;
const MiB = 1024 * 1024;

interface Options {
  json?: true;
  save?: true;
  runs: number;
  seconds?: number;
  payload: number[];
  rate: number[];
  regime?: Regime[];
  maxMib?: number;
  leadMib: number;
  burst: number;
  spaces?: number;
  only?: string[];
  alone?: true;
  cpuProf?: string;
}

function amount(least: number): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (text.trim() !== '' && Number.isFinite(value) && value >= least) return value;
    throw new InvalidArgumentError(`A number from ${least}.`);
  };
}

function whole(least: number, most = Number.MAX_SAFE_INTEGER): (text: string) => number {
  return (text) => {
    const value = amount(least)(text);
    if (Number.isSafeInteger(value) && value <= most) return value;
    const upTo = most < Number.MAX_SAFE_INTEGER ? ` up to ${most}` : '';
    throw new InvalidArgumentError(`A whole number from ${least}${upTo}.`);
  };
}

function list<T>(one: (text: string) => T): (text: string) => T[] {
  return (text) => text.split(',').map(one);
}

function regime(text: string): Regime {
  if (text === 'warm' || text === 'fresh') return text;
  throw new InvalidArgumentError('warm or fresh, or both with a comma between.');
}

function name(text: string, before: string[] = []): string[] {
  const isCompared = before[0] === COMPARE && before.length < 3;
  if (text in BENCHES || isCompared || (text === COMPARE && before.length === 0)) {
    return [...before, text];
  }
  throw new InvalidArgumentError(`There are: ${Object.keys(BENCHES).join(', ')}.`);
}

const program = new Command('npm run bench --')
  .description('Measures engram-wal; bench/README.md says how, and how to read it.')
  .argument('[names...]', `of ${Object.keys(BENCHES).join(', ')}; most without`, name)
  .usage('[options] [names...]\n       npm run bench -- compare [options] A B [names...]')
  .option('--json', 'one JSON array on standard output, nothing else')
  .option('--save', 'write bench/results/<name>-<commit>.json')
  .option('--runs <n>', 'runs of each case; medians are told', whole(1), 3)
  .option('--seconds <s>', 'length of a run, instead of the benchmark’s own', amount(0.1))
  .option(
    '--payload <bytes>',
    'payload sizes of append and replicate',
    list(whole(0, DEFAULT_MAX_ENTRY_BYTES)),
    [64, 256, 1024, 3328],
  )
  .option('--rate <n>', 'offered rates of latency, entries/s', list(whole(1)), [10_000, 100_000])
  .option('--regime <names>', 'warm, fresh (default: warm; replicate both)', list(regime))
  .option('--max-mib <n>', 'most that a run of append or replicate logs per node', whole(64))
  .option('--lead-mib <n>', 'replicate: let the slower replica fall so far behind', whole(0), 32)
  .option('--burst <n>', 'entries appended in one turn of the event loop', whole(1), 1024)
  .option(
    '--spaces <n>',
    'spaces of mass-failover (3,000) and tenants (10,000, then 100,000)',
    whole(1),
  )
  .option('--only <names>', 'peers: those with one of these in their name', list(String))
  .option('--alone', 'replicate and latency without the bare pipeline beside them')
  .option('--cpu-prof <dir>', 'write a CPU profile of every process and thread')
  .exitOverride();

async function main(): Promise<void> {
  program.parse();
  const options = program.opts<Options>();
  const names = (program.processedArgs[0] as string[] | undefined) ?? [];
  if (names[0] === COMPARE) {
    await runCompare(names.slice(1), options);
    return;
  }
  const all: SavedResult[] = [];
  for (const one of names.length > 0 ? [...new Set(names)] : USUAL) {
    const facts = environment();
    const results = await BENCHES[one]!(planOf(one, options));
    const rows = results.map((result) => ({ ...result, ...facts }));
    if (options.save) save(one, facts.commit, rows);
    if (!options.json) print(rows);
    all.push(...rows);
  }
  if (options.json) process.stdout.write(`${JSON.stringify(all, null, 2)}\n`);
}

async function runCompare([a, b, ...by]: string[], options: Options): Promise<void> {
  if (a === undefined || b === undefined) {
    program.error('compare A B: two files of bench/results, or two checkouts that are built');
  }
  const plan = planOf(by[0] ?? 'replicate', options);
  const rows = await compare(a, b, by, BENCHES, plan).catch((error) => {
    if (error instanceof NotComparable) program.error(error.message);
    throw error;
  });
  if (options.json) process.stdout.write(`${JSON.stringify(rows, null, 2)}\n`);
  else process.stdout.write(`${comparisonTable(rows)}\n`);
}

function planOf(bench: string, options: Options): Plan {
  return {
    runs: options.runs,
    seconds: options.seconds,
    payloads: options.payload,
    rates: options.rate,
    regimes: options.regime ?? REGIMES[bench] ?? ['warm'],
    maxBytes: options.maxMib && options.maxMib * MiB,
    leadBytes: options.leadMib * MiB,
    burst: options.burst,
    spaces: options.spaces,
    only: options.only,
    alone: options.alone ?? false,
    checkout: undefined,
    profileDir: options.cpuProf && path.resolve(options.cpuProf),
    progress: (text) => process.stderr.write(`${text}\n`),
  };
}

function save(bench: string, commit: string, rows: SavedResult[]): void {
  const dir = path.join(import.meta.dirname, 'results');
  fs.mkdirSync(dir, { recursive: true });
  const file = path.join(dir, `${bench}-${commit}.json`);
  fs.writeFileSync(file, `${JSON.stringify(rows, null, 2)}\n`);
}

function print(rows: readonly SavedResult[]): void {
  const { machine, node, commit, dirty } = rows[0]!;
  const load = machine.loadBefore.toFixed(2);
  const where = `${machine.cpu}, ${machine.cores} cores, load ${load}, node ${node}`;
  process.stdout.write(`${rows[0]!.name} at ${commit}${dirty ? ' (dirty)' : ''}, ${where}\n`);
  if (rows.some((row) => row.tmpfs)) {
    process.stdout.write('The data directories are in memory: set TMPDIR to a real disk.\n');
  }
  const table = new Table({
    head: ['case', 'payload', 'entries/s', '(min-max)', 'ack p50 ms', 'p99 ms', 'more'],
    style: { head: [], border: [] },
  });
  for (const row of rows) {
    const [least, most] = row.spread.entriesPerSecond ?? [0, 0];
    const range = `${Math.round(least)}-${Math.round(most)}`;
    const more = Object.entries(row.more).map(([key, value]) => `${key} ${short(value)}`);
    const { entriesPerSecond, appendP50Ms, appendP99Ms } = row;
    table.push([
      row.case,
      row.payloadBytes ?? '',
      Math.round(entriesPerSecond ?? 0),
      range,
      short(appendP50Ms),
      short(appendP99Ms),
      [...(row.promise ? [row.promise] : []), ...more].join('\n'),
    ]);
  }
  process.stdout.write(`${table.toString()}\n`);
}

function short(value: number | null): string {
  return value === null ? '' : String(Number(value.toPrecision(4)));
}

// Children and directories go with the process, on any way out.
process.once('SIGINT', () => process.exit(130));
process.once('SIGTERM', () => process.exit(143));

try {
  await main();
} catch (error) {
  if (error instanceof CommanderError) {
    process.exitCode = error.exitCode === 0 ? 0 : USAGE_ERROR;
  } else {
    process.stderr.write(`${error instanceof Error ? error.stack : String(error)}\n`);
    // Processes that still run go with this one.
    process.exit(1);
  }
}
