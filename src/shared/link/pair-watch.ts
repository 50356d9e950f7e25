/**
 * One replica, watched in each space that it follows: status with hysteresis, named state,
 * alerts, and whether it is stalled and where. Pure: the lag monitor of the main thread tells
 * what it has measured, and when.
 */

import { VERDICTS, type Verdict } from '../lead/epoch.js';
import { LAG_CLEAR_SHARE, LAG_HEALTHY_MS } from '../limits.js';
import { allocatePairs, PAIR, PAIR_FIELDS, PairRows } from '../memory/pair-rows.js';
import type { Sequence, Slot } from '../position.js';
import { LINK_STATES, type LinkState } from './control.js';
import type { Lag, ReplicaStatus } from './lag.js';

/** By gauge: 0 failed to 3 healthy. */
export const STATUSES: readonly ReplicaStatus[] = ['failed', 'degraded', 'lagging', 'healthy'];
const FAILED = 0;
const DEGRADED = 1;
const LAGGING = 2;
const HEALTHY = 3;

export type LagAlert = 'none' | 'warning' | 'critical';
export const LAG_ALERTS: readonly LagAlert[] = ['none', 'warning', 'critical'];

/**
 * What holds a stalled pair up: the replica's disk (`flush`), the way to it or its listening side
 * (`receive`), this node's shipper (`send`), or the comparison of positions (`introduce`).
 */
export type Stage = 'flush' | 'receive' | 'send' | 'introduce';
export const STAGES: readonly (Stage | 'none')[] = [
  'none',
  'flush',
  'receive',
  'send',
  'introduce',
];

export const VERDICTS_SEEN: readonly (Verdict | 'none')[] = ['none', ...VERDICTS];

/**
 * The named state of a (space, replica), DESIGN 7: that of the link, or what is worse.
 * `never-connected`: not once since the node was opened. `silent`: the link counts as open, and
 * nothing has come on it for longer than it should live. `stalled`: heartbeats come, entries wait,
 * the position does not move. `slot-lost`: the log does not keep what it lacks. `snapshotting`: it
 * gets a snapshot, or waits for its turn. The others are the
 * primary's verdict on the replica's position: it gets nothing of the space.
 */
export const PAIR_STATES = [
  ...LINK_STATES,
  'never-connected',
  'silent',
  'stalled',
  'slot-lost',
  'rewind-needed',
  'snapshot-needed',
  'fenced',
  'forked',
  'regressed',
  'snapshotting',
] as const;
export type PairState = (typeof PAIR_STATES)[number];
const CODE_OF = new Map(PAIR_STATES.map((state, code) => [state, code]));
const OF_VERDICT: Readonly<Partial<Record<Verdict, PairState>>> = {
  rewind: 'rewind-needed',
  snapshot: 'snapshot-needed',
  fenced: 'fenced',
  fork: 'forked',
  stale: 'regressed',
};

export interface WatchLimits {
  readonly lagAlertThresholdMs: number;
  readonly lagDegradedThresholdMs: number;
  readonly lagPollMs: number;
  readonly stalledAfterMs: number;
  readonly readTimeoutMs: number;
  readonly maxRetries: number;
}

/** The link, once for all spaces of a look. */
export interface WatchedLink {
  readonly state: LinkState;
  readonly isOpen: boolean;
  readonly wasConnected: boolean;
  readonly failures: number;
  readonly isFatal: boolean;
  readonly sinceMs: number;
  readonly openSinceMs: number;
  /** When the last byte came; 0: never. */
  readonly heardMs: number;
}

/** Where the replica stands in one space. */
export interface WatchedPair {
  readonly durable: Sequence;
  readonly flushed: Sequence;
  readonly isSlotLost: boolean;
}

/** The steps in between: only asked for where a pair stands still. */
export interface Steps {
  sent(slot: Slot): Sequence;
  received(slot: Slot): Sequence;
}

/** Indexes of STATUSES, LAG_ALERTS and STAGES, each now and as it was told before. */
export interface PairChange {
  readonly status: number;
  readonly before: number;
  readonly alert: number;
  readonly alertBefore: number;
  readonly stage: number;
  readonly stageBefore: number;
}

export class PairWatch {
  readonly pairs: PairRows;
  readonly #limits: WatchLimits;
  /** Since when the replica is known: a lag that is unknown is as old as this. */
  readonly #knownSinceMs: number;

  constructor(limits: WatchLimits, maxSpaces: number, nowMs: number) {
    this.#limits = limits;
    this.#knownSinceMs = nowMs;
    this.pairs = new PairRows(allocatePairs(maxSpaces));
  }

  /** The space is followed from now on, or no more. What alarms it has raised stays counted. */
  follow(slot: Slot, isFollowed: boolean): void {
    const { rows } = this.pairs;
    const at = slot * PAIR_FIELDS;
    if (isFollowed === (rows[at + PAIR.followed] === 1)) return;
    for (let field = 0; field < PAIR_FIELDS; field++) {
      if (field !== PAIR.warnings && field !== PAIR.criticals) rows[at + field] = 0;
    }
    if (!isFollowed) return;
    rows[at + PAIR.followed] = 1;
    rows[at + PAIR.flushed] = -1;
    rows[at + PAIR.status] = HEALTHY;
    rows[at + PAIR.toldStatus] = HEALTHY;
  }

  judged(slot: Slot, verdict: Verdict): void {
    this.pairs.rows[slot * PAIR_FIELDS + PAIR.verdict] = VERDICTS_SEEN.indexOf(verdict);
  }

  /** The last one on its position. */
  verdictOf(slot: Slot): Verdict | 'none' {
    return VERDICTS_SEEN[this.pairs.rows[slot * PAIR_FIELDS + PAIR.verdict]!]!;
  }

  /** A snapshot is on its way to the replica, or no more. */
  snapshotting(slot: Slot, isOnItsWay: boolean): void {
    this.pairs.rows[slot * PAIR_FIELDS + PAIR.snapshotting] = Number(isOnItsWay);
  }

  /**
   * Takes what was measured of a followed space.
   * @returns whether something is to be told: its status, alert or stage are not as last told
   */
  look(
    slot: Slot,
    link: WatchedLink,
    pair: WatchedPair,
    steps: Steps,
    lag: Lag,
    nowMs: number,
  ): boolean {
    const { rows } = this.pairs;
    const at = slot * PAIR_FIELDS;
    const ms = lag.ms === 'unknown' ? Number.NaN : lag.ms;
    rows[at + PAIR.lagMs] = ms;
    rows[at + PAIR.lagEntries] = lag.entries;
    rows[at + PAIR.lagBytes] = lag.bytes;
    this.#watchMoves(slot, link, pair, steps, nowMs);
    rows[at + PAIR.lookedMs] = nowMs;
    const state = this.#stateOf(at, link, pair, nowMs);
    if (state !== rows[at + PAIR.state]! || rows[at + PAIR.stateSinceMs] === 0) {
      rows[at + PAIR.state] = state;
      rows[at + PAIR.stateSinceMs] = nowMs;
    }
    rows[at + PAIR.status] = this.#statusOf(rows[at + PAIR.status]!, state, link, ms);
    this.#alert(at, ms, nowMs);
    return (
      rows[at + PAIR.status] !== rows[at + PAIR.toldStatus] ||
      rows[at + PAIR.alert] !== rows[at + PAIR.toldAlert] ||
      rows[at + PAIR.stage] !== rows[at + PAIR.toldStage]
    );
  }

  /** The stalled watchdog. A pair that was found stalled stays so until its position moves. */
  #watchMoves(slot: Slot, link: WatchedLink, pair: WatchedPair, steps: Steps, nowMs: number): void {
    const { rows } = this.pairs;
    const at = slot * PAIR_FIELDS;
    const { durable, flushed } = pair;
    if (durable <= flushed || flushed !== rows[at + PAIR.flushed]) {
      rows[at + PAIR.flushed] = durable <= flushed ? -1 : flushed;
      rows[at + PAIR.stuckMs] = 0;
      rows[at + PAIR.stage] = 0;
      return;
    }
    if (!link.isOpen) return;
    // Of a process that was stopped, no more than it would have looked at.
    const most = 2 * this.#limits.lagPollMs;
    const passed = nowMs - Math.max(rows[at + PAIR.lookedMs]!, link.openSinceMs);
    const stuckMs = rows[at + PAIR.stuckMs]! + Math.max(0, Math.min(most, passed));
    rows[at + PAIR.stuckMs] = stuckMs;
    const isStalled = stuckMs >= this.#limits.stalledAfterMs;
    rows[at + PAIR.stage] = isStalled ? stageOf(slot, rows[at + PAIR.verdict]!, steps, flushed) : 0;
  }

  #stateOf(at: number, link: WatchedLink, pair: WatchedPair, nowMs: number): number {
    const { rows } = this.pairs;
    let state: PairState = link.state;
    const verdict = VERDICTS_SEEN[rows[at + PAIR.verdict]!] as Verdict;
    if (link.isOpen && rows[at + PAIR.snapshotting] === 1) state = 'snapshotting';
    else if (pair.isSlotLost) state = 'slot-lost';
    else if (!link.isOpen) state = link.wasConnected ? link.state : 'never-connected';
    else if (nowMs - Math.max(link.heardMs, link.openSinceMs) > 2 * this.#limits.readTimeoutMs)
      state = 'silent';
    else if (OF_VERDICT[verdict]) state = OF_VERDICT[verdict];
    else if (rows[at + PAIR.stage]! > 0) state = 'stalled';
    return CODE_OF.get(state)!;
  }

  /** A better word needs a lag clearly below the bound, so that none flickers around it. */
  #statusOf(before: number, state: number, link: WatchedLink, ms: number): number {
    if (link.failures >= this.#limits.maxRetries || link.isFatal) return FAILED;
    if (isRefused(PAIR_STATES[state]!)) return FAILED;
    const { lagAlertThresholdMs } = this.#limits;
    if (Number.isNaN(ms) || isBeyond(ms, lagAlertThresholdMs, before === DEGRADED)) return DEGRADED;
    if (PAIR_STATES[state] === 'silent' || PAIR_STATES[state] === 'stalled') return DEGRADED;
    return isBeyond(ms, LAG_HEALTHY_MS, before < HEALTHY) ? LAGGING : HEALTHY;
  }

  #alert(at: number, ms: number, nowMs: number): void {
    const { rows } = this.pairs;
    const { lagAlertThresholdMs, lagDegradedThresholdMs } = this.#limits;
    const before = rows[at + PAIR.alert]!;
    // Nobody knows how far a replica is behind that never was connected: at least not up to date.
    const lagMs = Number.isNaN(ms) ? nowMs - this.#knownSinceMs : ms;
    let alert = 0;
    if (isBeyond(lagMs, lagDegradedThresholdMs, before === 2)) alert = 2;
    else if (isBeyond(lagMs, lagAlertThresholdMs, before > 0)) alert = 1;
    if (alert === before) return;
    rows[at + PAIR.alert] = alert;
    if (before < 1 && alert >= 1) rows[at + PAIR.warnings]!++;
    if (before < 2 && alert === 2) rows[at + PAIR.criticals]!++;
  }

  /** What tells whether it takes what is appended. */
  watchedCopy(slot: Slot): { status: ReplicaStatus; state: PairState; alert: LagAlert } {
    return {
      status: STATUSES[this.pairs.get(slot, PAIR.status)]!,
      state: PAIR_STATES[this.pairs.get(slot, PAIR.state)]!,
      alert: LAG_ALERTS[this.pairs.get(slot, PAIR.alert)]!,
    };
  }

  /** What is, and what was told last; from now on it is told. */
  takeChange(slot: Slot): PairChange {
    const { rows } = this.pairs;
    const at = slot * PAIR_FIELDS;
    const change = {
      status: rows[at + PAIR.status]!,
      before: rows[at + PAIR.toldStatus]!,
      alert: rows[at + PAIR.alert]!,
      alertBefore: rows[at + PAIR.toldAlert]!,
      stage: rows[at + PAIR.stage]!,
      stageBefore: rows[at + PAIR.toldStage]!,
    };
    rows[at + PAIR.toldStatus] = change.status;
    rows[at + PAIR.toldAlert] = change.alert;
    rows[at + PAIR.toldStage] = change.stage;
    return change;
  }
}

function isBeyond(ms: number, boundMs: number, wasBeyond: boolean): boolean {
  return ms >= (wasBeyond ? LAG_CLEAR_SHARE * boundMs : boundMs);
}

function isRefused(state: PairState): boolean {
  switch (state) {
    case 'slot-lost':
    case 'rewind-needed':
    case 'snapshot-needed':
    case 'fenced':
    case 'forked':
    case 'regressed':
      return true;
    default:
      return false;
  }
}

/** The step farthest on that has something to do and does not do it. */
function stageOf(slot: Slot, verdict: number, steps: Steps, flushed: Sequence): number {
  if (verdict === 0) return STAGES.indexOf('introduce');
  const received = steps.received(slot);
  if (received > flushed) return STAGES.indexOf('flush');
  return STAGES.indexOf(steps.sent(slot) > Math.max(received, flushed) ? 'receive' : 'send');
}
