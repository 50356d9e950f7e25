/** What opening a log tells. */
import type { Lsn } from '../../shared/position.js';
import type { RecoveryReport } from './recovery.js';

export interface RecoveryEvents {
  /** This directory was opened over and over without being closed (row 61). */
  'crash-loop': {
    readonly crashes: number;
    /** So long to wait before the next start, if this one ends soon as well. */
    readonly restartHintMs: number;
  };
  /** Others than its owner can look into the data directory: `mode` as `chmod` has it. */
  'directory-exposed': { readonly dataDir: string; readonly mode: string };
  /** Recovery cut off an unacknowledged tail. */
  'torn-tail': {
    readonly lsn: Lsn;
    readonly bytes: number;
    readonly quarantine: string | undefined;
  };
  /** The log was opened: what was decided about its end, and on what evidence. */
  recovered: RecoveryReport;
  /** node.json was lost or damaged, and was made again from the log and the state. */
  'node-file-rebuilt': { readonly dataDir: string; readonly directoryId: string };
  /** An older release made the directory: from now on it has an id, and that release refuses it. */
  'node-file-raised': { readonly dataDir: string; readonly directoryId: string };
}
