/** Lag of one (space, replica): entries, bytes, ms, from what main measured (DESIGN 7). */
import type { Sequence } from '../position.js';

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

const TIMES_KEPT = 48;
const TIME_FIELDS = 3;

/**
 * Keeps (last sequence, time, bytes up to it) for `lagOf`. When full, neighbours are brought
 * together, the earlier time staying for both: the older they are, the more of them. So lag is
 * overstated by a part of itself, however long the log has run, and never understated.
 */
export function rememberTime(
  times: number[],
  sequence: Sequence,
  nowMs: number,
  bytes: number,
): void {
  if (times.length >= TIME_FIELDS * TIMES_KEPT) thin(times, nowMs);
  times.push(sequence, nowMs, bytes);
}

/** Joins rows that together span no more than a part of their age, until a quarter has gone. */
function thin(times: number[], nowMs: number): void {
  const room = (TIME_FIELDS * TIMES_KEPT * 3) / 4;
  for (let part = 1 / 8; times.length > room; part *= 2) {
    let to = 0;
    for (let from = 0; from < times.length; from += TIME_FIELDS) {
      const untilMs = times[from + TIME_FIELDS + 1] ?? nowMs;
      const sinceMs = to > 0 ? times[to - TIME_FIELDS + 1]! : Number.NEGATIVE_INFINITY;
      const isJoined = untilMs - sinceMs <= (nowMs - untilMs) * part;
      if (isJoined) to -= TIME_FIELDS;
      times[to] = times[from]!;
      times[to + 1] = isJoined ? sinceMs : times[from + 1]!;
      times[to + 2] = times[from + 2]!;
      to += TIME_FIELDS;
    }
    times.length = to;
  }
}
