/**
 * Two nodes have created one space (FAULTS row 114): each has written the first epoch, and only one
 * of the two histories can go on. A founder acknowledges no level before enough of its version 0
 * follow it, and no two founders can have as many of one set: so one of them has nothing to lose.
 */
import { UNKNOWN_DIRECTORY } from '../members/members.js';

/** Whose history a directory has, as it says itself. */
export interface Founding {
  readonly directoryId: string;
  /** UNKNOWN_DIRECTORY: it has no history, or cannot say. */
  readonly founder: string;
  /** It is the founder, and enough of version 0 follow it, or it leads a later epoch. */
  readonly isFounded: boolean;
}

/**
 * - `same`: they have one founder, or one of them has none.
 * - `give-way`: this directory takes its entries back and follows the other history.
 * - `stay`: the other one gives way.
 * - `incident`: both may have acknowledged; somebody must look.
 */
export type FoundersVerdict = 'same' | 'give-way' | 'stay' | 'incident';

/**
 * What a directory does about another founder's history.
 * @param leftBy what the founder of our own history has by now, where this directory is not the
 *   founder itself; undefined: it has not said so
 */
export function judgeFounders(own: Founding, other: Founding, leftBy?: string): FoundersVerdict {
  const founders = [own.founder, other.founder];
  if (own.founder === other.founder || founders.includes(UNKNOWN_DIRECTORY)) return 'same';
  const isOwnOpen = isOpen(own, leftBy);
  const isOtherOpen = isOpen(other, undefined);
  if (isOwnOpen && isOtherOpen) return own.directoryId < other.directoryId ? 'give-way' : 'stay';
  if (isOwnOpen) return 'give-way';
  if (isOtherOpen) return 'stay';
  // Who only follows a founder cannot say what that one has acknowledged.
  const isEither = own.isFounded && other.isFounded;
  return isEither ? 'incident' : 'stay';
}

/** Nothing of this history was acknowledged, and nothing will be if this directory leaves it. */
function isOpen(
  { directoryId, founder, isFounded }: Founding,
  leftBy: string | undefined,
): boolean {
  if (directoryId === founder) return !isFounded;
  return leftBy !== undefined && leftBy !== UNKNOWN_DIRECTORY && leftBy !== founder;
}
