/**
 * Who counts in a space that this node leads (DESIGN 14): directories that its own log names, as
 * the links to them have said who they are. Acks, status, changes of members and promotions all
 * ask here; the rules themselves are shared/quorum.ts.
 */
import { fits, type MemberId, UNKNOWN_DIRECTORY } from '../shared/members.js';
import { countingSets } from '../shared/members.js';
import type { Sequence } from '../shared/position.js';
import { acknowledgedUpTo, type Progress } from '../shared/quorum.js';
import type { NodeMemory } from '../shared/slab.js';
import type { ShipperHandle } from './shipper-handle.js';
import type { SpaceState } from './space-table.js';

export class Quorum {
  readonly #own: () => MemberId;
  readonly #memory: NodeMemory;
  readonly #shippersOf: (space: SpaceState) => readonly ShipperHandle[];

  constructor(
    own: () => MemberId,
    memory: NodeMemory,
    shippersOf: (space: SpaceState) => readonly ShipperHandle[],
  ) {
    this.#own = own;
    this.#memory = memory;
    this.#shippersOf = shippersOf;
  }

  /**
   * Up to where `level` replicas have flushed what this node has made durable, so that a promotion
   * keeps it: in every set that counts, and only once the first entry of the present epoch is
   * flushed there, too. 0: nothing yet.
   */
  acknowledgedUpTo(space: SpaceState, level: number): Sequence {
    if (level === 0) return this.#memory.durable(space.slot);
    return acknowledgedUpTo(countingSets(space.facts.sets), level, this.progressOf(space));
  }

  /** What each directory is known to have, in the present epoch. */
  progressOf(space: SpaceState): Progress {
    const { slot, facts } = space;
    return {
      own: this.#own(),
      ownFlushed: this.#memory.durable(slot),
      others: this.#shippersOf(space).map((shipper) => ({
        member: memberOf(shipper),
        flushed: shipper.flushedOf(slot, facts.epoch),
      })),
      first: firstOf(space),
      isFounded: this.isFounded(space),
    };
  }

  /**
   * Whether the space has begun: while its set is the one that it was made with, so many of it
   * follow its founder that nobody else can be one (row 114).
   */
  isFounded(space: SpaceState): boolean {
    const { sets, epoch, history } = space.facts;
    const row = sets.at(-1);
    // A promotion has counted the members of that set, and a change has asked them.
    if (!row || row.sequence > 0 || (history[0]?.epoch ?? epoch) < epoch) return true;
    const { members, keep } = row.next;
    const own = this.#own();
    const following = this.#shippersOf(space).filter((s) => s.progress.epoch(space.slot) === epoch);
    const followers = [own, ...following.map(memberOf)];
    const found = members.filter((m) => followers.some((f) => fits(m, f))).length;
    return found >= Math.max(1, members.length - keep);
  }
}

/** The directory at the other end of a link, as it has said last. */
export function memberOf({ replica, link }: ShipperHandle): MemberId {
  return { nodeId: replica.nodeId, directoryId: link.directoryId ?? UNKNOWN_DIRECTORY };
}

/** The first entry of the present epoch; Infinity: there is none yet. */
function firstOf({ facts: { history, epoch, position } }: SpaceState): Sequence {
  const last = history.at(-1);
  if (last?.epoch === epoch) return last.startSequence;
  // A space begins with whatever is appended first.
  return position.sequence === 0 ? 1 : Number.POSITIVE_INFINITY;
}
