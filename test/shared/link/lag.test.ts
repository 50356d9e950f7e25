import { describe, expect, test } from 'vitest';
import { DurableTimes, rowsEach } from '#src/shared/link/durable-times.js';
import { lagOf } from '#src/shared/link/lag.js';
import { LagHistory } from '../../property/lag-history.js';

const ROWS = rowsEach(1);

/** Ten groups of ten entries behind entry 5, 100 ms and 1,000 bytes each. */
function ten(): DurableTimes {
  const times = new DurableTimes(0);
  for (let i = 1; i <= 10; i++) times.add(10 * i - 9, 10 * i, 1_000, 100 * i, ROWS);
  return times;
}

describe('lag', () => {
  test('is the age of the oldest entry that is not flushed there', () => {
    const times = ten();
    const of = (flushed: number) => lagOf(times, 100, flushed, undefined, true, 2_000);
    expect(of(100)).toEqual({ entries: 0, bytes: 0, ms: 0 });
    expect(of(99)).toEqual({ entries: 1, bytes: 100, ms: 1_000 });
    expect(of(40)).toEqual({ entries: 60, bytes: 6_000, ms: 1_500 });
    expect(lagOf(times, 100, 0, undefined, false, 2_000)).toEqual({
      entries: 100,
      bytes: 10_000,
      ms: 'unknown',
    });
  });

  test('of what was there before is what the log says, unknown before anybody looked', () => {
    const times = new DurableTimes(5);
    times.add(6, 10, 500, 100, ROWS);
    const backlog = { sinceMs: -500, bytes: 77 };
    expect(lagOf(times, 10, 3, backlog, true, 2_000)).toEqual({
      entries: 7,
      bytes: 577,
      ms: 2_500,
    });
    expect(lagOf(times, 10, 3, undefined, true, 2_000).ms).toBe('unknown');
    expect(lagOf(new DurableTimes(5), 5, 3, undefined, true, 2_000).ms).toBe('unknown');
    // Shipped to nobody meanwhile: what is known now does not follow what was known.
    times.add(21, 25, 500, 200, ROWS);
    expect(lagOf(times, 25, 12, undefined, true, 2_000).ms).toBe('unknown');
    expect(lagOf(times, 25, 20, undefined, true, 2_000)).toEqual({
      entries: 5,
      bytes: 500,
      ms: 1_800,
    });
  });

  test('forgets what all have flushed, and what was taken back', () => {
    const times = ten();
    times.forget(45);
    expect(times.rows).toBe(6);
    expect(lagOf(times, 100, 45, undefined, true, 2_000)).toEqual({
      entries: 55,
      bytes: 5_500,
      ms: 1_500,
    });
    times.takeBack(81);
    times.add(81, 90, 10, 1_900, ROWS);
    expect(lagOf(times, 90, 80, undefined, true, 2_000)).toEqual({
      entries: 10,
      bytes: 10,
      ms: 100,
    });
    times.forget(90);
    expect(times.rows).toBe(0);
    times.add(91, 91, 10, 1_950, ROWS);
    expect(lagOf(times, 91, 90, undefined, true, 2_000)).toEqual({ entries: 1, bytes: 10, ms: 50 });
  });

  // `npm run lag-error` is the long run; its figures are in bench/results/lag-error.json.
  test('is off by a twentieth or 100 ms at most, whatever has happened', () => {
    for (let seed = 1; seed <= 150; seed++) LagHistory.ofNode(seed);
  });

  test('keeps a bounded number of rows, however many spaces and groups there are', () => {
    for (const spaces of [1, 2_048, 16_384, 1_000_000]) {
      const times = new DurableTimes(0);
      const most = rowsEach(spaces);
      let rows = 0;
      for (let i = 1; i <= 50_000; i++) {
        times.add(i, i, 100, i * 20, most);
        rows = Math.max(rows, times.rows);
      }
      // As many at once as one fdatasync makes durable.
      for (let i = 50_001; i <= 60_000; i++) {
        times.add(i, i, 100, 1_000_000, most);
        rows = Math.max(rows, times.rows);
      }
      const { sinceMs, bytes } = times.behind(59_999)!;
      expect(Math.round(sinceMs / 1_000)).toBe(1_000);
      expect(bytes).toBe(100);
      expect(rows).toBeLessThanOrEqual(most);
      expect(most * spaces).toBeLessThanOrEqual(Math.max(2 ** 20, 48 * spaces));
    }
  });
});
