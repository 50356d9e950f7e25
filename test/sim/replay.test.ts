import { spawnSync } from 'node:child_process';
import path from 'node:path';
import { expect, test } from 'vitest';

/**
 * All that happens in two seeds, but not how long they took: the second shows that nothing of the
 * first goes on.
 */
function traced(sim: string): string[] {
  const file = path.join(import.meta.dirname, sim);
  const args = ['--import', 'tsx', file, '--seeds', '2', '--from', '20', '--trace'];
  const { stdout } = spawnSync('node', args, { encoding: 'utf8', maxBuffer: 64 * 1024 * 1024 });
  return stdout.split('\n').filter((line) => !/ in [\d.]+ s$/.test(line));
}

test.each([
  'sim.ts',
  'roles-sim.ts',
  '../property/property.ts',
])('a seed of %s replays exactly', (sim) => {
  const first = traced(sim);
  expect(first.at(-2)).toBe('2 seeds ran, 2 passed');
  expect(traced(sim)).toEqual(first);
}, 180_000);

test('every mutant has its place in the code', () => {
  const file = path.join(import.meta.dirname, 'mutants.ts');
  const args = ['--import', 'tsx', file, '--check'];
  expect(spawnSync('node', args, { encoding: 'utf8' })).toMatchObject({ status: 0, stderr: '' });
});
