/**
 * The command line of a simulator: one seed after the other, until one fails. A long campaign goes
 * to child processes with a bounded number of seeds each: what a run leaves behind ends with them.
 */
import { type ChildProcess, fork } from 'node:child_process';
import { randomInt } from 'node:crypto';
import { once } from 'node:events';
import fs from 'node:fs';
import path from 'node:path';
import { Command, InvalidArgumentError, Option } from 'commander';

/** So many seeds at most have a process in common. */
const SEEDS_A_PROCESS = 100;

export interface Simulator<R, F extends object> {
  /** `npm run <script>`. */
  readonly script: string;
  readonly description: string;
  /** The file in bench/results that `--save` keeps the figures in. */
  readonly result: string;
  /** @returns plain values: they may come from another process */
  run(seed: number, trace: ((line: string) => void) | undefined): Promise<R>;
  /** What all these runs amount to. */
  figures(reports: readonly R[]): F;
  /** The same in words. */
  summary(figures: F): string;
}

export function keepResult(name: string, result: object): void {
  const file = path.join(import.meta.dirname, '../../bench/results', name);
  const kept = { ...result, node: process.version };
  fs.writeFileSync(file, `${JSON.stringify(kept, null, 2)}\n`);
}

/** A number on the command line. */
export function whole(text: string): number {
  const value = Number(text);
  if (text.trim() !== '' && Number.isSafeInteger(value) && value >= 0) return value;
  throw new InvalidArgumentError('A whole number from 0.');
}

function atLeastOne(text: string): number {
  if (whole(text) > 0) return whole(text);
  throw new InvalidArgumentError('A whole number from 1.');
}

interface SeedOptions {
  readonly seeds: number;
  readonly from?: number;
  readonly seconds?: number;
  readonly jobs: number;
  readonly trace?: true;
  readonly save?: true;
  /** It is a child of a campaign, which hears of each seed. */
  readonly toParent?: true;
}

interface Failed {
  readonly seed: number;
  readonly failed: string;
}

type Heard<R> = (outcome: { readonly report: R } | Failed) => unknown;

/** Seeds from `from` on and before `end`, as far as there is time. */
interface Range {
  readonly from: number;
  readonly end: number;
  secondsLeft(): number;
}

// A run replaces the clock.
const now = performance.now.bind(performance);
const say = (line: string): void => void process.stdout.write(`${line}\n`);

/** Runs as the options say and ends the process: exit 1 where a seed fails, or none ran. */
export async function runSeeds<R, F extends object>(simulator: Simulator<R, F>): Promise<never> {
  const { script, result } = simulator;
  const options = readOptions(simulator);
  const { seeds, jobs, from = randomInt(2 ** 31), trace, save } = options;
  const startMs = now();
  const seconds = (): number => (now() - startMs) / 1_000;
  const secondsLeft = (): number => (options.seconds ?? Number.POSITIVE_INFINITY) - seconds();
  const range: Range = { from, end: from + seeds, secondsLeft };
  if (options.toParent) return await runForParent(simulator, range);

  const reports: R[] = [];
  let failure: Failed | undefined;
  const heard: Heard<R> = (outcome) => {
    if ('report' in outcome) reports.push(outcome.report);
    else failure ??= outcome;
  };
  const each = Math.min(SEEDS_A_PROCESS, Math.ceil(seeds / jobs));
  if (trace || each >= seeds) await runHere(simulator, range, heard, trace && say);
  else await runInChildren(range, each, jobs, heard);

  if (failure) {
    say(`seed ${failure.seed} failed: ${failure.failed}`);
    say(`replay: npm run ${script} -- --seeds 1 --from ${failure.seed} --trace`);
  }
  const figures = simulator.figures(reports);
  say(`${simulator.summary(figures)} in ${seconds().toFixed(1)} s`);
  const passed = reports.length;
  if (save && !failure) {
    const kept = { name: script, from, seeds: passed, ...figures };
    keepResult(result, { ...kept, seconds: Math.round(seconds()) });
  }
  say(`${passed + Number(failure !== undefined)} seeds ran, ${passed} passed`);
  process.exit(failure || passed === 0 ? 1 : 0);
}

function readOptions<R, F extends object>(simulator: Simulator<R, F>): SeedOptions {
  const { script, description, result } = simulator;
  return new Command(`npm run ${script} --`)
    .description(description)
    .option('--seeds <n>', 'how many seeds', whole, 100)
    .option('--from <seed>', 'the first seed; the others follow it (default: one of chance)', whole)
    .option('--seconds <s>', 'stop after so many seconds, however many seeds are left', whole)
    .option('--jobs <n>', 'so many processes side by side', atLeastOne, 1)
    .option('--trace', 'print what happens; in one process')
    .option('--save', `keep the result in bench/results/${result}`)
    .addOption(new Option('--to-parent').hideHelp())
    .parse()
    .opts<SeedOptions>();
}

/** One after the other, in this process, until one fails. */
async function runHere<R, F extends object>(
  simulator: Simulator<R, F>,
  { from, end, secondsLeft }: Range,
  heard: Heard<R>,
  trace?: (line: string) => void,
): Promise<void> {
  for (let seed = from; seed < end && secondsLeft() >= 0; seed++) {
    let report: R;
    try {
      report = await simulator.run(seed, trace);
    } catch (error) {
      const failed = error instanceof Error ? (error.stack ?? error.message) : `${error}`;
      await heard({ seed, failed });
      return;
    }
    await heard({ report });
    trace?.(JSON.stringify(report));
  }
}

/** A child: it says what each seed has come to, and ends. */
async function runForParent<R, F extends object>(
  simulator: Simulator<R, F>,
  range: Range,
): Promise<never> {
  process.on('disconnect', () => process.exit(1));
  // Sent before the next seed takes the turns of the event loop, and before the process ends.
  const heard: Heard<R> = (outcome) => new Promise((sent) => process.send!(outcome, sent));
  await runHere(simulator, range, heard);
  process.exit(0);
}

/** `each` seeds a process, `jobs` processes side by side, until a seed fails. */
async function runInChildren<R>(
  { from, end, secondsLeft }: Range,
  each: number,
  jobs: number,
  heard: Heard<R>,
): Promise<void> {
  const living = new Set<ChildProcess>();
  let next = from;
  let isFailed = false;
  const failed = (failure: Failed): void => {
    if (!isFailed) heard(failure);
    isFailed = true;
    for (const child of living) child.kill('SIGKILL');
  };
  const runOne = async (first: number, count: number): Promise<void> => {
    const seconds = Number.isFinite(secondsLeft()) ? [`--seconds=${Math.ceil(secondsLeft())}`] : [];
    const args = ['--to-parent', `--from=${first}`, `--seeds=${count}`, ...seconds];
    const child = fork(process.argv[1]!, args);
    living.add(child);
    let seed = first;
    child.on('message', (outcome: { report: R } | Failed) => {
      if ('failed' in outcome) return failed(outcome);
      if (!isFailed) heard(outcome);
      seed++;
    });
    // When all that it has said is here, too.
    const [code, signal] = await once(child, 'close');
    living.delete(child);
    if (code !== 0) failed({ seed, failed: `its process ended with ${signal ?? code}` });
  };
  const oneAfterAnother = async (): Promise<void> => {
    while (next < end && !isFailed && secondsLeft() >= 0) {
      const first = next;
      next = Math.min(first + each, end);
      await runOne(first, next - first);
    }
  };
  await Promise.all(Array.from({ length: jobs }, oneAfterAnother));
}

/** Of each of these figures, over all reports. */
export function sumsOf<R extends Record<K, number>, K extends string>(
  reports: readonly R[],
  names: readonly K[],
): Record<K, number> {
  const sumOf = (name: K): number => reports.reduce((sum, report) => sum + report[name], 0);
  return Object.fromEntries(names.map((name) => [name, sumOf(name)])) as Record<K, number>;
}
