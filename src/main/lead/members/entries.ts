/** What a primary writes of who counts into the log of a space: entries of type 7. */
import { encodeMembers, MEMBERS_ENTRY, type Members } from '../../../shared/members/members.js';
import type { Sequence } from '../../../shared/position.js';
import type { SpaceState } from '../../log/space-table.js';
import type { Wal } from '../../log/wal.js';

/**
 * Writes one in the present epoch. Resolves with its sequence once it is durable here: from then on
 * it counts. Rejects as the log does, and Configuration for more than a set holds.
 */
export async function stageMembers(
  wal: Wal,
  space: SpaceState,
  members: Members,
): Promise<Sequence> {
  const payload = encodeMembers(members);
  let sequence = 0;
  await wal.whenRoom(() => {
    sequence = wal.stage(space, MEMBERS_ENTRY, payload, payload.length);
    return sequence > 0;
  });
  await wal.whenDurable(space, sequence);
  return sequence;
}
