/** What is told of replicas, and of the links to them. */
import type { Verdict } from '../../shared/lead/epoch.js';
import type { LinkState } from '../../shared/link/control.js';
import type { LagAlertChange, ReplicaStatusChange, StalledChange } from './lag-changes.js';

export interface ShipEvents {
  /** The link to a replica has another state (DESIGN 7). */
  'replica-state': {
    readonly replicaId: string;
    readonly state: LinkState;
    readonly reason: string;
    readonly consecutiveFailures: number;
    /** The code of an error that only a person can mend. */
    readonly fatal: string | undefined;
    /** Links that have ended because bytes were changed on the way. */
    readonly checksumFailures: number;
    /** Its data directory, as it said last; undefined where it speaks version 1, or never spoke. */
    readonly directoryId: string | undefined;
  };
  /** Replicas have another status (healthy, lagging, degraded, failed) in these spaces. */
  'replica-status': ReplicaStatusChange;
  /** The lag of a replica has passed a threshold in these spaces, or has come back from it. */
  'lag-alert': LagAlertChange;
  /** A replica whose link lives does not move in these spaces, or moves again. */
  'replica-stalled': StalledChange;
  /** A replica's position in a space does not continue ours: it gets nothing of that space. */
  'replica-refused': {
    readonly space: string;
    readonly replicaId: string;
    readonly verdict: Verdict;
  };
  /** A shipper thread has died; it is started again. */
  'shipper-lost': { readonly replicaId: string; readonly reason: string };
}
