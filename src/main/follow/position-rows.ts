/** What this node answers to a primary that introduces a space. */
import { NO_POSITION, type Sequence } from '../../shared/position.js';
import type { PositionRow, SpaceRow } from '../../shared/wire/protocol.js';
import type { SpaceState } from '../log/space-table.js';

export function positionRow(
  handle: number,
  answer: PositionRow['answer'],
  space: SpaceState,
  applied: Sequence,
): PositionRow {
  const { epochSeen, position } = space.facts;
  return { handle, answer, epochSeen, position, applied };
}

/** There is no place for it here: the others on the link go on. */
export function noPlace({ handle, epoch }: SpaceRow): PositionRow {
  return { handle, answer: 'refused', epochSeen: epoch, position: NO_POSITION, applied: 0 };
}
