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

/** What measures memory or a rate, or keeps the machine busy by itself: one file at a time. */
const ALONE = [
  'test/crash/{kill,soak,campaign}.test.ts',
  'test/hostile/hostile.test.ts',
  'test/deploy/{alerts,causes}.test.ts',
  'test/scenarios/{mass-promotion,many-spaces,compression}.test.ts',
];
const exclude = [...configDefaults.exclude, ...missing.flatMap((need) => need.files)];
// Each file in a process of its own: memory, open files and flags are then its own.
// What is built is loaded by Node itself, as by a host: at its speed, and not translated again.
const each = {
  pool: 'forks',
  testTimeout: 60_000,
  hookTimeout: 60_000,
  server: { deps: { external: [/\/dist\//] } },
} as const;

export default defineConfig({
  test: {
    sequence: { sequencer: QuickFirst },
    projects: [
      {
        // Most wait for disks, links and timers: three files at a time have room on two cores.
        test: {
          ...each,
          name: 'side by side',
          include: ['test/**/*.test.ts'],
          exclude: [...exclude, ...ALONE],
          maxWorkers: 3,
          sequence: { groupOrder: 1 },
        },
      },
      {
        test: {
          ...each,
          name: 'alone',
          include: ALONE,
          exclude,
          maxWorkers: 1,
          sequence: { groupOrder: 2 },
        },
      },
    ],
  },
});
