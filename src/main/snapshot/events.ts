/** What is told of snapshots. */
import type { SnapshotNews } from './supply.js';

/** Of which space, for which replica. */
export interface SnapshotOf {
  readonly space: string;
  readonly replicaId: string;
}

export interface SnapshotEvents {
  /**
   * A replica whose entries are freed gets a snapshot of the space: it begins, at its first chunk
   * or where it was interrupted. Told on both nodes, as the two below.
   */
  'snapshot-started': SnapshotOf & SnapshotNews['started'];
  /** The replica's host has it, and the space goes on behind it. */
  'snapshot-done': SnapshotOf & SnapshotNews['done'];
  /** Nothing came of it; what the replica had is untouched. It is tried again by itself. */
  'snapshot-failed': SnapshotOf & SnapshotNews['failed'];
}
