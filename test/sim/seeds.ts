/** The command line of a simulator: one seed after the other, until one fails. */
import { randomInt } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { Command, InvalidArgumentError } from 'commander';

export interface Simulator<R> {
  /** `npm run <script>`. */
  readonly script: string;
  readonly description: string;
  run(seed: number, trace: ((line: string) => void) | undefined): Promise<R>;
  /** What all these runs amount to, in words. */
  summary(reports: readonly R[]): string;
  /** A file in bench/results that `--save` keeps them in, with these figures. */
  readonly result?: string;
  figures?(reports: readonly R[]): object;
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

interface SeedOptions {
  readonly seeds: number;
  readonly from?: number;
  readonly seconds?: number;
  readonly trace?: true;
  readonly save?: true;
}

/** Runs as the options say and ends the process: exit 1 where a seed fails, or none ran. */
export async function runSeeds<R>({
  script,
  description,
  run,
  summary,
  result,
  figures,
}: Simulator<R>): Promise<never> {
  const program = new Command(`npm run ${script} --`)
    .description(description)
    .option('--seeds <n>', 'how many seeds', whole, 100)
    .option('--from <seed>', 'the first seed; the others follow it (default: one of chance)', whole)
    .option('--seconds <s>', 'stop after so many seconds, however many seeds are left', whole)
    .option('--trace', 'print what happens');
  if (result) program.option('--save', `keep the result in bench/results/${result}`);
  program.parse();
  const options = program.opts<SeedOptions>();
  const say = (line: string): void => void process.stdout.write(`${line}\n`);
  // A run replaces the clock.
  const now = performance.now.bind(performance);
  const from = options.from ?? randomInt(2 ** 31);
  const startMs = now();
  const reports: R[] = [];
  let isFailed = false;
  for (let seed = from; seed < from + options.seeds && !isFailed; seed++) {
    if (options.seconds !== undefined && now() - startMs > options.seconds * 1_000) break;
    try {
      const report = await run(seed, options.trace && say);
      reports.push(report);
      if (options.trace) say(JSON.stringify(report));
    } catch (error) {
      isFailed = true;
      say(
        `seed ${seed} failed: ${error instanceof Error ? (error.stack ?? error.message) : error}`,
      );
      say(`replay: npm run ${script} -- --seeds 1 --from ${seed} --trace`);
    }
  }
  say(`${summary(reports)} in ${((now() - startMs) / 1_000).toFixed(1)} s`);
  const passed = reports.length;
  if (result && options.save && !isFailed) {
    const seconds = Math.round((now() - startMs) / 1_000);
    keepResult(result, { name: script, from, seeds: passed, ...figures?.(reports), seconds });
  }
  say(`${passed + Number(isFailed)} seeds ran, ${passed} passed`);
  process.exit(isFailed || passed === 0 ? 1 : 0);
}

/** Of one figure over all reports. */
export function sumOf<R>(reports: readonly R[], figure: (report: R) => number): number {
  return reports.reduce((sum, report) => sum + figure(report), 0);
}
