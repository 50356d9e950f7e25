/**
 * Two clocks that do not stop together: the monotonic one, which stands still while the machine
 * sleeps, and its uptime, which does not. Where they have gone apart, time has passed that no timer
 * here has noticed, and whoever waits elsewhere may have acted on it (FAULTS row 84).
 */
import os from 'node:os';

export interface Moment {
  /** performance.now() */
  readonly monotonicMs: number;
  readonly uptimeMs: number;
}

export type TwoClocks = () => Moment;

/** Both are read within this, or once more: who was kept off the processor has not slept. */
const READ_WITHIN_MS = 5;
const READS_MAX = 8;
/** The resolution of an uptime in whole seconds, as some systems tell it. */
const COARSE_MS = 1_000;

export const twoClocks: TwoClocks = () => {
  for (let reads = 1; ; reads++) {
    const monotonicMs = performance.now();
    const uptimeMs = os.uptime() * 1_000;
    const isTight = performance.now() - monotonicMs < READ_WITHIN_MS;
    if (isTight || reads === READS_MAX) return { monotonicMs, uptimeMs };
  }
};

/** Whether the clocks have gone apart by more than `mostMs` between these moments. */
export function haveParted(since: Moment, now: Moment, mostMs: number): boolean {
  const isCoarse = since.uptimeMs % COARSE_MS === 0 && now.uptimeMs % COARSE_MS === 0;
  const uptimeMs = now.uptimeMs - since.uptimeMs;
  const apartMs = Math.abs(uptimeMs - (now.monotonicMs - since.monotonicMs));
  return apartMs > mostMs + (isCoarse ? COARSE_MS : 0);
}
