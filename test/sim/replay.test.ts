import { spawnSync } from 'node:child_process';
import path from 'node:path';
import { expect, test } from 'vitest';

/** All that happens in seeds, but not how long they took; and behind it how many they were. */
function traced(sim: string, from: number, seeds: number): string[] {
  const file = path.join(import.meta.dirname, sim);
  const args = ['--import', 'tsx', file, '--seeds', `${seeds}`, '--from', `${from}`, '--trace'];
  const { stdout } = spawnSync('node', args, { encoding: 'utf8', maxBuffer: 64 * 1024 * 1024 });
  return stdout
    .trimEnd()
    .split('\n')
    .filter((line) => !/ in [\d.]+ s$/.test(line));
}

test.each([
  'sim.ts',
  'roles-sim.ts',
  '../property/property.ts',
])('a seed of %s replays exactly, and nothing of the one before it goes on', (sim) => {
  const both = traced(sim, 20, 2);
  const alone = traced(sim, 21, 1);
  expect([both.pop(), alone.pop()]).toEqual(['2 seeds ran, 2 passed', '1 seeds ran, 1 passed']);
  expect(alone.at(-1)).toMatch(/^{"seed":21,/);
  expect(both.slice(-alone.length)).toEqual(alone);
  expect(both.at(-alone.length - 1)).toMatch(/^{"seed":20,/);
}, 180_000);

test.each([
  [910085, 'places in which several spaces stood are filled so that all has room'],
  [920062, 'where a replica stands is not judged by what was freed meanwhile'],
])('seed %i of sim.ts, which failed once, passes: %s', (seed) => {
  expect(traced('sim.ts', seed, 1).at(-1)).toBe('1 seeds ran, 1 passed');
});

test('every mutant has its place in the code', () => {
  const file = path.join(import.meta.dirname, 'mutants.ts');
  const args = ['--import', 'tsx', file, '--check'];
  expect(spawnSync('node', args, { encoding: 'utf8' })).toMatchObject({ status: 0, stderr: '' });
});
