import { spawnSync } from 'node:child_process';
import { configDefaults, defineConfig } from 'vitest/config';

// Tests against a real etcd: left out, and said so, where there is none and nobody insists.
const hasEtcd = spawnSync('etcd', ['--version']).status === 0;
const exclude = [...configDefaults.exclude];
if (!hasEtcd && !process.env.CI) {
  console.warn('test/etcd is LEFT OUT: etcd is not installed (Debian: apt-get install etcd-server)');
  exclude.push('test/etcd/**');
}

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    exclude,
    // Processes, sockets and two cores: one file at a time.
    pool: 'forks',
    fileParallelism: false,
    testTimeout: 60_000,
    hookTimeout: 60_000,
  },
});
