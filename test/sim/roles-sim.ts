/** `npm run sim:roles -- --seeds N [--from SEED]`: promotions, hand-overs and two primaries. */
import { RolesRun } from './roles.js';
import { runSeeds, sumOf } from './seeds.js';

await runSeeds({
  script: 'sim:roles',
  description: 'Simulates three nodes that take the lead from each other; docs/SIMULATOR.md.',
  run: (seed, trace) => new RolesRun(seed, trace).run(),
  summary: (all) =>
    `${sumOf(all, (r) => r.faults)} faults, ${sumOf(all, (r) => r.promotions)} promotions, ` +
    `${sumOf(all, (r) => r.switchovers)} hand-overs, ${sumOf(all, (r) => r.rewinds)} rewinds, ` +
    `${sumOf(all, (r) => r.told)} told to subscribers, ${sumOf(all, (r) => r.waits)} waits, ` +
    `${sumOf(all, (r) => r.epochs)} epochs, ${sumOf(all, (r) => r.acked)} entries acknowledged`,
});
