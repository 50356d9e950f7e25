/** `npm run sim -- --seeds N [--from SEED]`: simulates whole clusters, one seed after the other. */
import { randomInt } from 'node:crypto';
import { Command, InvalidArgumentError } from 'commander';
import { Run } from './run.js';

function whole(text: string): number {
  const value = Number(text);
  if (text.trim() !== '' && Number.isSafeInteger(value) && value >= 0) return value;
  throw new InvalidArgumentError('A whole number from 0.');
}

const program = new Command('npm run sim --')
  .description('Simulates a primary and two replicas under faults; docs/SIMULATOR.md says how.')
  .option('--seeds <n>', 'how many seeds', whole, 100)
  .option('--from <seed>', 'the first seed; the others follow it (default: one of chance)', whole)
  .option('--seconds <s>', 'stop after so many seconds, however many seeds are left', whole)
  .option('--trace', 'print what happens');
program.parse();
const options = program.opts<{ seeds: number; from?: number; seconds?: number; trace?: true }>();

const from = options.from ?? randomInt(2 ** 31);
const startMs = performance.now();
const realNow = performance.now.bind(performance);
let passed = 0;
let acked = 0;
let faults = 0;
let snapshots = 0;
let virtualMs = 0;
let failed: number | undefined;

for (let seed = from; seed < from + options.seeds; seed++) {
  if (options.seconds !== undefined && realNow() - startMs > options.seconds * 1_000) break;
  const trace = options.trace && ((line: string) => process.stdout.write(`${line}\n`));
  try {
    const report = await new Run(seed, trace).run();
    passed++;
    acked += report.acked;
    faults += report.faults;
    snapshots += report.snapshots;
    virtualMs += report.virtualMs;
    if (options.trace) process.stdout.write(`${JSON.stringify(report)}\n`);
  } catch (error) {
    failed = seed;
    const found = error instanceof Error ? (error.stack ?? error.message) : String(error);
    process.stdout.write(`seed ${seed} failed: ${found}\n`);
    process.stdout.write(`replay: npm run sim -- --seeds 1 --from ${seed} --trace\n`);
    break;
  }
}

const seconds = (realNow() - startMs) / 1_000;
const ran = failed === undefined ? passed : passed + 1;
process.stdout.write(
  `${faults} faults, ${acked} entries acknowledged, ${snapshots} snapshots, ` +
    `${Math.round(virtualMs / 1_000)} s of ` +
    `cluster time in ${seconds.toFixed(1)} s\n`,
);
process.stdout.write(`${ran} seeds ran, ${passed} passed\n`);
process.exit(failed === undefined && ran > 0 ? 0 : 1);
