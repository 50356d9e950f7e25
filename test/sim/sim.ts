/** `npm run sim -- --seeds N [--from SEED]`: simulates whole clusters, one seed after the other. */
import { Run } from './run.js';
import { runSeeds, sumsOf } from './seeds.js';

await runSeeds({
  script: 'sim',
  description: 'Simulates a primary and two replicas under faults; docs/SIMULATOR.md says how.',
  result: 'sim.json',
  run: (seed, trace) => new Run(seed, trace).run(),
  figures: (all) => {
    const tokens = sumsOf(all, ['conditions', 'conflicts', 'awaited']);
    const { virtualMs, ...sums } = sumsOf(all, ['faults', 'acked', 'snapshots', 'virtualMs']);
    const { faults, acked: acknowledged, snapshots } = sums;
    const clusterSeconds = Math.round(virtualMs / 1_000);
    return { faults, acknowledged, snapshots, ...tokens, clusterSeconds };
  },
  summary: (sums) =>
    `${sums.faults} faults, ${sums.acknowledged} entries acknowledged, ` +
    `${sums.snapshots} snapshots, ${sums.conditions} by a condition and ${sums.conflicts} ` +
    `refused by one, ${sums.awaited} waits, ${sums.clusterSeconds} s of cluster time`,
});
