import { configDefaults, defineConfig } from 'vitest/config';
import { BaseSequencer, type TestSpecification } from 'vitest/node';
import { leftOut, NEEDS } from './test/support/needs.js';

// Left out where the machine lacks it and nobody insists; said behind everything else.
const missing = process.env.CI ? [] : Object.values(NEEDS).filter((need) => !need.isHere());
process.once('exit', () => {
  for (const line of leftOut(missing)) console.log(line);
});

/** Without processes and disks: over in seconds, and what they find is found first. */
const isQuick = ({ moduleId }: TestSpecification): boolean =>
  /\/test\/(shared|workers|tidy)/.test(moduleId);

class QuickFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const sorted = await super.sort(files);
    return [...sorted.filter(isQuick), ...sorted.filter((file) => !isQuick(file))];
  }
}

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    exclude: [...configDefaults.exclude, ...missing.flatMap((need) => need.files)],
    // Most wait for disks, links and timers: two files at a time have room on two cores.
    pool: 'forks',
    maxWorkers: 2,
    sequence: { sequencer: QuickFirst },
    testTimeout: 60_000,
    hookTimeout: 60_000,
  },
});
