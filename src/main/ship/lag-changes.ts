/**
 * What the lag monitor has seen change, brought together: one event for all spaces of a replica
 * that have changed in the same way, so that a lost link of 1,000 spaces is one line in a log.
 */

import type { ReplicaStatus } from '../../shared/link/lag.js';
import {
  LAG_ALERTS,
  type LagAlert,
  STAGES,
  STATUSES,
  type Stage,
} from '../../shared/link/pair-watch.js';
import { PAIR } from '../../shared/memory/pair-rows.js';
import type { SpaceState } from '../log/space-table.js';
import type { ShipperHandle } from './shipper-handle.js';

/** Lag has passed a threshold in these spaces, or has come back from it. */
export interface LagAlertChange {
  readonly replicaId: string;
  /** The alert in force now; `none`: it is over. */
  readonly alert: LagAlert;
  readonly before: LagAlert;
  readonly spaces: readonly string[];
  /** The greatest of them; `unknown` where one is unknown. */
  readonly lagMs: number | 'unknown';
}

export interface ReplicaStatusChange {
  readonly replicaId: string;
  readonly status: ReplicaStatus;
  readonly before: ReplicaStatus;
  readonly spaces: readonly string[];
  readonly reason: string;
}

export interface StalledChange {
  readonly replicaId: string;
  readonly isStalled: boolean;
  /** What holds it up, or did. */
  readonly stage: Stage;
  readonly spaces: readonly string[];
}

export interface LagHooks {
  lagAlert(change: LagAlertChange): void;
  replicaStatus(change: ReplicaStatusChange): void;
  stalled(change: StalledChange): void;
}

export class LagChanges {
  readonly #hooks: LagHooks;
  #changed = new Map<ShipperHandle, Set<SpaceState>>();

  constructor(hooks: LagHooks) {
    this.#hooks = hooks;
  }

  add(shipper: ShipperHandle, space: SpaceState): void {
    const spaces = this.#changed.get(shipper);
    if (spaces) spaces.add(space);
    else this.#changed.set(shipper, new Set([space]));
  }

  /** Tells all that has changed and was not told. */
  tell(): void {
    if (this.#changed.size === 0) return;
    const changed = this.#changed;
    this.#changed = new Map();
    for (const [shipper, spaces] of changed) this.#tellOf(shipper, [...spaces]);
  }

  #tellOf(shipper: ShipperHandle, spaces: readonly SpaceState[]): void {
    const replicaId = shipper.replica.nodeId;
    const { watch, link } = shipper;
    const moves = spaces
      .filter((space) => watch.pairs.isFollowed(space.slot))
      .map((space) => ({ space, ...watch.takeChange(space.slot) }));
    const nameOf = (move: { space: SpaceState }): string => move.space.facts.name;
    for (const [, same] of groupBy(moves, (m) => `${m.before} ${m.status}`)) {
      const { status, before } = same[0]!;
      if (status === before) continue;
      this.#hooks.replicaStatus({
        replicaId,
        status: STATUSES[status]!,
        before: STATUSES[before]!,
        spaces: same.map(nameOf),
        reason: link.reason,
      });
    }
    for (const [, same] of groupBy(moves, (m) => `${m.alertBefore} ${m.alert}`)) {
      const { alert, alertBefore } = same[0]!;
      if (alert === alertBefore) continue;
      const lags = same.map(({ space }) => watch.pairs.get(space.slot, PAIR.lagMs));
      const lagMs = Math.max(...lags);
      this.#hooks.lagAlert({
        replicaId,
        alert: LAG_ALERTS[alert]!,
        before: LAG_ALERTS[alertBefore]!,
        spaces: same.map(nameOf),
        lagMs: Number.isNaN(lagMs) ? 'unknown' : lagMs,
      });
    }
    for (const [, same] of groupBy(moves, (m) => `${m.stageBefore} ${m.stage}`)) {
      const { stage, stageBefore } = same[0]!;
      // Another stage of the same standstill is no news.
      if (stage > 0 === stageBefore > 0) continue;
      const isStalled = stage > 0;
      const named = STAGES[isStalled ? stage : stageBefore] as Stage;
      this.#hooks.stalled({ replicaId, isStalled, stage: named, spaces: same.map(nameOf) });
    }
  }
}

function groupBy<T>(items: readonly T[], keyOf: (item: T) => string): Map<string, T[]> {
  const groups = new Map<string, T[]>();
  for (const item of items) {
    const key = keyOf(item);
    const group = groups.get(key);
    if (group) group.push(item);
    else groups.set(key, [item]);
  }
  return groups;
}
