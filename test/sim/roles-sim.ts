/** `npm run sim:roles -- --seeds N [--from SEED]`: promotions, hand-overs and two primaries. */
import { randomInt } from 'node:crypto';
import { Command, InvalidArgumentError } from 'commander';
import { RolesRun } from './roles.js';

function whole(text: string): number {
  const value = Number(text);
  if (text.trim() !== '' && Number.isSafeInteger(value) && value >= 0) return value;
  throw new InvalidArgumentError('A whole number from 0.');
}

const program = new Command('npm run sim:roles --')
  .description('Simulates three nodes that take the lead from each other; docs/SIMULATOR.md.')
  .option('--seeds <n>', 'how many seeds', whole, 100)
  .option('--from <seed>', 'the first seed; the others follow it (default: one of chance)', whole)
  .option('--seconds <s>', 'stop after so many seconds, however many seeds are left', whole)
  .option('--trace', 'print what happens');
program.parse();
const options = program.opts<{ seeds: number; from?: number; seconds?: number; trace?: true }>();

const from = options.from ?? randomInt(2 ** 31);
const realNow = performance.now.bind(performance);
const startMs = realNow();
const sum = { acked: 0, promotions: 0, switchovers: 0, rewinds: 0, epochs: 0, faults: 0 };
let passed = 0;
let isFailed = false;

for (let seed = from; seed < from + options.seeds && !isFailed; seed++) {
  if (options.seconds !== undefined && realNow() - startMs > options.seconds * 1_000) break;
  const trace = options.trace && ((line: string) => process.stdout.write(`${line}\n`));
  try {
    const report = await new RolesRun(seed, trace).run();
    for (const key of Object.keys(sum) as (keyof typeof sum)[]) sum[key] += report[key];
    passed++;
  } catch (error) {
    isFailed = true;
    const found = error instanceof Error ? (error.stack ?? error.message) : String(error);
    process.stdout.write(`seed ${seed} failed: ${found}\n`);
    process.stdout.write(`replay: npm run sim:roles -- --seeds 1 --from ${seed} --trace\n`);
  }
}

const seconds = ((realNow() - startMs) / 1_000).toFixed(1);
const { faults, promotions, switchovers, rewinds, epochs, acked } = sum;
const roles = `${promotions} promotions, ${switchovers} hand-overs, ${rewinds} rewinds`;
process.stdout.write(
  `${faults} faults, ${roles}, ${epochs} epochs, ${acked} entries acknowledged in ${seconds} s\n`,
);
process.stdout.write(`${passed + Number(isFailed)} seeds ran, ${passed} passed\n`);
process.exit(isFailed || passed === 0 ? 1 : 0);
