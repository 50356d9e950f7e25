/** What the log is made with, and what it tells the node. */

import type { EngramError } from '../../shared/errors.js';
import type { FsyncMode } from '../../shared/log/group-commit.js';
import type { Lsn } from '../../shared/position.js';
import type { LogStatus } from './health.js';
import type { LostAppends } from './lost-appends.js';
import type { RunEnds } from './write/run-ends.js';

export interface WalOptions {
  readonly mode: FsyncMode;
  readonly groupBytes: number;
  readonly segmentBytes: number;
  readonly salt: number;
  /** The end of the recovered log. */
  readonly end: Lsn;
}

export interface WalHooks {
  /** Why nothing may be acknowledged at this moment, though it is durable (row 74). */
  ackRefusal(): EngramError | undefined;
  /** Why the data directory is not ours any more (row 92). Rejects where that is not known. */
  displaced(): Promise<string | undefined>;
  /** A group has become durable. @param ends of its runs; used again for the next one */
  durable(ends: RunEnds): void;
  /** A new segment has begun. */
  rolled(): void;
  /** Groups were refused for a passing reason: what `tryAppend` had handed out is void. */
  lost(ranges: readonly LostAppends[], error: Error): void;
  /** The log takes entries, or does not, for another reason than before. */
  health(status: LogStatus): void;
  /** A write or fdatasync has failed; the log takes nothing any more. */
  failed(error: Error): void;
}
