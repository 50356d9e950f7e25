/** A refused group: allocation goes back to each space's last durable sequence (DESIGN 5). */

import type { NodeMemory } from '../../shared/memory/slab.js';
import type { Sequence } from '../../shared/position.js';
import { rejectWaits, type SpaceTable } from './space-table.js';

/** Sequences that were handed out and never became durable. */
export interface LostAppends {
  readonly space: string;
  readonly from: Sequence;
  readonly to: Sequence;
}

/** Rejects who waits for what is taken back. @returns what hosts were handed by `tryAppend` */
export function takeBackAllocation(
  memory: NodeMemory,
  spaces: SpaceTable,
  error: Error,
): LostAppends[] {
  const lost: LostAppends[] = [];
  for (const space of spaces.bySlot) {
    const durable = memory.durable(space.slot);
    const allocated = memory.allocated(space.slot);
    rejectWaits(space, error);
    if (allocated === durable) continue;
    memory.setAllocated(space.slot, durable);
    space.stagedOwn.length = 0;
    if (space.slot > 0) lost.push({ space: space.facts.name, from: durable + 1, to: allocated });
  }
  return lost;
}
