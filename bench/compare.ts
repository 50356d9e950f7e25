/**
 * Is B faster than A, or is it noise? `npm run bench -- compare A B [NAME...]`. Two kept results
 * are held against each other case by case. Two checkouts are measured in turn, A B A a round, by
 * this harness: A against itself says what noise is.
 */
import fs from 'node:fs';
import path from 'node:path';
import Table from 'cli-table3';
import type { Plan } from './plan.js';
import { measured } from './processes.js';
import { median, type Result, type SavedResult } from './result.js';

type Benches = Readonly<Record<string, (plan: Plan) => Promise<Result[]>>>;

const LEAST_ROUNDS = 5;
/** What is compared, in this order; what a case does not have is left out. */
const FIGURES = [
  'entriesPerSecond',
  'ratioToCeiling',
  'appendP50Ms',
  'appendP99Ms',
  'appendP99ToCeiling',
  'lagP99Ms',
  'cpuMicrosPerEntry',
  'primaryCpuMicrosPerEntry',
  'replicaCpuMicrosPerEntry',
] as const;
/** Where less is worse; everywhere else more is. */
const MORE_IS_BETTER: ReadonlySet<string> = new Set(['entriesPerSecond', 'ratioToCeiling']);

/** A and B cannot be held against each other; says why. */
export class NotComparable extends Error {}

/** One figure of one case. */
export interface Comparison {
  readonly case: string;
  readonly figure: string;
  readonly a: number;
  readonly b: number;
  /** B / A: the median, the least and the greatest. */
  readonly ratio: readonly [number, number, number];
  /** What A makes of itself: the least and the greatest ratio of two of its runs. */
  readonly noise: readonly [number, number];
  readonly verdict: Verdict;
}

export type Verdict = 'noise' | 'better' | 'worse';

/** A folder with a package.json is a checkout; everything else the file of a kept result. */
function isCheckout(where: string): boolean {
  return fs.existsSync(path.join(where, 'package.json'));
}

/** Rejects NotComparable. */
export async function compare(
  a: string,
  b: string,
  names: readonly string[],
  benches: Benches,
  plan: Plan,
): Promise<Comparison[]> {
  if (isCheckout(a) !== isCheckout(b)) {
    throw new NotComparable('A and B are two checkouts, or two files of bench/results');
  }
  if (!isCheckout(a)) return compareKept(readKept(a), readKept(b));
  const found: Comparison[] = [];
  for (const name of names.length > 0 ? names : ['replicate']) {
    found.push(...(await compareInTurn(a, b, name, benches[name]!, plan)));
  }
  return found;
}

function parsed(file: string): unknown {
  try {
    return JSON.parse(fs.readFileSync(file, 'utf8'));
  } catch {
    return undefined;
  }
}

function isSaved(row: Partial<SavedResult> | null): row is SavedResult {
  return [row?.spread, row?.more].every((of) => typeof of === 'object' && of !== null);
}

function readKept(file: string): SavedResult[] {
  const known = [file, path.join(import.meta.dirname, 'results', file)];
  const found = known.find((one) => fs.existsSync(one) && fs.statSync(one).isFile());
  if (!found) throw new NotComparable(`no kept result and no checkout: ${file}`);
  const rows = parsed(found);
  // Of a campaign, say.
  if (!Array.isArray(rows) || !rows.every(isSaved)) {
    throw new NotComparable(`no result of a benchmark: ${file}`);
  }
  return rows;
}

const caseOf = (row: Result): string =>
  `${row.name} ${row.case}${row.payloadBytes === null ? '' : `, ${row.payloadBytes} B`}`;

/** Where it is not a median of its own, a figure stands among those of some cases only. */
function figureOf(row: Result, figure: string): number | undefined {
  const columns = row as unknown as Readonly<Record<string, number | null>>;
  return columns[figure] ?? row.more[figure] ?? undefined;
}

// --- two kept results --------------------------------------------------------------------------

/** Noise is how far the runs of either lay apart: their ranges must not meet. */
export function compareKept(a: readonly SavedResult[], b: readonly SavedResult[]): Comparison[] {
  const found: Comparison[] = [];
  for (const before of a) {
    const after = b.find((row) => caseOf(row) === caseOf(before));
    if (!after) continue;
    for (const figure of FIGURES) {
      const [from, to] = [figureOf(before, figure), figureOf(after, figure)];
      if (from === undefined || to === undefined || from === 0) continue;
      const [leastA, mostA] = before.spread[figure] ?? [from, from];
      const [leastB, mostB] = after.spread[figure] ?? [to, to];
      const isApart = before.runs > 1 && after.runs > 1 && (leastB > mostA || mostB < leastA);
      found.push({
        case: caseOf(before),
        figure,
        a: from,
        b: to,
        ratio: [to / from, leastB / mostA, mostB / leastA],
        noise: [leastA / from, mostA / from],
        verdict: isApart ? verdictOf(figure, to / from) : 'noise',
      });
    }
  }
  if (found.length === 0) throw new NotComparable('no case is in both results');
  return found;
}

// --- two checkouts -----------------------------------------------------------------------------

/** What one round gave: A, B, and A again. */
type Round = readonly [number, number, number];

async function compareInTurn(
  a: string,
  b: string,
  name: string,
  bench: (plan: Plan) => Promise<Result[]>,
  plan: Plan,
): Promise<Comparison[]> {
  for (const where of [a, b]) {
    if (fs.existsSync(path.join(where, 'dist/main/index.js'))) continue;
    throw new NotComparable(`${where} is not built: npm run build there`);
  }
  const measure = (checkout: string): Promise<Result[]> =>
    bench({ ...plan, runs: 1, alone: true, checkout: path.resolve(checkout) });
  const rounds: [Result[], Result[], Result[]][] = [];
  for (let round = 1; round <= Math.max(plan.runs, LEAST_ROUNDS); round++) {
    plan.progress(`round ${round}: A`);
    const first = await measure(a);
    // Its processes, or none of them, are of this checkout: both would be measured as the same.
    if (!measured.has(path.resolve(a))) {
      throw new NotComparable(`${name} measures this checkout only`);
    }
    plan.progress(`round ${round}: B`);
    const other = await measure(b);
    plan.progress(`round ${round}: A again`);
    rounds.push([first, other, await measure(a)]);
  }
  const found: Comparison[] = [];
  for (const [n, row] of rounds[0]![0].entries()) {
    for (const figure of FIGURES) {
      const values = rounds.map(
        (round) => round.map((rows) => figureOf(rows[n]!, figure)) as (number | undefined)[],
      );
      if (values.flat().some((value) => value === undefined || value === 0)) continue;
      const one = judge(figure, values as unknown as readonly Round[]);
      found.push({ case: `${name} ${caseOf(row).slice(name.length + 1)}`, figure, ...one });
    }
  }
  return found;
}

/**
 * B against the two runs of A around it, round by round. It is no noise where every round says the
 * same, one may differ from eight rounds on, and the median is farther from 1 than A's from itself.
 */
export function judge(
  figure: string,
  rounds: readonly Round[],
): Omit<Comparison, 'case' | 'figure'> {
  const ratios = rounds.map(([a1, b, a2]) => b / Math.sqrt(a1 * a2)).sort((x, y) => x - y);
  const own = rounds.map(([a1, , a2]) => a2 / a1);
  const ratio = median(ratios)!;
  const may = rounds.length >= 8 ? 1 : 0;
  const isOneSided = ratios.at(-1 - may)! < 1 || ratios[may]! > 1;
  const noise = median(own.map((r) => Math.abs(Math.log(r))))!;
  const isNoise = !isOneSided || Math.abs(Math.log(ratio)) <= noise;
  return {
    a: median(rounds.flatMap(([a1, , a2]) => [a1, a2]))!,
    b: median(rounds.map(([, b]) => b))!,
    ratio: [ratio, ratios[0]!, ratios.at(-1)!],
    noise: [Math.min(...own), Math.max(...own)],
    verdict: isNoise ? 'noise' : verdictOf(figure, ratio),
  };
}

function verdictOf(figure: string, ratio: number): Verdict {
  return ratio > 1 === MORE_IS_BETTER.has(figure) ? 'better' : 'worse';
}

// --- for people --------------------------------------------------------------------------------

export function comparisonTable(rows: readonly Comparison[]): string {
  const table = new Table({
    head: ['case', 'figure', 'A', 'B', 'B / A', '(min-max)', 'A / A', 'B is'],
    style: { head: [], border: [] },
  });
  for (const { case: what, figure, a, b, ratio, noise, verdict } of rows) {
    const [middle, least, most] = ratio.map((one) => one.toFixed(3));
    const own = noise.map((one) => one.toFixed(2)).join('-');
    const said = verdict === 'noise' ? 'within noise' : verdict;
    table.push([what, figure, short(a), short(b), middle, `${least}-${most}`, own, said]);
  }
  return table.toString();
}

function short(value: number): string {
  return value >= 1_000 ? String(Math.round(value)) : String(Number(value.toPrecision(3)));
}
