/** Lag of one (space, replica): entries, bytes, ms, from what main measured (DESIGN 7). */
import type { Sequence } from '../position.js';
import type { DurableTimes } from './durable-times.js';

export type ReplicaStatus = 'healthy' | 'lagging' | 'degraded' | 'failed';

export interface Lag {
  readonly entries: number;
  /** Of the entries; off by at most a twentieth, or by the group in which the replica stands. */
  readonly bytes: number;
  /**
   * Off by at most a twentieth, or 100 ms. `unknown`: it was never connected, or nobody has
   * compared its position yet.
   */
  readonly ms: number | 'unknown';
}

/** What stood in the log before `DurableTimes` knows of it, as far as a replica lacked it then. */
export interface Backlog {
  /** Monotonic time at which its first entry had become durable. */
  readonly sinceMs: number;
  readonly bytes: number;
}

const NO_LAG: Lag = { entries: 0, bytes: 0, ms: 0 };

/** The rule: now minus the moment the oldest entry not yet flushed there became durable here. */
export function lagOf(
  times: DurableTimes,
  durable: Sequence,
  flushed: Sequence,
  backlog: Backlog | undefined,
  wasConnected: boolean,
  nowMs: number,
): Lag {
  const entries = Math.max(0, durable - flushed);
  if (!wasConnected)
    return { entries, bytes: times.behind(flushed)?.bytes ?? times.bytes, ms: 'unknown' };
  if (entries === 0) return NO_LAG;
  const behind = times.behind(flushed);
  if (behind) return { entries, bytes: behind.bytes, ms: Math.max(0, nowMs - behind.sinceMs) };
  const bytes = (backlog?.bytes ?? 0) + times.bytes;
  return { entries, bytes, ms: backlog ? Math.max(0, nowMs - backlog.sinceMs) : 'unknown' };
}
