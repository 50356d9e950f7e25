/** What `npm run bench -- compare` calls noise, and what it does not. */

import fs from 'node:fs';
import path from 'node:path';
import { afterEach, describe, expect, test } from 'vitest';
import { compare, compareKept, judge, NotComparable } from '../../bench/compare.js';
import { inTurn } from '../../bench/in-turn.js';
import type { Plan } from '../../bench/plan.js';
import { type SavedResult, summarise } from '../../bench/result.js';
import { makeFolder, removeFolder } from '../support/cluster.js';

/** A kept result of one case with these runs. */
function kept(entriesPerSecond: readonly number[], appendP99Ms: readonly number[]): SavedResult[] {
  const labels = { name: 'latency', case: 'warm', payloadBytes: 256, replicas: 2, spaces: 1 };
  const runs = entriesPerSecond.map((rate, i) => ({
    entriesPerSecond: rate,
    appendP99Ms: appendP99Ms[i]!,
  }));
  const row = summarise({ ...labels, tmpfs: false }, runs);
  const machine = { cpu: 'x', cores: 2, memoryBytes: 1, loadBefore: 0 };
  return [{ ...row, machine, node: 'v20', commit: 'c', dirty: false, date: '2026-11-27' }];
}

const verdicts = (a: SavedResult[], b: SavedResult[]): Record<string, string> =>
  Object.fromEntries(compareKept(a, b).map(({ figure, verdict }) => [figure, verdict]));

describe('two checkouts in turn', () => {
  test('B is worse where every round says so, by more than A differs from itself', () => {
    const { ratio, verdict } = judge('entriesPerSecond', [
      [100, 89, 101],
      [99, 90, 100],
      [102, 91, 99],
      [100, 88, 100],
      [101, 90, 100],
    ]);
    expect(verdict).toBe('worse');
    expect(ratio[0]).toBeCloseTo(0.9, 1);
    expect(ratio[1]).toBeLessThan(ratio[2]);
  });

  test('a drift of the machine is no difference: B stands between two runs of A', () => {
    const drifting = [1, 2, 3, 4, 5].map((n): [number, number, number] => {
      const slow = 100 / 1.2 ** (2 * n);
      return [slow, slow / 1.2, slow / 1.44];
    });
    expect(judge('entriesPerSecond', drifting).ratio[0]).toBeCloseTo(1);
    expect(judge('entriesPerSecond', drifting).verdict).toBe('noise');
  });

  test('what A does to itself is noise, however one-sided B is', () => {
    const wild = [0, 1, 2, 3, 4].map((): [number, number, number] => [100, 95, 150]);
    expect(judge('entriesPerSecond', wild).verdict).toBe('noise');
  });

  test('one round of five that says the opposite is enough to say nothing', () => {
    const rounds = [0, 1, 2, 3, 4].map((n): [number, number, number] => [
      100,
      n === 3 ? 101 : 80,
      100,
    ]);
    expect(judge('entriesPerSecond', rounds).verdict).toBe('noise');
    const eight = [...rounds, ...rounds.filter(([, b]) => b < 100)];
    expect(judge('entriesPerSecond', eight).verdict).toBe('worse');
  });

  test('of a time or a cost less is better', () => {
    const rounds = [0, 1, 2, 3, 4].map((): [number, number, number] => [10, 5, 10]);
    expect(judge('appendP99Ms', rounds).verdict).toBe('better');
    expect(judge('primaryCpuMicrosPerEntry', rounds).verdict).toBe('better');
    expect(judge('entriesPerSecond', rounds).verdict).toBe('worse');
  });
});

describe('two kept results', () => {
  test('their ranges must not meet', () => {
    const a = kept([100, 110, 120], [5, 6, 7]);
    expect(verdicts(a, kept([115, 130, 140], [1, 2, 3]))).toEqual({
      entriesPerSecond: 'noise',
      appendP99Ms: 'better',
    });
    expect(verdicts(a, kept([60, 70, 80], [8, 9, 10]))).toEqual({
      entriesPerSecond: 'worse',
      appendP99Ms: 'worse',
    });
  });

  test('a single run tells nothing', () => {
    expect(verdicts(kept([100], [5]), kept([300], [1]))).toEqual({
      entriesPerSecond: 'noise',
      appendP99Ms: 'noise',
    });
  });

  test('cases that are in one of them alone are left out; none in both is an error', () => {
    const other = kept([100, 110], [5, 6]).map((row) => ({ ...row, case: 'fresh' }));
    expect(() => compareKept(kept([100, 110], [5, 6]), other)).toThrow('no case is in both');
  });
});

test('in turn: each goes first in every second pair', async () => {
  const order: string[] = [];
  const run = (name: string) => async (n: number) => {
    order.push(name);
    return `${name}${n}`;
  };
  const pairs = await inTurn(3, run('a'), run('b'));
  expect(order).toEqual(['a', 'b', 'b', 'a', 'a', 'b']);
  expect(pairs).toEqual([
    ['a1', 'b1'],
    ['a2', 'b2'],
    ['a3', 'b3'],
  ]);
});

describe('what cannot be compared is said in one line', () => {
  const folder = makeFolder();
  const plan = { runs: 1, progress: () => undefined } as unknown as Plan;
  const root = path.join(import.meta.dirname, '../..');
  afterEach(() => removeFolder(folder));

  test.each([
    ['no results of a benchmark', '{"seeds": 5}', 'no result of a benchmark'],
    ['rows of something else', '[{"kills": 3}, null]', 'no result of a benchmark'],
    ['no JSON', 'hello', 'no result of a benchmark'],
  ])('a file with %s', async (_, text, why) => {
    fs.mkdirSync(folder, { recursive: true });
    const file = path.join(folder, 'kept.json');
    fs.writeFileSync(file, text);
    const failed = await compare(file, file, [], {}, plan).catch((error) => error);
    expect(failed).toBeInstanceOf(NotComparable);
    expect(failed.message).toContain(why);
  });

  test.each([
    ['a file that is not there', 'nowhere.json', 'nowhere.json'],
    ['a checkout and none', root, 'nowhere.json'],
  ])('%s', async (_, a, b) => {
    expect(await compare(a, b, [], {}, plan).catch((e) => e)).toBeInstanceOf(NotComparable);
  });

  test('a benchmark that measures this checkout, whatever it is told to measure', async () => {
    let runs = 0;
    const here = async () => {
      runs++;
      return kept([1], [1]);
    };
    const failed = await compare(root, root, ['here'], { here }, plan).catch((error) => error);
    expect(failed).toBeInstanceOf(NotComparable);
    expect(failed.message).toBe('here measures this checkout only');
    expect(runs).toBe(1);
  });
});
