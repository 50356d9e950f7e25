import { expect, test } from 'vitest';
import { Flight } from '#src/shared/link/flight.js';

test('what goes in comes out in its order, however often it grows and goes round', () => {
  const flight = new Flight();
  const naive: [number, number, number, number][] = [];
  let state = 7;
  const chance = (most: number): number => {
    state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 0;
    return state % most;
  };
  for (let n = 1; n <= 20_000; n++) {
    const goesIn = chance(100) < (n < 12_000 ? 55 : 40);
    if (goesIn) {
      const row: [number, number, number, number] = [chance(1e5), 2 ** 40 + n, chance(4096), n];
      flight.add(...row);
      naive.push(row);
    } else if (naive.length > 0) {
      const [handle, last, , sentMs] = naive.shift()!;
      expect([flight.handle, flight.last, flight.oldestMs]).toEqual([handle, last, sentMs]);
      flight.shift();
    }
    expect(flight.length).toBe(naive.length);
  }
  expect(flight.bytes).toBe(naive.reduce((sum, [, , bytes]) => sum + bytes, 0));
  flight.clear();
  expect([flight.length, flight.bytes]).toEqual([0, 0]);
  flight.add(1, 2, 3, 4);
  expect([flight.length, flight.bytes, flight.last]).toEqual([1, 3, 2]);
});
