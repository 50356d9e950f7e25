/** Lag of one (space, replica): entries, bytes, ms, from what main measured (DESIGN 7). */
import type { Sequence } from './position.js';

export type ReplicaStatus = 'healthy' | 'lagging' | 'degraded' | 'failed';

export interface Lag {
  readonly entries: number;
  /** At most this many bytes of entries; exact to the group in which the replica stands. */
  readonly bytes: number;
  /** `unknown`: it was never connected, or nobody has compared its position yet. */
  readonly ms: number | 'unknown';
}

/** What stood in the log before the node was opened, as far as a replica lacked it then. */
export interface Backlog {
  /** Monotonic time at which its first entry had become durable. */
  readonly sinceMs: number;
  readonly bytes: number;
}

const NO_LAG: Lag = { entries: 0, bytes: 0, ms: 0 };

/**
 * The rule: now minus the moment the oldest entry not yet flushed there became durable here.
 * @param times rows of (last sequence, monotonic ms, bytes up to it), ascending
 * @param durableBytes bytes up to `durable` on the same scale
 * @param openedAt the last sequence when the node was opened: `times` knows of none before
 */
export function lagOf(
  times: readonly number[],
  durable: Sequence,
  durableBytes: number,
  openedAt: Sequence,
  flushed: Sequence,
  backlog: Backlog | undefined,
  wasConnected: boolean,
  nowMs: number,
): Lag {
  const entries = Math.max(0, durable - flushed);
  if (!wasConnected) return { entries, bytes: durableBytes, ms: 'unknown' };
  if (entries === 0) return NO_LAG;
  if (flushed < openedAt) {
    const bytes = (backlog?.bytes ?? 0) + durableBytes;
    return { entries, bytes, ms: backlog ? Math.max(0, nowMs - backlog.sinceMs) : 'unknown' };
  }
  let before = 0;
  for (let i = 0; i < times.length; i += 3) {
    if (times[i]! > flushed) {
      return { entries, bytes: durableBytes - before, ms: Math.max(0, nowMs - times[i + 1]!) };
    }
    before = times[i + 2]!;
  }
  return { entries, bytes: durableBytes - before, ms: 0 };
}

const TIMES_KEPT = 32;
const TIME_FIELDS = 3;

/**
 * Keeps (last sequence, time, bytes up to it) for `lagOf`. When full, every other row goes, the
 * earlier time of two staying for both: lag is then overstated by at most that step, never
 * understated.
 */
export function rememberTime(
  times: number[],
  sequence: Sequence,
  nowMs: number,
  bytes: number,
): void {
  if (times.length >= TIME_FIELDS * TIMES_KEPT) {
    let to = 0;
    for (let from = 0; from < times.length; from += 2 * TIME_FIELDS) {
      times[to++] = times[from + TIME_FIELDS]!;
      times[to++] = times[from + 1]!;
      times[to++] = times[from + TIME_FIELDS + 2]!;
    }
    times.length = to;
  }
  times.push(sequence, nowMs, bytes);
}
