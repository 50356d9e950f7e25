/** Whether enough replicas take what is appended: one rule, for status and metrics. */
import type { ReplicaStatus } from '../../shared/link/lag.js';
import type { LagAlert, PairState } from '../../shared/link/pair-watch.js';

/** One replica of a space, as it is watched. */
export interface WatchedCopy {
  readonly status: ReplicaStatus;
  readonly state: PairState;
  readonly alert: LagAlert;
  /** Its acks count for no level, yet. */
  readonly isLearner: boolean;
}

/** It takes what is appended, soon enough to be counted on. */
export function isCopy({ status, state, alert, isLearner }: WatchedCopy): boolean {
  if (status === 'failed' || alert === 'critical' || isLearner) return false;
  return status !== 'degraded' || state === 'streaming' || state === 'catching-up';
}

/**
 * So few of them do that an acknowledgement at the level that promotions keep is refused or late,
 * and this disk has alone what it should not have alone. Without replicas nothing is lacking.
 */
export function lacksCopies(replicas: readonly WatchedCopy[], keep = 1): boolean {
  return replicas.filter(isCopy).length < Math.min(keep, replicas.length);
}
