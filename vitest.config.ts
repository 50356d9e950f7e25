import { configDefaults, defineConfig } from 'vitest/config';
import { BaseSequencer, type TestSpecification } from 'vitest/node';
import { leftOut, NEEDS } from './test/support/needs.js';

// Left out where the machine lacks it and nobody insists; said behind everything else.
const missing = process.env.CI ? [] : Object.values(NEEDS).filter((need) => !need.isHere());
process.once('exit', () => {
  for (const line of leftOut(missing)) console.log(line);
});

/** The longest, in this order: begun last, one of them would keep one core busy and leave the other. */
const LONGEST = [
  'runbook/planned',
  'runbook/unplanned',
  'main/watch/page',
  'scenarios/promotion',
  'sim/replay',
  'etcd/sharing',
  'main/cli/demo',
  'etcd/coordinator-secured',
  'scenarios/replication-faults',
  'scenarios/repair-crash',
  'crash/restarts',
  'crash/kill',
  'main/cli/demo-input',
  'main/cli/demo-show',
  'main/follow/host-silence',
  'main/follow/follow',
  'etcd/failover',
  'etcd/coordinator',
].map((name) => `/test/${name}.test.ts`);

function placeOf({ moduleId }: TestSpecification): number {
  const at = LONGEST.findIndex((name) => moduleId.endsWith(name));
  return at < 0 ? LONGEST.length : at;
}

class LongestFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    return (await super.sort(files)).sort((a, b) => placeOf(a) - placeOf(b));
  }
}

/** Over in seconds, and what they find is found first. They leave nothing behind in their process. */
const QUICK = [
  'test/{shared,workers,support,bench}/**/*.test.ts',
  'test/docs/{licenses,limits,reference}.test.ts',
  'test/main/follow/{frame-reader,told-history}.test.ts',
  'test/main/lead/{coordinated,fencing,refill,role-queue,sharing}.test.ts',
  'test/main/log/{host-entries,waiting-room}.test.ts',
  'test/main/{options/coordinator-options,peer/member-calls,repair/split}.test.ts',
  'test/tidy.test.ts',
];
/** What measures a rate, or keeps the machine busy by itself: one file at a time. */
const ALONE = [
  'test/crash/soak.test.ts',
  'test/hostile/hostile.test.ts',
  'test/scenarios/{mass-promotion,many-spaces}.test.ts',
];
/** What watches a Prometheus of its own for minutes: both wait, most of the time. */
const WATCHED = ['test/deploy/{alerts,causes}.test.ts'];
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
    sequence: { sequencer: LongestFirst },
    projects: [
      {
        // Each by itself would take longer to start than to run.
        test: {
          ...each,
          name: 'quick',
          isolate: false,
          include: QUICK,
          exclude,
          maxWorkers: 2,
          sequence: { groupOrder: 1 },
        },
      },
      {
        // Most wait for disks, links and timers: several at a time have room on two cores. CI, with
        // what drives browsers and Prometheus besides, takes it more slowly.
        test: {
          ...each,
          name: 'side by side',
          include: ['test/**/*.test.ts'],
          exclude: [...exclude, ...QUICK, ...WATCHED, ...ALONE],
          maxWorkers: process.env.CI ? 3 : 5,
          sequence: { groupOrder: 2 },
        },
      },
      {
        test: {
          ...each,
          name: 'watched',
          include: WATCHED,
          exclude,
          maxWorkers: 2,
          sequence: { groupOrder: 3 },
        },
      },
      {
        test: {
          ...each,
          name: 'alone',
          include: ALONE,
          exclude,
          maxWorkers: 1,
          sequence: { groupOrder: 4 },
        },
      },
    ],
  },
});
