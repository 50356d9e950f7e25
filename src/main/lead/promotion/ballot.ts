/**
 * How a candidate is chosen (DESIGN 14): its members' answers, then their promises, counted by its
 * own log. Before it counts promises it takes over the farthest log among those that gave one, and
 * asks whom that log newly names. Whose answer counts says shared/lead/promotion-verdict.ts.
 */

import { EngramError, failure } from '../../../shared/errors.js';
import type { Rival } from '../../../shared/lead/duel.js';
import { comparePositions } from '../../../shared/lead/epoch.js';
import { checkReach } from '../../../shared/lead/heard.js';
import {
  judgePromotion,
  type LostEntries,
  lostBy,
  mayLead,
  type PromotionQuestion,
  type PromotionVerdict,
  promisesSuffice,
  type Standing,
} from '../../../shared/lead/promotion-verdict.js';
import { PROMISE_ROUNDS } from '../../../shared/limits.js';
import {
  countingSets,
  fits,
  isMember,
  type MemberId,
  type MemberSet,
  UNKNOWN_DIRECTORY,
} from '../../../shared/members/members.js';
import { holdsFloor } from '../../../shared/members/quorum.js';
import type { Epoch, Position } from '../../../shared/position.js';
import type { SpaceState } from '../../log/space-table.js';
import type { Quorum } from '../../ship/quorum.js';
import type { Coordinator } from '../coordinator.js';
import type { Refill } from '../refill.js';
import type { Electorate, MemberStanding, Poll, PromiseAnswer } from './electorate.js';
import { type PassedOver, refused } from './report.js';

export interface BallotParts {
  readonly electorate: Electorate;
  readonly refill: Refill;
  readonly coordinator: Coordinator;
  readonly quorum: Quorum;
  /** From now on the members are asked for this epoch. */
  asks(space: SpaceState, epoch: Epoch): void;
  /** A higher epoch was met: see Duels. */
  giveWay(
    space: SpaceState,
    others: readonly Rival[],
    asked: Epoch,
    round: number,
  ): Promise<string | undefined>;
  /** This node's own promise, durably. */
  promiseOwn(space: SpaceState, epoch: Epoch): Promise<void>;
}

/** A hand-over that the present primary has asked for. */
export interface Handover {
  readonly from: string;
  readonly token: bigint;
}

export interface HowToWin {
  readonly question: PromotionQuestion;
  /** On this question. */
  readonly verdict: PromotionVerdict;
  readonly force: boolean;
  readonly handover: Handover | undefined;
}

/** What the promises have come to. */
export interface Won {
  /** This node's own. */
  readonly epoch: Epoch;
  /** Of a forced promotion: who counts from now on; undefined: as the log says. */
  readonly settled: MemberSet | undefined;
  readonly passedOver: readonly PassedOver[];
  /** What others have, this node has not, and nobody could bring it. */
  readonly lost: readonly LostEntries[];
}

export class Ballot {
  readonly #parts: BallotParts;

  constructor(parts: BallotParts) {
    this.#parts = parts;
  }

  /** @param keep as `promote` was given it */
  question(space: SpaceState, poll: Poll, keep: number | undefined): PromotionQuestion {
    const { electorate, quorum, coordinator } = this.#parts;
    const own = quorum.standingOf(space);
    return {
      floor: coordinator.floorOf(space.facts.name),
      // As of now: what is fetched meanwhile may add to them.
      own: { ...own, rows: [...own.rows] },
      isOwnCounted: !isRegressed(space) && !space.facts.copied,
      answers: poll.answers.map(standingIn),
      keep,
      known: electorate.idsOf(space),
    };
  }

  /** What this node's disk has lost comes back from the farthest member of its own epoch. */
  async fillUp(space: SpaceState, question: PromotionQuestion): Promise<boolean> {
    const { facts } = space;
    const { strangers } = judgePromotion(question);
    const counted = question.answers.filter((a) => !strangers.includes(a));
    const ours = counted.filter((a) => a.position.epoch === facts.position.epoch);
    const best = farthest(ours);
    if (!best || comparePositions(best.position, facts.position) <= 0) return false;
    await this.#fetch(space, best);
    return true;
  }

  /** All of a member's log, up to the very entry that it has told. Rejects as Refill, and Fork. */
  async #fetch(space: SpaceState, from: { nodeId: string; position: Position }): Promise<void> {
    const { facts } = space;
    const { sequence, epoch, headerCrc } = from.position;
    const member = this.#parts.electorate.memberOf(space, from.nodeId)!;
    await this.#parts.refill.from(space, member, sequence);
    const end = facts.position;
    const isSame = end.headerCrc === headerCrc || headerCrc === 0;
    if (isSame && end.sequence === sequence && end.epoch === epoch) return;
    throw failure('Fork', `entry ${sequence} of ${facts.name} came as another one than was told`);
  }

  /** Rejects PromotionRefused, and as the coordinator does. */
  async win(space: SpaceState, how: HowToWin): Promise<Won> {
    const { coordinator } = this.#parts;
    const { name, epochSeen } = space.facts;
    let above = Math.max(epochSeen, ...how.question.answers.map((a) => a.epochSeen));
    for (let round = 1; ; round++) {
      checkReach(epochSeen, above + 1, `a promotion in ${name}`);
      const epoch = await coordinator.claim(name, above, how.handover?.from);
      this.#parts.asks(space, epoch);
      try {
        const won = await this.#askAll(space, epoch, how);
        if (typeof won !== 'number') {
          if (!how.force) this.#checkFloor(space);
          return won;
        }
        if (round === PROMISE_ROUNDS) throw refused(space, `epoch ${won} was seen elsewhere`);
        above = won;
      } catch (error) {
        await coordinator.release(name, epoch);
        throw error;
      }
      await coordinator.release(name, epoch);
      const why = await this.#parts.giveWay(space, how.question.answers, epoch, round);
      if (why) throw refused(space, why);
    }
  }

  /** What etcd is the witness of was settled without the old members: who leads must have it. */
  #checkFloor(space: SpaceState): void {
    const { coordinator } = this.#parts;
    const { name, position, history, sets: rows } = space.facts;
    // Since the claim nobody else has been able to write one.
    const floor = coordinator.floorOf(name);
    if (floor === undefined || holdsFloor({ position, history, rows }, floor)) return;
    const found = `entry ${floor.sequence} of epoch ${floor.epoch}, which etcd has a floor for`;
    throw refused(space, `it lacks the change of members in ${found}`);
  }

  /** @returns a higher epoch where one was heard of */
  async #askAll(space: SpaceState, epoch: Epoch, how: HowToWin): Promise<Won | Epoch> {
    const { electorate, quorum, promiseOwn } = this.#parts;
    const { force, handover } = how;
    const promises: PromiseAnswer[] = [];
    let { question } = how;
    // With appends stopped everywhere, whoever is silent is waited for no longer than needed; who
    // has stopped them, always: it may count for nothing, and goes on without its promise.
    const suffices = (given: readonly PromiseAnswer[]): boolean =>
      handover !== undefined && isCarried(question, [...promises, ...given]);
    const ask = async (ids: readonly string[], token = 0n): Promise<void> => {
      const isEnough = token === 0n ? suffices : undefined;
      promises.push(...(await electorate.promises(space, ids, epoch, token, isEnough)));
    };
    if (handover) {
      // Before anybody else: while it has not agreed, it may go on in its epoch (row 72).
      await ask([handover.from], handover.token);
      const [first] = promises;
      if (!first?.isGranted) throw refused(space, `${handover.from}: ${first?.reason}`);
    }
    const others = whomToAsk(how).filter((id) => id !== handover?.from);
    await Promise.all([ask(others), promiseOwn(space, epoch)]);
    const failed: LostEntries[] = [];
    for (let round = 1; ; round++) {
      const higher = Math.max(0, ...promises.filter((p) => !p.isGranted).map((p) => p.epochSeen));
      if (higher >= epoch) return higher;
      const lost = await this.#takeOver(space, promises, how);
      if (lost) failed.push(lost);
      // By the log that this node has now.
      question = { ...how.question, own: quorum.standingOf(space) };
      const more = newlyNamed(how.question, question, promises);
      if (more.length === 0) return counted(space, epoch, { ...how, question }, promises, failed);
      if (round === PROMISE_ROUNDS && !force) throw refused(space, 'its members change meanwhile');
      await ask(more);
    }
  }

  /**
   * The farthest log among those that have promised: between the two questions entries may have
   * come to somebody, and stop there now. @returns what it could not bring, under `force`
   */
  async #takeOver(
    space: SpaceState,
    promises: readonly PromiseAnswer[],
    { question, force }: HowToWin,
  ): Promise<LostEntries | undefined> {
    const { position } = space.facts;
    const sets = countingSets(space.facts.sets);
    const isCounted = (p: PromiseAnswer): boolean =>
      force || sets.length === 0 || sets.some((set) => isMember(set, memberIn(p)));
    const best = farthest(promises.filter((p) => p.isGranted && isCounted(p)));
    if (!best || comparePositions(best.position, position) <= 0) return undefined;
    try {
      await this.#fetch(space, best);
      return undefined;
    } catch (error) {
      const why = error instanceof EngramError ? error.message.split('\n', 1)[0] : String(error);
      const have = `${best.nodeId} has entry ${best.position.sequence} by now`;
      if (!force) throw refused(space, `${have}, this node ${position.sequence}: ${why}`);
      const { history = [] } = question.answers.find((a) => a.nodeId === best.nodeId) ?? {};
      return lostBy(space.facts.position, { ...best, history });
    }
  }
}

/** Of those that answered: who counts by its own log; with `force` all. */
function whomToAsk({ question, verdict, force }: HowToWin): string[] {
  const { strangers, otherFounder } = verdict;
  const without = force ? [] : [...strangers, otherFounder];
  return question.answers.filter((a) => !without.includes(a)).map((a) => a.nodeId);
}

/** Whom the log names by now and did not name before: nobody has asked them yet. */
function newlyNamed(
  before: PromotionQuestion,
  now: PromotionQuestion,
  promises: readonly PromiseAnswer[],
): string[] {
  // As a rule the log has not changed between the two questions.
  if (before.own.rows.at(-1) === now.own.rows.at(-1)) return [];
  const known = judgePromotion(before).asks;
  const heard = new Set([...promises, ...before.answers].map((a) => a.nodeId));
  const { asks } = judgePromotion(now);
  const news = asks.filter((m) => !known.some((k) => fits(k, m)));
  return [...new Set(news.map((m) => m.nodeId))].filter((id) => !heard.has(id));
}

/** Whether so many have promised that the others need not be heard. */
function isCarried(question: PromotionQuestion, promises: readonly PromiseAnswer[]): boolean {
  const granted = promises.filter((p) => p.isGranted).map(memberIn);
  return promisesSuffice(question, granted).isEnough;
}

/** Rejects PromotionRefused where the promises are too few, and nobody has forced it. */
function counted(
  space: SpaceState,
  epoch: Epoch,
  { question, force }: HowToWin,
  promises: readonly PromiseAnswer[],
  lost: readonly LostEntries[],
): Won {
  const { own } = question;
  const granted = promises.filter((p) => p.isGranted).map(memberIn);
  const { isEnough, counts } = promisesSuffice(question, granted);
  const isOfSet = mayLead(own);
  const plain = { epoch, settled: undefined, passedOver: [], lost };
  if (isEnough && isOfSet && lost.length === 0) return plain;
  if (!force) {
    if (!isOfSet) throw refused(space, 'this directory is no member of it any more');
    const few = counts.find(({ got, needed }) => got < needed)!;
    const why = promises.filter((p) => !p.isGranted).map((p) => `${p.nodeId}: ${p.reason}`);
    throw refused(space, `${few.got} promises of ${few.needed}; ${why.join('; ')}`);
  }
  const sets = countingSets(own.rows);
  const named = sets.flatMap((set) => set.members).filter((m) => !fits(m, own));
  const isGiven = (m: MemberId): boolean => granted.some((g) => fits(g, m));
  const mayHaveFrom = own.position.sequence + 1;
  const passedOver = once(named.filter((m) => !isGiven(m))).map((m) => {
    const reason = promises.find((p) => p.nodeId === m.nodeId)?.reason;
    return { ...m, reason: reason || 'it did not answer, or is another directory', mayHaveFrom };
  });
  const { nodeId, directoryId } = own;
  const living = [{ nodeId, directoryId }, ...granted];
  if (isOfSet && sets.every((set) => mayGoOn(set, living))) return { ...plain, passedOver };
  const members = [{ nodeId, directoryId }, ...once(named.filter(isGiven))];
  const settled = sets.length > 0 ? { members, keep: sets.at(-1)!.keep } : undefined;
  return { epoch, settled, passedOver, lost };
}

/** Whether these alone can settle a change of the set: nobody needs to be given up. */
function mayGoOn({ members, keep }: MemberSet, living: readonly MemberId[]): boolean {
  const got = members.filter((m) => living.some((l) => fits(l, m))).length;
  return got >= Math.min(keep, members.length - 1) + 1;
}

/** Each node once: a set names none twice, the newest directory of two. */
function once(members: readonly MemberId[]): MemberId[] {
  return members.filter((m, i) => members.findLastIndex((o) => o.nodeId === m.nodeId) === i);
}

function memberIn({ nodeId, directoryId }: PromiseAnswer): MemberId {
  return { nodeId, directoryId: directoryId ?? UNKNOWN_DIRECTORY };
}

/** As a member has answered. */
export function standingIn(answer: MemberStanding): Standing {
  const { nodeId, epochSeen, position, history, sets, directoryId, founder, isFounded } = answer;
  return {
    nodeId,
    directoryId: directoryId ?? UNKNOWN_DIRECTORY,
    epochSeen,
    position,
    history,
    rows: sets,
    founder: founder ?? UNKNOWN_DIRECTORY,
    isFounded,
  };
}

/** This node leads the space, and its disk has lost what replicas of its epoch have. */
export function isRegressed(space: SpaceState): boolean {
  return space.facts.role === 'primary' && space.refusal?.code === 'StalePrimary';
}

function farthest<T extends { readonly position: Position }>(all: readonly T[]): T | undefined {
  return [...all].sort((a, b) => comparePositions(b.position, a.position))[0];
}
