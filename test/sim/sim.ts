/** `npm run sim -- --seeds N [--from SEED]`: simulates whole clusters, one seed after the other. */
import { Run } from './run.js';
import { runSeeds, sumOf } from './seeds.js';

await runSeeds({
  script: 'sim',
  description: 'Simulates a primary and two replicas under faults; docs/SIMULATOR.md says how.',
  run: (seed, trace) => new Run(seed, trace).run(),
  summary: (all) =>
    `${sumOf(all, (r) => r.faults)} faults, ${sumOf(all, (r) => r.acked)} entries acknowledged, ` +
    `${sumOf(all, (r) => r.snapshots)} snapshots, ` +
    `${Math.round(sumOf(all, (r) => r.virtualMs) / 1_000)} s of cluster time`,
});
