/** The order in which names are listed. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { byName } from '#src/shared/natural-order.js';

const sorted = (names: readonly string[]): string[] => names.toSorted(byName);

describe('names', () => {
  test.each([
    [
      ['space10', 'space2', 'space1'],
      ['space1', 'space2', 'space10'],
    ],
    [
      ['t-2-b', 't-10-a', 't-2-a'],
      ['t-2-a', 't-2-b', 't-10-a'],
    ],
    [
      ['b1', 'a10', 'a', 'a9'],
      ['a', 'a9', 'a10', 'b1'],
    ],
    [
      ['v007', 'v7', 'v08', 'v6'],
      ['v6', 'v007', 'v7', 'v08'],
    ],
    [['x99999999999999999999', 'x100000000000000000000'], undefined],
    [
      ['2', '10', 'ten', '-'],
      ['-', '2', '10', 'ten'],
    ],
  ])('%j', (given, wanted) => {
    expect(sorted(given)).toEqual(wanted ?? given);
    expect(sorted(given.toReversed())).toEqual(wanted ?? given);
  });

  test('numbers behind one word stand as numbers do', () => {
    fc.assert(
      fc.property(fc.uniqueArray(fc.nat()), (numbers) => {
        const wanted = numbers.toSorted((a, b) => a - b).map((n) => `space${n}`);
        expect(sorted(numbers.map((n) => `space${n}`))).toEqual(wanted);
      }),
    );
  });

  test('of whatever kind have one order, and differ', () => {
    const name = fc.string({
      unit: fc.constantFrom('a', 'b', '0', '1', '2', '9', '-', '/', ':', 'é', '😀'),
      maxLength: 6,
    });
    fc.assert(
      fc.property(name, name, name, (a, b, c) => {
        expect(byName(a, b) === 0).toBe(a === b);
        expect(Math.sign(byName(a, b))).toBe(-Math.sign(byName(b, a)) + 0);
        if (byName(a, b) <= 0 && byName(b, c) <= 0) expect(byName(a, c)).toBeLessThanOrEqual(0);
      }),
      { numRuns: 2_000 },
    );
  });
});
