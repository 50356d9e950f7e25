/** Campaigns: which process a seed runs in, what comes of them all, and the seed that ends one. */
import { spawnSync } from 'node:child_process';
import path from 'node:path';
import { expect, test } from 'vitest';

const SIMULATOR = path.join(import.meta.dirname, '../support/fake-simulator.ts');

interface Campaign {
  readonly status: number | null;
  readonly lines: string[];
  readonly seeds: number[];
  readonly processes: number;
  /** Of the seeds: those that ran in a child. */
  readonly children: number;
}

function campaign(...args: string[]): Campaign {
  const { status, stdout } = spawnSync('node', ['--import', 'tsx', SIMULATOR, ...args], {
    encoding: 'utf8',
  });
  const lines = stdout.trimEnd().split('\n');
  const [, figures] = /^(\{.*\}) in [\d.]+ s$/.exec(lines.at(-2)!)!;
  return { status, lines, ...JSON.parse(figures!) };
}

function seedsFrom(from: number, count: number): number[] {
  return Array.from({ length: count }, (_, i) => from + i);
}

test('many seeds run a hundred a process, each of them once', () => {
  const { status, lines, ...all } = campaign('--seeds', '250', '--from', '1200');
  expect(all).toEqual({ seeds: seedsFrom(1_200, 250), processes: 3, children: 250 });
  expect([status, lines.at(-1)]).toEqual([0, '250 seeds ran, 250 passed']);
});

test('processes side by side share the seeds', () => {
  const { status, lines, ...all } = campaign('--seeds', '50', '--from', '1', '--jobs', '3');
  expect(all).toEqual({ seeds: seedsFrom(1, 50), processes: 3, children: 50 });
  expect([status, lines.at(-1)]).toEqual([0, '50 seeds ran, 50 passed']);
});

test('a few seeds, and those that are traced, run in the process itself', () => {
  const few = campaign('--seeds', '3', '--from', '7');
  expect(few).toMatchObject({ seeds: [7, 8, 9], processes: 1, children: 0 });
  const traced = campaign('--seeds', '120', '--from', '7', '--jobs', '2', '--trace');
  expect(traced).toMatchObject({ processes: 1, children: 0 });
  expect(traced.lines.slice(0, 3)).toMatchObject(['in 7', /^{"seed":7/, 'in 8'].map(matching));
});

test.each([1, 2])('a seed that fails ends a campaign of %d processes', (jobs) => {
  const args = ['--seeds', '100000', '--from', '1000', '--jobs', `${jobs}`];
  const { status, lines, seeds } = campaign(...args);
  expect(status).toBe(1);
  expect(lines[0]).toBe('seed 1150 failed: Error: as was to be');
  expect(lines).toContain('replay: npm run fake -- --seeds 1 --from 1150 --trace');
  expect(seeds).toEqual(expect.arrayContaining(seedsFrom(1_100, 50)));
  expect(seeds.length).toBeLessThan(500);
  expect(lines.at(-1)).toBe(`${seeds.length + 1} seeds ran, ${seeds.length} passed`);
});

test('a seed that ends its process fails', () => {
  const { status, lines, seeds } = campaign('--seeds', '300', '--from', '1400');
  expect(status).toBe(1);
  expect(lines[0]).toBe('seed 1550 failed: its process ended with SIGKILL');
  expect(seeds).toEqual(seedsFrom(1_400, 150));
});

test('a campaign ends when its time is over', () => {
  const { status, seeds } = campaign('--seeds', '100000', '--from', '1560', '--seconds', '2');
  expect(status).toBe(0);
  expect(seeds.length).toBeGreaterThan(0);
  expect(seeds).toEqual(seedsFrom(1_560, seeds.length));
});

function matching(text: string | RegExp): unknown {
  return expect.stringMatching(text);
}
