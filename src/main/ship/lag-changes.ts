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
    for (const [shipper, spaces] of changed) this.#tellOf(shipper, spaces);
  }

  #tellOf(shipper: ShipperHandle, changed: Iterable<SpaceState>): void {
    const replicaId = shipper.replica.nodeId;
    const { watch, link } = shipper;
    const [statuses, alerts, stages] = [new Moves(), new Moves(), new Moves()];
    for (const space of changed) {
      if (!watch.pairs.isFollowed(space.slot)) continue;
      const change = watch.takeChange(space.slot);
      statuses.add(change.before, change.status, space);
      alerts.add(change.alertBefore, change.alert, space);
      stages.add(change.stageBefore, change.stage, space);
    }
    for (const { before, now, spaces } of statuses.all) {
      this.#hooks.replicaStatus({
        replicaId,
        status: STATUSES[now]!,
        before: STATUSES[before]!,
        spaces: spaces.map(nameOf),
        reason: link.reason,
      });
    }
    for (const { before, now, spaces } of alerts.all) {
      let lagMs = 0;
      for (const { slot } of spaces) lagMs = Math.max(lagMs, watch.pairs.get(slot, PAIR.lagMs));
      this.#hooks.lagAlert({
        replicaId,
        alert: LAG_ALERTS[now]!,
        before: LAG_ALERTS[before]!,
        spaces: spaces.map(nameOf),
        lagMs: Number.isNaN(lagMs) ? 'unknown' : lagMs,
      });
    }
    for (const { before, now, spaces } of stages.all) {
      // Another stage of the same standstill is no news.
      const isStalled = now > 0;
      if (isStalled === before > 0) continue;
      const stage = STAGES[isStalled ? now : before] as Stage;
      this.#hooks.stalled({ replicaId, isStalled, stage, spaces: spaces.map(nameOf) });
    }
  }
}

interface Move {
  readonly before: number;
  readonly now: number;
  readonly spaces: SpaceState[];
}

/** Spaces by what they have changed from and to: nothing is made for one of a hundred thousand. */
class Moves {
  /** A few, in the order in which they came. */
  readonly all: Move[] = [];

  add(before: number, now: number, space: SpaceState): void {
    if (before === now) return;
    for (const move of this.all) {
      if (move.before !== before || move.now !== now) continue;
      move.spaces.push(space);
      return;
    }
    this.all.push({ before, now, spaces: [space] });
  }
}

function nameOf({ facts }: SpaceState): string {
  return facts.name;
}
