/** What status() says of replicas. */
import type { Address } from '../../shared/address.js';
import type { LinkState, Traffic } from '../../shared/link/control.js';
import type { ReplicaStatus } from '../../shared/link/lag.js';
import type { LagAlert, PairState, Stage } from '../../shared/link/pair-watch.js';
import type { SlotState } from '../../shared/log/slot.js';
import type { Sequence } from '../../shared/position.js';
import type { SupplyStatus } from '../snapshot/supply.js';

/** The link to one replica. */
export interface ReplicaLinkStatus {
  readonly replicaId: string;
  /** Its data directory, as it said last; undefined where it speaks version 1, or never spoke. */
  readonly directoryId: string | undefined;
  /** Of the protocol, as agreed on last; 0: never. */
  readonly version: number;
  readonly address: Address;
  readonly state: LinkState;
  readonly reason: string;
  /** For how long it has been in this state, ms. */
  readonly since: number;
  /** The code of an error that only a person can mend. */
  readonly fatal: string | undefined;
  readonly consecutiveFailures: number;
  /** Since the last byte came from it, ms; undefined: none ever. */
  readonly lastReceivedAgeMs: number | undefined;
  /** What it has flushed and was sent, over the last lag poll. */
  readonly throughput: { readonly entriesPerSecond: number; readonly bytesPerSecond: number };
  /** Links that have ended because bytes were changed on the way. */
  readonly checksumFailures: number;
  /** As of the last second: what compression is agreed on, and what it saves. */
  readonly traffic: Traffic;
  /** What is left to be read for it, as of the last second, and for how long at that pace. */
  readonly catchUp: {
    readonly behindBytes: number;
    readonly bytesPerSecond: number;
    readonly etaMs: number | 'unknown';
  };
}

/** One replica of one space, as its primary sees it. */
export interface SpaceReplicaStatus {
  readonly replicaId: string;
  readonly sentSequence: Sequence;
  readonly receivedSequence: Sequence;
  readonly ackedSequence: Sequence;
  readonly appliedSequence: Sequence;
  readonly lagEntries: number;
  readonly lagBytes: number;
  readonly lagMs: number | 'unknown';
  readonly consecutiveFailures: number;
  /** Wall clock, ms since 1970; undefined before the first connection. */
  readonly lastSuccess: number | undefined;
  readonly status: ReplicaStatus;
  /** `warning` from lagAlertThresholdMs on, `critical` from lagDegradedThresholdMs on. */
  readonly alert: LagAlert;
  /** Where its way is blocked, when it is stalled. */
  readonly stalledAt: Stage | undefined;
  /** How safe what it lacks is here. */
  readonly slot: SlotState;
  readonly state: PairState;
  readonly reason: string;
  /** For how long it has been in this state, ms. */
  readonly since: number;
  /** How far its snapshot has come, where it needs one. */
  readonly snapshot: SupplyStatus | undefined;
}
