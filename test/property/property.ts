/** `npm run property -- --seeds N [--from SEED]`: a node against a model, on a nasty disk. */
import { runSeeds, sumOf } from '../sim/seeds.js';
import { PropertyRun } from './run.js';

await runSeeds({
  script: 'property',
  description: 'Any operations, any options, any end, on a nasty disk; docs/SIMULATOR.md says how.',
  result: 'property.json',
  run: (seed, trace) => new PropertyRun(seed, trace).run(),
  summary: (all) => `${sumOf(all, (r) => r.acked)} entries acknowledged`,
  figures: (all) => {
    const counts: Record<string, number> = {};
    for (const report of all) {
      for (const [name, n] of Object.entries(report.counts)) counts[name] = (counts[name] ?? 0) + n;
    }
    return { acknowledged: sumOf(all, (r) => r.acked), operations: counts };
  },
});
