/** `npm run property -- --seeds N [--from SEED]`: a node against a model, on a nasty disk. */
import { runSeeds, sumsOf } from '../sim/seeds.js';
import { PropertyRun } from './run.js';

await runSeeds({
  script: 'property',
  description: 'Any operations, any options, any end, on a nasty disk; docs/SIMULATOR.md says how.',
  result: 'property.json',
  run: (seed, trace) => new PropertyRun(seed, trace).run(),
  figures: (all) => {
    const operations: Record<string, number> = {};
    for (const { counts } of all) {
      for (const [name, n] of Object.entries(counts))
        operations[name] = (operations[name] ?? 0) + n;
    }
    return { acknowledged: sumsOf(all, ['acked']).acked, operations };
  },
  summary: ({ acknowledged }) => `${acknowledged} entries acknowledged`,
});
