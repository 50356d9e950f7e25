/**
 * Two nodes have made one space, each without the other's answer (FAULTS rows 85, 114). Whose
 * history goes on is shared/lead/founders.ts's business; here the members are asked, and who gives
 * way does so: its entries go to quarantine, and it follows.
 */
import { judgeFounders } from '../../../shared/lead/founders.js';
import type { Standing } from '../../../shared/lead/promotion-verdict.js';
import type { Member } from '../../../shared/log/node-record.js';
import { fits, UNKNOWN_DIRECTORY } from '../../../shared/members/members.js';
import type { SpaceState } from '../../log/space-table.js';
import { pause } from '../../runtime/deadline.js';
import { isFounding, type Quorum } from '../../ship/quorum.js';
import type { Replication } from '../../ship/replication.js';
import type { Fencing } from '../fencing.js';
import { standingIn } from './ballot.js';
import type { Electorate } from './electorate.js';

/** Between two looks at who else has made the space. */
const FOUNDERS_POLL_MS = 250;
const FOUNDERS_SLOWEST_MS = 60_000;

export interface FounderParts {
  readonly electorate: Electorate;
  readonly quorum: Quorum;
  readonly replication: Replication;
  readonly fencing: Fencing;
  readonly stop: AbortSignal;
  serially<T>(work: () => Promise<T>, space?: SpaceState): Promise<T>;
  /** All that the space holds goes to quarantine, and is taken back. */
  undo(space: SpaceState): Promise<void>;
  failed(error: unknown): void;
}

export class Founders {
  readonly #parts: FounderParts;
  readonly #meeting = new Set<SpaceState>();
  /** How long the next look that finds no rival is waited with. */
  readonly #waitMs = new WeakMap<SpaceState, number>();

  constructor(parts: FounderParts) {
    this.#parts = parts;
  }

  /**
   * In the epoch in which this node leads the space somebody follows, or is, another leader.
   * @returns false where both have the same beginning: one of them leads by force
   */
  met(space: SpaceState): boolean {
    const { quorum } = this.#parts;
    const { directoryId, founder } = quorum.standingOf(space);
    if (!isFounding(space) || founder !== directoryId) return false;
    if (this.#meeting.has(space)) return true;
    this.#meeting.add(space);
    this.#settle(space)
      .catch((error) => this.#parts.failed(error))
      .finally(() => this.#meeting.delete(space));
    return true;
  }

  async #settle(space: SpaceState): Promise<void> {
    const { electorate, quorum, replication, fencing, stop } = this.#parts;
    const { facts } = space;
    while (facts.role === 'primary' && isFounding(space) && !stop.aborted) {
      const { answers } = await electorate.poll(space);
      const others = answers.map((a) => ({ role: a.role, ...standingIn(a) }));
      const own = quorum.standingOf(space);
      const rivals = others.filter((other) => judgeFounders(own, other) !== 'same');
      const stays = !rivals.some((other) => mustGiveWay(space, own, other, others));
      const rival = rivals.find(({ role }) => role === 'primary');
      const leader = rival && electorate.memberOf(space, rival.nodeId);
      if (!stays) return await this.#giveWay(space, leader);
      if (rivals.some((other) => judgeFounders(own, other) === 'incident')) {
        fencing.conflict(space, leader ?? { nodeId: rivals[0]!.nodeId, host: '', port: 0 });
        return;
      }
      const isNobody = rivals.length === 0;
      // Who says so though nobody has another beginning is asked ever more seldom.
      const waitMs = isNobody ? (this.#waitMs.get(space) ?? FOUNDERS_POLL_MS) : FOUNDERS_POLL_MS;
      this.#waitMs.set(space, Math.min(2 * waitMs, FOUNDERS_SLOWEST_MS));
      await pause(waitMs, stop);
      if (isNobody) break;
    }
    // Who has given way is introduced anew.
    if (facts.role === 'primary' && !space.isFenced) replication.lead([space]);
  }

  async #giveWay(space: SpaceState, leader: Member | undefined): Promise<void> {
    const { serially, fencing, undo } = this.#parts;
    await serially(async () => {
      const { role, epoch } = space.facts;
      if (role !== 'primary' || !isFounding(space)) return;
      fencing.stop(space, epoch, leader);
      await fencing.stepAside(space, epoch, leader, true);
      await undo(space);
    }, space);
  }

  /**
   * A replica is introduced to another history than the one it follows, in one epoch: whether that
   * one's founder has given way.
   */
  async mayLeave(space: SpaceState): Promise<boolean> {
    const { electorate, quorum } = this.#parts;
    const own = quorum.standingOf(space);
    if (!isFounding(space) || own.founder === UNKNOWN_DIRECTORY) return false;
    const { answers } = await electorate.poll(space);
    const others = answers.map(standingIn);
    const left = others.find((other) => other.directoryId === own.founder);
    return others.some((other) => judgeFounders(own, other, left?.founder) === 'give-way');
  }
}

/** @param all that have answered */
function mustGiveWay(
  { facts }: SpaceState,
  own: Standing,
  other: Standing,
  all: readonly Standing[],
): boolean {
  if (judgeFounders(own, other) === 'give-way') return true;
  const isOther = other.founder === other.directoryId;
  // It gives way itself.
  if (isOther && !other.isFounded) return false;
  // What an earlier life of this node may have had acknowledged its set would still have.
  const set = facts.sets.at(-1)?.next;
  if (!set) return false;
  const { founder } = own;
  const denied = set.members.filter((m) =>
    all.some((a) => fits(a, m) && a.founder !== founder && a.founder !== UNKNOWN_DIRECTORY),
  );
  if (denied.length < set.members.length - set.keep) return false;
  return !isOther || own.directoryId < other.directoryId;
}
