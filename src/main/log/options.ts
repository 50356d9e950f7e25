/** The options of the log itself: files, sizes, what it keeps. */
import type { FsyncMode } from '../../shared/log/group-commit.js';

export interface LogOptions {
  /**
   * What an append waits for: the fdatasync of its group, one of its own, or only the write, with
   * an fdatasync so many ms later (500 at most with `replicas` or `listen`), or at each new segment
   * and at close.
   */
  readonly fsync?: FsyncMode;
  /** Of segments to come; those that are there keep the size that they have. */
  readonly segmentBytes?: number;
  /** The most that one fdatasync covers. */
  readonly groupBytes?: number;
  /** At least the longest entry of the log; on a replica at least what its primary has. */
  readonly maxEntryBytes?: number;
  /** What staged, sealed and recently written groups may take. */
  readonly memoryBudgetBytes?: number;
  /**
   * A tail that looks torn refuses to open instead of being cut. It may be the last acknowledged
   * group, damaged before anything else told of it. Default: false.
   */
  readonly strictTail?: boolean;
  /** What the host has not checkpointed may take; beyond, appends reject. Default: unlimited. */
  readonly maxRetainedBytes?: number;
  /** How far one replica may keep the log back, per space; beyond, its slot is lost. */
  readonly maxSlotBytes?: number;
  /** For how long a replica may be away, in this node's running time; then its slots are lost. */
  readonly slotIdleTimeoutMs?: number;
  /** At least the spaces that are in the log. */
  readonly maxSpaces?: number;
  /** Threads that seal large groups. They begin with the first such group. */
  readonly sealerThreads?: number;
}
