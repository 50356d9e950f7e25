/** The options about snapshots: what a host gives of a space, and puts in its place. */
import type { Epoch, Sequence } from '../../shared/position.js';
import type { HostChunks } from './chunks.js';

/** A space as its host has it, up to one entry. */
export interface HostSnapshot {
  /**
   * The last entry that the bytes stand for: all up to it is in them, nothing behind it. Durable,
   * and not below the first retained entry less one.
   */
  readonly sequence: Sequence;
  /** In pieces of any size. Asked for only as fast as the replica takes them. */
  readonly chunks: HostChunks;
}

/** A snapshot on its way into a replica's host. */
export interface ReceivedSnapshot {
  /** The bytes stand for the space up to here: it goes on with the entry behind it. */
  readonly sequence: Sequence;
  readonly epoch: Epoch;
  readonly chunks: AsyncIterable<Uint8Array>;
}

export interface SnapshotOptions {
  /**
   * Primary: what a replica gets whose entries are freed here already. What it throws is an event,
   * and it is asked again. Without it such a replica gets nothing (SnapshotUnavailable).
   */
  readonly snapshot?: (space: string) => Promise<HostSnapshot> | HostSnapshot;
  /**
   * Replica: puts the bytes in the place of all that the host has of the space; it resolves when
   * that is durable. Called again after a crash, or when it throws, until it has resolved. With
   * `appliedUpTo`, that says `sequence` from then on.
   */
  readonly restore?: (space: string, snapshot: ReceivedSnapshot) => Promise<void> | void;
  /** Full syncs of replicas at once; others wait in a queue. */
  readonly maxSnapshots?: number;
  /** The bytes of a snapshot that travel and are acknowledged together. */
  readonly snapshotChunkBytes?: number;
  /**
   * Replica: the most bytes that it takes of one snapshot. A larger one fails, and is asked for
   * again at the slowest pace. However large, one never takes the last segments of the disk.
   */
  readonly maxSnapshotBytes?: number;
  /** For how long an interrupted snapshot is kept, at both ends, to go on where it was. */
  readonly snapshotGraceMs?: number;
}

/** What snapshots go by in a node: their options, and what else of it concerns them. */
export interface SnapshotConfig extends SnapshotOptions {
  readonly maxSnapshots: number;
  readonly snapshotChunkBytes: number;
  readonly maxSnapshotBytes: number;
  readonly snapshotGraceMs: number;
  readonly segmentBytes: number;
  readonly nodeId: string;
  readonly maxEntryBytes: number;
  readonly catchUpBatchBytes: number;
  readonly hostTimeoutMs: number;
  readonly backoffStepsMs: readonly number[];
  /** Whether the host can undo what it has applied. */
  readonly rewound?: unknown;
}
