/** Waits that end by a time-out hear first what has come while the loop was blocked. */
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { Pings } from '#src/main/follow/pings.js';
import { lateAfter } from '#src/main/runtime/deadline.js';

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

beforeEach(() => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
});
afterEach(() => {
  vi.useRealTimers();
});

test('what is late is told behind the rest of its turn, unless it is called off', async () => {
  const late = vi.fn();
  lateAfter(100, late);
  vi.advanceTimersByTime(99);
  await turn();
  vi.advanceTimersByTime(1);
  expect(late).not.toHaveBeenCalled();
  await turn();
  expect(late).toHaveBeenCalledOnce();
  const never = vi.fn();
  lateAfter(100, never)();
  const callOff = lateAfter(100, never);
  vi.advanceTimersByTime(1_000);
  callOff();
  await turn();
  expect(never).not.toHaveBeenCalled();
});

test('FAULT-26 a pong that lay there while the loop was blocked is one', async () => {
  const pings = new Pings();
  const there = pings.answered(1_000);
  vi.advanceTimersByTime(5_000);
  pings.pong();
  expect(await there).toBe(true);
  const silent = pings.answered(1_000);
  vi.advanceTimersByTime(5_000);
  expect(await silent).toBe(false);
  pings.pong();
});
