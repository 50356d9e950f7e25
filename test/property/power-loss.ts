/**
 * `npm run power-loss -- --mode all --losses N [--from SEED] [--seconds S] [--save]`: so many
 * losses of power in each fsync mode, at any moment and at any call, on a nasty disk; what each
 * mode promises is there afterwards.
 */
import { randomInt } from 'node:crypto';
import { Command, Option } from 'commander';
import { keepResult, whole } from '../sim/seeds.js';
import { POWER_LOSSES } from './endings.js';
import { MODES, type Mode } from './lives.js';
import { PropertyRun } from './run.js';

interface Options {
  readonly mode: Mode | 'all';
  readonly losses: number;
  readonly from?: number;
  readonly seconds?: number;
  readonly save?: true;
}

const program = new Command('npm run power-loss --')
  .description('Power losses on a nasty disk; docs/SIMULATOR.md says how.')
  .addOption(new Option('--mode <mode>', 'of fsync').choices([...MODES, 'all']).default('all'))
  .option('--losses <n>', 'how many in each mode', whole, 50)
  .option('--from <seed>', 'the first seed (default: one of chance)', whole)
  .option('--seconds <s>', 'stop after so many seconds in each mode', whole)
  .option('--save', 'keep the result in bench/results/power-loss.json');
program.parse();
const options = program.opts<Options>();
const say = (line: string): void => void process.stdout.write(`${line}\n`);
// A run replaces the clock.
const now = performance.now.bind(performance);
const startMs = now();
const first = options.from ?? randomInt(2 ** 31);
const modes: Record<string, { losses: number; seeds: number; acknowledged: number }> = {};
for (const mode of options.mode === 'all' ? MODES : [options.mode]) {
  const tally = { losses: 0, seeds: 0, acknowledged: 0 };
  modes[mode] = tally;
  const modeMs = now();
  for (let seed = first; tally.losses < options.losses; seed++) {
    if (options.seconds !== undefined && now() - modeMs > options.seconds * 1_000) break;
    try {
      const report = await new PropertyRun(seed, undefined, [mode], POWER_LOSSES).run();
      tally.seeds++;
      tally.acknowledged += report.acked;
      for (const { name } of POWER_LOSSES) tally.losses += report.counts[name] ?? 0;
    } catch (error) {
      say(`${mode}, seed ${seed} failed: ${(error as Error).stack}`);
      say(`replay: npm run power-loss -- --mode ${mode} --losses 1 --from ${seed}`);
      process.exit(1);
    }
  }
  say(`${mode}: ${tally.losses} power losses, ${tally.acknowledged} entries acknowledged`);
}
const seconds = (now() - startMs) / 1_000;
if (options.save)
  keepResult('power-loss.json', { name: 'power-loss', from: first, modes, seconds });
process.exit(Object.values(modes).some(({ losses }) => losses === 0) ? 1 : 0);
