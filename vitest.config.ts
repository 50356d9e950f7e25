import { configDefaults, defineConfig } from 'vitest/config';
import { leftOut, NEEDS } from './test/support/needs.js';

// Left out where the machine lacks it and nobody insists; said behind everything else.
const missing = process.env.CI ? [] : Object.values(NEEDS).filter((need) => !need.isHere());
process.once('exit', () => {
  for (const line of leftOut(missing)) console.log(line);
});

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    exclude: [...configDefaults.exclude, ...missing.flatMap((need) => need.files)],
    // Processes, sockets and two cores: one file at a time.
    pool: 'forks',
    fileParallelism: false,
    testTimeout: 60_000,
    hookTimeout: 60_000,
  },
});
