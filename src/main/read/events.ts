/** What is told of entries that cannot be read. */

import type { Hole } from '../../shared/log/state.js';
import type { Sequence } from '../../shared/position.js';

export interface DamageEvents {
  /** Acknowledged bytes of the log are not what was written; `entries` are lost to their spaces. */
  damaged: { readonly holes: readonly Hole[]; readonly entries: readonly DamagedEntries[] };
  /**
   * Damaged entries of a space: members are asked for them (`repairing`), they are back
   * (`repaired`), or no member has them (`corrupt`: no appends). `refused`: what a member gave is
   * not the entry that was written, an incident.
   */
  repair: {
    readonly space: string;
    readonly state: 'repairing' | 'repaired' | 'corrupt' | 'refused';
    readonly reason: string;
    /** Members that could not be asked. */
    readonly unreachable: readonly string[];
  };
}

/** Entries of one space, as an event and an error name them. */
export interface DamagedEntries {
  readonly space: string;
  readonly from: Sequence;
  /** 0: nobody knows how many there were. */
  readonly to: Sequence;
}
