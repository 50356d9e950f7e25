/** `npm run sim:roles -- --seeds N [--from SEED]`: promotions, hand-overs and two primaries. */
import { RolesRun } from './roles.js';
import { runSeeds, sumsOf } from './seeds.js';

await runSeeds({
  script: 'sim:roles',
  description: 'Simulates three nodes that take the lead from each other; docs/SIMULATOR.md.',
  result: 'sim-roles.json',
  run: (seed, trace) => new RolesRun(seed, trace).run(),
  figures: (all) => {
    const { acked: acknowledged, ...sums } = sumsOf(all, [
      'faults',
      'promotions',
      'switchovers',
      'rewinds',
      'told',
      'waits',
      'conditions',
      'conflicts',
      'awaited',
      'outdated',
      'wiped',
      'epochs',
      'acked',
    ]);
    return { ...sums, acknowledged };
  },
  summary: (sums) =>
    `${sums.faults} faults, ${sums.promotions} promotions, ${sums.switchovers} hand-overs, ` +
    `${sums.rewinds} rewinds, ${sums.told} told to subscribers, ${sums.waits} waits, ` +
    `${sums.conditions} by a condition and ${sums.conflicts} refused by one, ` +
    `${sums.awaited} tokens awaited and ${sums.outdated} outdated, ` +
    `${sums.wiped} wiped, ${sums.epochs} epochs, ${sums.acknowledged} entries acknowledged`,
});
