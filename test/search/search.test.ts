import { describe, expect, test } from 'vitest';
import { explore } from './explore.js';
import { BASE, PLANS } from './plans.js';
import { MUTANTS, PRODUCT } from './rules.js';
import { hunt, search } from './search.js';

describe('every interleaving of a small cluster, over the decisions of src/shared', () => {
  test.each([PLANS[0]!, PLANS[5]!].map((plan) => [plan.what, plan] as const))('%s', (_, plan) => {
    const { end, violation, steps, states } = search(plan, 50);
    expect({ end, violation, steps }).toEqual({ end: 'exhausted', violation: '', steps: [] });
    expect(states).toBeGreaterThan(500);
  });

  test('like nodes may change places: the same is found with half the states', () => {
    const config = { ...BASE, founders: [0b111], changes: 0 };
    const bounds = { seconds: 50, states: 1e6, healEvery: 0 };
    const all = explore(config, PRODUCT, { ...bounds, alike: [] });
    const merged = explore(config, PRODUCT, { ...bounds, alike: [[1, 2]] });
    expect([all.end, merged.end]).toEqual(['exhausted', 'exhausted']);
    expect(merged.states).toBeLessThan(0.55 * all.states);
    expect(merged.depth).toBe(all.depth);
  });

  test.each([
    ['lost', { founders: [0b111], changes: 0 }],
    ['late', { founders: [0b111], changes: 0, late: true }],
  ])('what nothing asks for is forgotten, messages %s: the same logs, fewer states', (_, of) => {
    const bounds = { seconds: 50, states: 1e6, healEvery: 0, alike: [] };
    const all = explore({ ...BASE, ...of }, PRODUCT, { ...bounds, isMerged: false });
    const merged = explore({ ...BASE, ...of }, PRODUCT, bounds);
    expect([all.end, merged.end]).toEqual(['exhausted', 'exhausted']);
    expect(merged.states).toBeLessThan(0.9 * all.states);
    expect(merged.logs).toBe(all.logs);
  });
});

describe('a bug in one decision is found', () => {
  test.each(MUTANTS.map((mutant) => [mutant.what, mutant] as const))('%s', (_, mutant) => {
    const { end, violation, steps } = hunt(mutant);
    expect(end).toBe('violation');
    expect(violation).not.toBe('');
    expect(steps.length).toBeGreaterThan(1);
  });
});
