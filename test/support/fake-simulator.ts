/** A simulator of nothing: a seed says which process it ran in; some fail, or end theirs. */
import { runSeeds } from '../sim/seeds.js';

await runSeeds({
  script: 'fake',
  description: 'Simulates nothing.',
  result: 'none.json',
  run: async (seed, trace) => {
    trace?.(`in ${seed}`);
    // However fast the machine is: the test that ends by time is over before a seed fails.
    await new Promise((resolve) => setTimeout(resolve, 5));
    if (seed % 1_000 === 150) throw new Error('as was to be');
    if (seed % 1_000 === 550) process.kill(process.pid, 'SIGKILL');
    return { seed, process: process.pid, isChild: process.connected === true };
  },
  figures: (all) => ({
    seeds: all.map(({ seed }) => seed).sort((a, b) => a - b),
    processes: new Set(all.map((report) => report.process)).size,
    children: all.filter(({ isChild }) => isChild).length,
  }),
  summary: (figures) => JSON.stringify(figures),
});
