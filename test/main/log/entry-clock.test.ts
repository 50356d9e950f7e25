import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { EntryClock, IdleTimer } from '#src/main/log/entry-clock.js';
import { SpaceRows } from '#src/main/log/space-rows.js';

const SLOT = 1;

afterEach(() => {
  vi.useRealTimers();
  vi.restoreAllMocks();
});

/** What is stamped into the space's entries. */
function staged(rows: SpaceRows): bigint {
  const low = BigInt.asUintN(32, BigInt(rows.timeLow(SLOT)));
  return (BigInt(rows.timeHigh(SLOT)) << 32n) | low;
}

test('over nine seconds the low half goes round twice, and no stamp lags behind the clock', () => {
  const now = vi.spyOn(Date, 'now');
  const clock = new EntryClock();
  const rows = new SpaceRows(2);
  const from = 1_790_000_000_000;
  for (let ms = from; ms < from + 9_000; ms += 7) {
    now.mockReturnValue(ms);
    clock.nextTurn();
    clock.stamp(rows, SLOT);
    expect(staged(rows)).toBe(BigInt(ms) * 1_000_000n);
  }
  // The wall clock goes back: the space's time does not.
  const last = staged(rows);
  for (let ms = from + 8_000; ms > from; ms -= 501) {
    now.mockReturnValue(ms);
    clock.nextTurn();
    clock.stamp(rows, SLOT);
    expect(staged(rows)).toBe(last);
  }
});

describe('idle', () => {
  beforeEach(
    () => void vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'performance'] }),
  );

  test('a log that goes on makes no timer for each group, and is idle once after the last', () => {
    const made = vi.spyOn(globalThis, 'setTimeout');
    let idle = 0;
    const timer = new IdleTimer(50, () => idle++);
    for (let ms = 0; ms < 1_000; ms++) {
      timer.arm(performance.now());
      vi.advanceTimersByTime(1);
    }
    expect(idle).toBe(0);
    expect(made.mock.calls.length).toBeLessThanOrEqual(1_000 / 49 + 1);
    vi.advanceTimersByTime(48);
    expect(idle).toBe(0);
    vi.advanceTimersByTime(1);
    expect(idle).toBe(1);
    vi.advanceTimersByTime(10_000);
    expect(idle).toBe(1);
    // And again, unless it is told not to.
    timer.arm(performance.now());
    vi.advanceTimersByTime(50);
    expect(idle).toBe(2);
    timer.arm(performance.now());
    timer.disarm();
    vi.advanceTimersByTime(10_000);
    expect(idle).toBe(2);
  });
});
