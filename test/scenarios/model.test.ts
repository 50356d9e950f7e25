/**
 * The property test (test/property), some seeds of it, and power losses in each fsync mode.
 * ENGRAM_TEST_SEED=<seed> repeats a run, ENGRAM_TEST_RUNS asks for more of them.
 */
import { spawnSync } from 'node:child_process';
import path from 'node:path';
import { expect, test } from 'vitest';

const SEED = Number(process.env.ENGRAM_TEST_SEED ?? Math.floor(Math.random() * 2 ** 31));
const RUNS = Number(process.env.ENGRAM_TEST_RUNS ?? 8);
const ROOT = path.join(import.meta.dirname, '../..');

/** Virtual time replaces the clock of a process: so it is one of its own. */
function run(script: string, ...options: (string | number)[]): string {
  const args = ['--import', 'tsx', path.join('test/property', script), ...options.map(String)];
  const { stdout, stderr, status } = spawnSync('node', args, { cwd: ROOT, encoding: 'utf8' });
  expect(status, `${stdout}${stderr}`).toBe(0);
  return stdout;
}

test(`against a model, seed ${SEED}`, () => {
  const said = run('property.ts', '--seeds', RUNS, '--from', SEED);
  expect(said).toContain(`${RUNS} seeds ran, ${RUNS} passed`);
}, 180_000);

test(`power losses in each fsync mode, seed ${SEED}`, () => {
  const said = run('power-loss.ts', '--mode', 'all', '--losses', RUNS, '--from', SEED);
  for (const mode of ['per-batch', 'per-write', 'timer', 'none']) {
    expect(said).toMatch(new RegExp(`^${mode}: \\d+ power losses`, 'm'));
  }
}, 180_000);
