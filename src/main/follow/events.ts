/** What a replica tells: of its primaries, and of what its host applies. */
import type { Refused } from '../../shared/link/refusal.js';
import type { Sequence } from '../../shared/position.js';
import type { ApplyBlock } from './apply.js';

export interface FollowEvents {
  /** A primary has connected to this node, or is gone. */
  'primary-connection': {
    readonly primaryId: string;
    readonly connected: boolean;
    readonly reason: string;
    /** Its data directory; undefined where it speaks version 1 of the protocol. */
    readonly directoryId: string | undefined;
  };
  /** The main thread of a primary does not move, though its shipper does; or moves again. */
  'primary-stalled': {
    readonly primaryId: string;
    readonly isStalled: boolean;
    readonly stalledMs: number;
  };
  /**
   * Two living processes call themselves `nodeId`: the second was refused (row 26). `directories`:
   * of the first and of the second; where they are the same, one is a copy.
   */
  'duplicate-node': {
    readonly nodeId: string;
    readonly directories: readonly (string | undefined)[];
  };
  /**
   * Somebody was not let in, or had to go: at the replication port or over HTTP. The first of one
   * `reason` and `addressClass` at once, then one event for all that came in ten seconds.
   */
  'connection-refused': Refused;
  /** The host's apply callback has failed; it is called again with the same entries. */
  'apply-failed': {
    readonly space: string;
    readonly from: Sequence;
    readonly attempts: number;
    readonly error: unknown;
  };
  /**
   * Nothing of the space is applied: the host throws at this entry however often it is offered
   * (`poison`), says that it has applied it and the log does not hold it (`beyond-log`), or that it
   * has applied no more and the next one is not retained (`before-log`), or has applied what was
   * taken back and gives no `rewound` to undo it (`rewound`), or does not return from a callback
   * for `hostTimeoutMs` (`silent`; `callback` says which).
   */
  'apply-blocked': { readonly space: string } & ApplyBlock;
  /** The entry at which applying was blocked is applied, or skipped. */
  'apply-resumed': { readonly space: string; readonly sequence: Sequence };
  /** Somebody has said that the host does without this entry. */
  'entry-skipped': { readonly space: string; readonly sequence: Sequence };
}
