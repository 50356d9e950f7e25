/**
 * The handshake's decision: what a primary says to a replica's position in one space. It needs
 * our own entry at the replica's sequence, which the caller has looked up.
 */
import type { Epoch, Position } from './position.js';
import type { PositionAnswer, Verdict } from './protocol.js';

/**
 *   replica's answer, position against ours            | verdict
 *   ---------------------------------------------------+----------
 *   it has seen a higher epoch                         | fenced
 *   it leads the space itself, in our epoch or below   | fork
 *   it cannot take the space (its own log is damaged)  | snapshot
 *   it puts a snapshot in place                        | snapshot
 *   ahead of us, last entry of our epoch               | stale (rows 23, 27: our disk went back)
 *   ahead of us, last entry of an older epoch          | rewind
 *   we do not have that entry any more                 | snapshot
 *   our entry at its sequence is the same              | continue
 *   the same epoch, the replica does not know its CRC  | continue (it stands on a snapshot)
 *   another one, of the same epoch                     | fork
 *   another one, of another epoch                      | rewind
 */
export function verdictOf(
  own: { readonly epoch: Epoch; readonly position: Position },
  replica: {
    readonly answer: PositionAnswer;
    readonly epochSeen: Epoch;
    readonly position: Position;
  },
  ownEntry: Position | undefined,
): Verdict {
  const theirs = replica.position;
  if (replica.epochSeen > own.epoch) return 'fenced';
  if (replica.answer === 'leads') return 'fork';
  if (replica.answer === 'refused' || replica.answer === 'installing') return 'snapshot';
  if (theirs.sequence > own.position.sequence) {
    return theirs.epoch === own.epoch ? 'stale' : 'rewind';
  }
  if (!ownEntry) return 'snapshot';
  if (ownEntry.epoch !== theirs.epoch) return 'rewind';
  const isSame = ownEntry.headerCrc === theirs.headerCrc || theirs.headerCrc === 0;
  return isSame ? 'continue' : 'fork';
}
