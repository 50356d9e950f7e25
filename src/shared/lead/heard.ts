/**
 * What an epoch means that an admitted peer has named, in whatever frame, answer or record, and
 * whichever side asked (FAULTS row 111). One decision for all of them: what is heard is durable
 * first, and who led in a lower epoch leads no more from the moment it hears of a higher one.
 */
import { failure } from '../errors.js';
import { EPOCH_MAX, EPOCH_REACH } from '../limits.js';
import type { Role } from '../log/node-record.js';
import type { Epoch } from '../position.js';

/**
 * Whether an epoch that comes from outside may be taken: one frame must not use them up. What is
 * known already is known. Throws EpochOutOfReach.
 * @param known the highest that is known here; undefined: nothing is known of the space
 * @param whose the space, and who has named it
 */
export function checkReach(known: Epoch | undefined, epoch: Epoch, whose: string): void {
  const most = known === undefined ? EPOCH_MAX : Math.min(known + EPOCH_REACH, EPOCH_MAX);
  if (epoch <= Math.max(most, known ?? 0)) return;
  const here = known === undefined ? 'none' : `${known}`;
  throw failure('EpochOutOfReach', `${whose}: epoch ${epoch}, known here: ${here}`);
}

export interface Hearer {
  readonly nodeId: string;
  readonly role: Role;
  /** It acts under. */
  readonly epoch: Epoch;
  /** The highest it has heard of. */
  readonly epochSeen: Epoch;
  /** The node that leads in `epoch`; '' where nobody does. */
  readonly primary: string;
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

/**
 * A promise of an epoch: one candidate gets it, durably, before the answer.
 *
 * - `given`: this candidate has it already.
 * - `grant`: it is made durable; what this node led in a lower epoch it leads no more.
 * - `refuse`: the epoch, or a higher one, is somebody else's; the answer says which was seen.
 */
export function judgePromise(
  own: Hearer,
  epoch: Epoch,
  candidate: string,
): 'given' | 'grant' | 'refuse' {
  if (epoch > own.epochSeen) return 'grant';
  if (epoch < own.epochSeen) return 'refuse';
  // It follows somebody in this epoch, or leads in it. Who leads in it needs no promise any more:
  // it has asked twice, or is another directory under that name.
  if (own.epoch === epoch) return 'refuse';
  if (own.promisedTo === candidate) return 'given';
  // Others may have told of the candidate's epoch before it has asked itself.
  return own.promisedTo === '' ? 'grant' : 'refuse';
}

/**
 * A primary introduces a space in its epoch.
 *
 * - `follow`: durably, and in lower epochs nobody any more.
 * - `fenced`: a higher epoch was seen; the primary is told so.
 * - `promised`: another candidate has this node's promise for the epoch, and may lead in it: where
 *   less than a majority is enough, two can. Nothing is taken before a higher epoch comes.
 * - `two-lead`: this node follows another node in this epoch, or leads in it itself (row 68).
 * @param isAlone nobody else can lead in the epoch: see `leadsAlone`
 */
export function judgeIntroduction(
  own: Hearer,
  epoch: Epoch,
  primary: string,
  isAlone: boolean,
): 'follow' | 'fenced' | 'promised' | 'two-lead' {
  if (epoch < own.epochSeen) return 'fenced';
  if (epoch === own.epoch) return own.primary === primary ? 'follow' : 'two-lead';
  // Its own candidacy ends with following somebody.
  const isFree = isAlone || ['', own.nodeId, primary].includes(own.promisedTo);
  return epoch > own.epochSeen || isFree ? 'follow' : 'promised';
}
