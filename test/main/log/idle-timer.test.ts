import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { IdleTimer } from '#src/main/log/entry-clock.js';

beforeEach(() => void vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'performance'] }));
afterEach(() => void vi.useRealTimers());

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
