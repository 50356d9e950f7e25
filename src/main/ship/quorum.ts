/**
 * Who counts in a space that this node leads (DESIGN 14): directories that its own log names, as
 * the links to them have said who they are. Acks, status, changes of members and promotions all
 * ask here; the rules themselves are shared/members/quorum.ts.
 */
import { founderOf } from '../../shared/lead/epoch.js';
import type { Standing } from '../../shared/lead/promotion-verdict.js';
import { epochBegins } from '../../shared/log/space-facts.js';
import {
  countingSets,
  isMember,
  type MemberId,
  UNKNOWN_DIRECTORY,
} from '../../shared/members/members.js';
import { acknowledgedUpTo, isFounded, type Progress } from '../../shared/members/quorum.js';
import type { NodeMemory } from '../../shared/memory/slab.js';
import type { Sequence } from '../../shared/position.js';
import type { SpaceState } from '../log/space-table.js';
import type { ShipperHandle } from './shipper-handle.js';

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
    const others: Progress['others'][number][] = [];
    for (const shipper of this.#shippersOf(space)) {
      others.push({ member: memberOf(shipper), flushed: shipper.flushedOf(slot, facts.epoch) });
    }
    return {
      own: this.#own(),
      ownFlushed: this.#memory.durable(slot),
      others,
      first: epochBegins(facts),
      isFounded: this.isFounded(space),
    };
  }

  /**
   * The replicas whose acks count for no level: one of the sets does not name their directory. Who
   * follows a space without entries is taken in with the first one.
   */
  learning(space: SpaceState): string[] {
    if (this.#memory.durable(space.slot) === 0) return [];
    const sets = countingSets(space.facts.sets);
    const others = this.#shippersOf(space).map(memberOf);
    return others.filter((m) => !sets.every((set) => isMember(set, m))).map((m) => m.nodeId);
  }

  /**
   * Whether the space has begun: while its set is the one that it was made with, so many of it
   * follow its founder that nobody else can be one (row 114).
   */
  isFounded(space: SpaceState): boolean {
    if (!isFounding(space)) return true;
    const { slot, facts } = space;
    const row = facts.sets.at(-1);
    if (!row) return true;
    const followers = [this.#own()];
    for (const shipper of this.#shippersOf(space)) {
      if (shipper.progress.epoch(slot) === facts.epoch) followers.push(memberOf(shipper));
    }
    return isFounded(row.next, followers);
  }

  /** Where this directory stands, as it says itself to who wants to lead. */
  standingOf(space: SpaceState): Standing {
    const { epochSeen, position, history, sets, role } = space.facts;
    const own = this.#own();
    const isMaking = role === 'primary' && position.sequence === 0;
    const founder = founderOf(history) ?? (isMaking ? own.directoryId : UNKNOWN_DIRECTORY);
    // What an earlier life of this node may have acknowledged it cannot take back; a set of one
    // acknowledges nothing.
    const set = isFounding(space) ? sets.at(-1)?.next : undefined;
    const isTooSmall = set !== undefined && set.members.length <= set.keep;
    const hasBegun = !isTooSmall && (space.openedAt > 0 || this.isFounded(space));
    const isFounded = role === 'primary' && founder === own.directoryId && hasBegun;
    return { ...own, epochSeen, position, history, rows: sets, founder, isFounded };
  }
}

/** In the first epoch of the space, with the set that it was made with: others may have made it. */
export function isFounding({ facts: { sets, epoch, history } }: SpaceState): boolean {
  const [first] = history;
  const isFirst = !first || (first.epoch === epoch && first.startSequence === 1);
  return isFirst && (sets.at(-1)?.sequence ?? 0) === 0;
}

/** The directory at the other end of a link, as it has said last. */
export function memberOf({ replica, link }: ShipperHandle): MemberId {
  return { nodeId: replica.nodeId, directoryId: link.directoryId ?? UNKNOWN_DIRECTORY };
}
