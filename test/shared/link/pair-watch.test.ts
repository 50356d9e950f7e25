import { describe, expect, test } from 'vitest';
import type { Lag } from '#src/shared/link/lag.js';
import {
  LAG_ALERTS,
  PAIR_STATES,
  PairWatch,
  STAGES,
  STATUSES,
  type WatchedLink,
  type WatchedPair,
} from '#src/shared/link/pair-watch.js';
import { PAIR } from '#src/shared/memory/pair-rows.js';

const LIMITS = {
  lagAlertThresholdMs: 1_000,
  lagDegradedThresholdMs: 5_000,
  lagPollMs: 5_000,
  stalledAfterMs: 10_000,
  readTimeoutMs: 10_000,
  maxRetries: 3,
};
const OPEN: WatchedLink = {
  state: 'streaming',
  isOpen: true,
  wasConnected: true,
  failures: 0,
  isFatal: false,
  sinceMs: 0,
  openSinceMs: 0,
  heardMs: 0,
};
const DOWN: WatchedLink = { ...OPEN, state: 'waiting', isOpen: false };
type Stand = WatchedPair & { sent: number; received: number };
const CAUGHT_UP: Stand = {
  durable: 10,
  sent: 10,
  received: 10,
  flushed: 10,
  isSlotLost: false,
};
const STEPS = { sent: () => 0, received: () => 0 };
const SLOT = 3;

/** One followed pair, looked at with what the test says has changed. */
class Watched {
  readonly watch = new PairWatch(LIMITS, 8, 0);
  isNews = false;

  constructor() {
    this.watch.follow(SLOT, true);
    this.watch.judged(SLOT, 'continue');
  }

  look(nowMs: number, ms: number | 'unknown', link = OPEN, pair: Stand = CAUGHT_UP): string {
    const entries = pair.durable - pair.flushed;
    const lag: Lag = { entries, bytes: 64 * entries, ms };
    const heard = { ...link, heardMs: link.isOpen ? nowMs : link.heardMs };
    const steps = { sent: () => pair.sent, received: () => pair.received };
    this.isNews = this.watch.look(SLOT, heard, pair, steps, lag, nowMs);
    return `${this.#status} ${this.state} ${this.#alert}`;
  }

  get #status(): string {
    return STATUSES[this.watch.pairs.get(SLOT, PAIR.status)]!;
  }
  get #alert(): string {
    return LAG_ALERTS[this.watch.pairs.get(SLOT, PAIR.alert)]!;
  }
  get state(): string {
    return PAIR_STATES[this.watch.pairs.get(SLOT, PAIR.state)]!;
  }
  get stage(): string {
    return STAGES[this.watch.pairs.get(SLOT, PAIR.stage)]!;
  }
}

describe('status and alerts', () => {
  test('have the words of their thresholds, and end clearly below them', () => {
    const pair = new Watched();
    const seen = [0, 9, 10, 9, 8, 7, 999, 1_000, 900, 799, 5_000, 4_500, 3_999, 799, 7].map(
      (ms, i) => pair.look(i, ms),
    );
    expect(seen).toEqual([
      'healthy streaming none',
      'healthy streaming none',
      'lagging streaming none',
      'lagging streaming none',
      'lagging streaming none',
      'healthy streaming none',
      'lagging streaming none',
      'degraded streaming warning',
      'degraded streaming warning',
      'lagging streaming none',
      'degraded streaming critical',
      'degraded streaming critical',
      'degraded streaming warning',
      'lagging streaming none',
      'healthy streaming none',
    ]);
    expect(pair.watch.pairs.get(SLOT, PAIR.warnings)).toBe(2);
    expect(pair.watch.pairs.get(SLOT, PAIR.criticals)).toBe(1);
  });

  test('a replica that never connected alerts by the time for which nobody knows', () => {
    const pair = new Watched();
    const never = { ...DOWN, wasConnected: false };
    expect(pair.look(500, 'unknown', never)).toBe('degraded never-connected none');
    expect(pair.look(1_000, 'unknown', never)).toBe('degraded never-connected warning');
    expect(pair.look(5_000, 'unknown', never)).toBe('degraded never-connected critical');
    expect(pair.look(5_001, 'unknown', { ...never, failures: 3 })).toBe(
      'failed never-connected critical',
    );
    expect(pair.look(6_000, 0)).toBe('healthy streaming none');
  });

  test('three failures in a row, a fatal error and a refused position are failed', () => {
    const pair = new Watched();
    expect(pair.look(1, 0, { ...DOWN, failures: 2 })).toBe('healthy waiting none');
    expect(pair.look(2, 0, { ...DOWN, failures: 3 })).toBe('failed waiting none');
    expect(pair.look(3, 0)).toBe('healthy streaming none');
    expect(pair.look(4, 0, { ...OPEN, isFatal: true })).toBe('failed streaming none');
    for (const [verdict, state] of [
      ['fork', 'forked'],
      ['stale', 'regressed'],
      ['fenced', 'fenced'],
      ['snapshot', 'snapshot-needed'],
    ] as const) {
      pair.watch.judged(SLOT, verdict);
      expect(pair.look(5, 0)).toBe(`failed ${state} none`);
    }
    pair.watch.judged(SLOT, 'continue');
    expect(pair.look(6, 0, DOWN, { ...CAUGHT_UP, isSlotLost: true })).toBe('failed slot-lost none');
  });

  test('a change is news until it is told, once', () => {
    const pair = new Watched();
    pair.look(1, 0);
    expect(pair.isNews).toBe(false);
    pair.look(2, 20);
    expect(pair.isNews).toBe(true);
    pair.look(3, 30);
    expect(pair.isNews).toBe(true);
    const change = pair.watch.takeChange(SLOT);
    expect([STATUSES[change.before], STATUSES[change.status]]).toEqual(['healthy', 'lagging']);
    pair.look(4, 40);
    expect(pair.isNews).toBe(false);
  });

  test('a space that is followed again begins anew, its alarms stay counted', () => {
    const pair = new Watched();
    pair.look(1, 6_000);
    pair.watch.follow(SLOT, false);
    expect(pair.watch.pairs.isFollowed(SLOT)).toBe(false);
    pair.watch.follow(SLOT, true);
    expect(pair.look(2, 0)).toBe('healthy streaming none');
    expect(pair.watch.pairs.get(SLOT, PAIR.criticals)).toBe(1);
  });
});

describe('the stalled watchdog', () => {
  const behind = { ...CAUGHT_UP, durable: 20, sent: 15, received: 12 };

  test('names the step farthest on that does not move', () => {
    const stages: [Partial<Stand>, string][] = [
      [{}, 'flush'],
      [{ received: 10 }, 'receive'],
      [{ received: 10, sent: 10 }, 'send'],
    ];
    for (const [change, stage] of stages) {
      const pair = new Watched();
      for (const ms of [0, 5_000, 9_999]) {
        pair.look(ms, ms, OPEN, { ...behind, ...change });
        expect(pair.stage).toBe('none');
      }
      expect(pair.look(10_000, 10_000, OPEN, { ...behind, ...change })).toBe(
        'degraded stalled critical',
      );
      expect(pair.stage).toBe(stage);
      // One entry more is flushed: it moves.
      pair.look(10_001, 10_001, OPEN, { ...behind, flushed: 11, ...change });
      expect(pair.stage).toBe('none');
    }
  });

  test('a position that nobody compares is a stage of its own', () => {
    const pair = new Watched();
    pair.watch.follow(SLOT, false);
    pair.watch.follow(SLOT, true);
    for (const ms of [0, 5_000, 10_000]) pair.look(ms, 'unknown', OPEN, behind);
    expect(pair.stage).toBe('introduce');
  });

  test('counts only time with an open link, over all links', () => {
    const pair = new Watched();
    for (const ms of [0, 5_000]) pair.look(ms, ms, OPEN, behind);
    for (const ms of [6_000, 50_000]) pair.look(ms, ms, DOWN, behind);
    const again = { ...OPEN, openSinceMs: 60_000 };
    pair.look(60_001, 60_001, again, behind);
    expect(pair.stage).toBe('none');
    pair.look(65_000, 65_000, again, behind);
    expect(pair.state).toBe('stalled');
    // Lost again: the link's own state is told, and that it stands still is remembered.
    pair.look(65_001, 65_001, DOWN, behind);
    expect([pair.state, pair.stage]).toEqual(['waiting', 'flush']);
  });

  test('a pause of this process, and an idle replica, are no standstill', () => {
    const pair = new Watched();
    pair.look(0, 0);
    pair.look(3_600_000, 0, OPEN, behind);
    expect(pair.stage).toBe('none');
    pair.look(3_605_000, 5_000, OPEN, behind);
    // Stopped for an hour: no more than two polls count.
    pair.look(7_200_000, 5_000, OPEN, { ...behind, flushed: 11 });
    pair.look(10_000_000, 5_000, OPEN, { ...behind, flushed: 11 });
    expect(pair.watch.pairs.get(SLOT, PAIR.stuckMs)).toBe(10_000);
  });

  test('a link that counts as open and on which nothing comes is silent', () => {
    const pair = new Watched();
    const deaf = { ...OPEN, heardMs: 1_000 };
    const look = (ms: number): unknown =>
      pair.watch.look(SLOT, deaf, CAUGHT_UP, STEPS, { entries: 0, bytes: 0, ms: 0 }, ms);
    look(20_000);
    expect(pair.state).toBe('streaming');
    look(21_001);
    expect(pair.state).toBe('silent');
    expect(STATUSES[pair.watch.pairs.get(SLOT, PAIR.status)]).toBe('degraded');
  });
});
