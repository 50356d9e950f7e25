/**
 * What an epoch means that an admitted peer has named, in whatever frame, answer or record, and
 * whichever side asked (FAULTS row 111). One decision for all of them: what is heard is durable
 * first, and who led in a lower epoch leads no more from the moment it hears of a higher one.
 */
import type { Role } from './node-record.js';
import type { Epoch } from './position.js';

export interface Hearer {
  readonly nodeId: string;
  readonly role: Role;
  /** It acts under. */
  readonly epoch: Epoch;
  /** The highest it has heard of. */
  readonly epochSeen: Epoch;
  /** Who has its promise for `epochSeen`; '': nobody. */
  readonly promisedTo: string;
}

/**
 * - `known`: nothing is to be done.
 * - `seen`: the epoch is made durable.
 * - `fenced`: appends and acknowledgements stop at once; then the same.
 * - `incident`: another node leads in the epoch that this one leads in.
 */
export type Heard = 'known' | 'seen' | 'fenced' | 'incident';

/**
 * @param leader the node that leads in it; '' or undefined: nobody is known to, yet
 */
export function judgeHeard(own: Hearer, epoch: Epoch, leader?: string): Heard {
  if (epoch < own.epoch) return 'known';
  const isPrimary = own.role === 'primary';
  if (epoch === own.epoch) {
    const isRival = isPrimary && leader !== undefined && leader !== '' && leader !== own.nodeId;
    return isRival ? 'incident' : 'known';
  }
  // Our own candidacy comes back: its promise has stopped what this node led before.
  const isOwn = epoch === own.epochSeen && own.promisedTo === own.nodeId;
  if (isOwn && (leader ?? own.nodeId) === own.nodeId) return 'known';
  if (isPrimary) return 'fenced';
  return epoch > own.epochSeen ? 'seen' : 'known';
}
