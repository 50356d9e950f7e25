import fc from 'fast-check';
import { expect, test } from 'vitest';
import { splitOf } from '#src/main/repair/split.js';

const sum = (sizes: readonly number[], count: number): number =>
  sizes.slice(0, count).reduce((all, one) => all + one, 0);

/** All ways to take some of the first entries of each. */
function ways(sizes: readonly (readonly number[])[]): number[][] {
  return sizes.reduce<number[][]>(
    (found, own) =>
      found.flatMap((way) => Array.from({ length: own.length + 1 }, (_, n) => [...way, n])),
    [[]],
  );
}

test('not as much as finds room of the first, where the second has what fits', () => {
  // All of the first leave 20, and 50 would lack room in the next place.
  expect(splitOf([[40, 40], [50]], 100, 65)).toEqual([0, 0]);
  expect(splitOf([[40, 40], [60]], 100, 65)).toEqual([1, 1]);
  expect(splitOf([[100], [100]], 100, 65)).toEqual([0, 1]);
  expect(splitOf([[], []], 0, 65)).toEqual([0, 0]);
  expect(splitOf([[10], [20]], 60, 65)).toBeUndefined();
});

test('as much is used up as any way could', () => {
  const sizes = fc.array(fc.array(fc.integer({ min: 1, max: 40 }), { maxLength: 5 }), {
    minLength: 1,
    maxLength: 3,
  });
  fc.assert(
    fc.property(sizes, fc.integer({ min: 0, max: 200 }), (of, room) => {
      const takes = (way: readonly number[]): number =>
        way.reduce((all, count, i) => all + sum(of[i]!, count), 0);
      const fits = (bytes: number): boolean => bytes === room || room - bytes >= 7;
      const most = Math.max(
        -1,
        ...ways(of)
          .map(takes)
          .filter((bytes) => bytes <= room)
          .filter(fits),
      );
      const found = splitOf(of, room, 7);
      expect(found ? takes(found) : -1).toBe(most);
    }),
    { numRuns: 500 },
  );
});

test('what would take too long is not looked through', () => {
  const many = Array.from({ length: 2_000 }, () => 101);
  expect(splitOf([many, many.map((one) => one + 1)], 200_000, 65)).toBeUndefined();
});
