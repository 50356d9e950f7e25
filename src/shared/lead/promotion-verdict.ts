/**
 * May a node lead a space, by what its members have answered (DESIGN 14)? Every entry that was
 * acknowledged with `replicas: keep` is on keep + 1 of the N + 1 members of each set that counted,
 * so among any N - keep + 1 of them one has it. The candidate takes over the farthest log among the
 * answers, and then counts by the sets of that log: it may lead when so many of each have answered.
 */

import {
  countingSets,
  fits,
  isMember,
  type MemberId,
  type MemberSet,
  type MembersRow,
  UNKNOWN_DIRECTORY,
} from '../members/members.js';
import { type Count, countAnswers, type Floor, holdsFloor, isEnough } from '../members/quorum.js';
import type { Epoch, EpochStart, Position, Sequence } from '../position.js';
import { comparePositions, divergenceOf } from './epoch.js';

/** Where a directory stands, as it says itself. */
export interface Standing extends MemberId {
  readonly epochSeen: Epoch;
  readonly position: Position;
  readonly history: readonly EpochStart[];
  /** Of its log; empty where it knows of none. */
  readonly rows: readonly MembersRow[];
  /** The directory that began its history; UNKNOWN_DIRECTORY: none has, or nobody knows. */
  readonly founder: string;
  /** It is the founder, and enough of version 0 follow it. */
  readonly isFounded: boolean;
}

export interface PromotionQuestion {
  readonly own: Standing;
  /** false: this node's own disk went back, so what it has says nothing of what it had. */
  readonly isOwnCounted: boolean;
  /** Of other directories. */
  readonly answers: readonly Standing[];
  /** What the operator asks to be kept; undefined: what each set keeps. */
  readonly keep?: number | undefined;
  /** Nodes that count while no log knows of a set: all that the answers and this node name. */
  readonly known: readonly string[];
  /** Of a space that etcd places. */
  readonly floor?: Floor | undefined;
}

/** What a promotion would lose: a member has it, and the candidate does not. */
export interface LostEntries {
  readonly nodeId: string;
  readonly from: Sequence;
  readonly to: Sequence;
  readonly entries: number;
  /** Of the last of them. */
  readonly epoch: Epoch;
}

export interface PromotionVerdict {
  /** Nothing is to be fetched or asked any more, and enough of every set have answered. */
  readonly isQualified: boolean;
  /**
   * A member has a farther log that goes on from ours: it is taken over, then judged anew. Where
   * that one may lead itself (`mayLead`), it had better; where not, this is the only way.
   */
  readonly fetch: Standing | undefined;
  /** Its farther log has parted from ours: it must lead, or another that has its log. */
  readonly mustLead: Standing | undefined;
  /** Whom the sets name and nobody has heard of. */
  readonly asks: readonly MemberId[];
  readonly counts: readonly Count[];
  /** Of the set that lacks most. */
  readonly needed: number;
  readonly got: number;
  readonly lost: readonly LostEntries[];
  /** Answers that count for nothing: removed, not yet taken in, wiped. */
  readonly strangers: readonly Standing[];
  /** Its history was begun by another founder: nobody can say whose entries count. */
  readonly otherFounder: Standing | undefined;
  /** By its own log this directory is a member, of the new set where a change is pending. */
  readonly isMember: boolean;
  readonly holdsFloor: boolean;
}

export function judgePromotion(question: PromotionQuestion): PromotionVerdict {
  const { own, answers, isOwnCounted, keep } = question;
  const sets = setsOf(question);
  const isNamed = (m: MemberId): boolean => sets.some((set) => isMember(set, m));
  const named = answers.filter(isNamed);
  const otherFounder = named.find((a) => !isSameFounder(own, a) && !isLoneFounder(a));
  const comparable = named.filter((a) => isSameFounder(own, a));
  // Whose farther log has parted from ours, and who may not lead with it, is no obstacle where the
  // others are enough.
  const counted = comparable.filter((a) => !isAhead(a, own) || !hasParted(own, a) || mayLead(a));
  const ahead = comparable.filter((a) => isAhead(a, own));
  const farthest = farthestOf(ahead.filter((a) => counted.includes(a)));
  const isParted = farthest !== undefined && hasParted(own, farthest);
  const counts = countAnswers(sets, isOwnCounted ? [own, ...counted] : counted, keep);
  const worst = counts.reduce((a, b) => (b.needed - b.got > a.needed - a.got ? b : a));
  const asks = sets
    .flatMap((set) => set.members)
    .filter((m, i, all) => all.findIndex((o) => fits(o, m)) === i)
    .filter((m) => !fits(m, own) && !answers.some((a) => fits(a, m)));
  const floorIsHeld = holdsFloor(own, question.floor);
  const isOwnMember = isMember(sets.at(-1)!, own);
  const isFree = !farthest && !otherFounder && isOwnMember && floorIsHeld;
  return {
    isQualified: isFree && isEnough(counts),
    fetch: isParted ? undefined : farthest,
    mustLead: isParted ? farthest : farthestOf(ahead.filter((a) => !counted.includes(a))),
    asks,
    counts,
    needed: worst.needed,
    got: worst.got,
    lost: ahead.map((answer) => lostBy(own.position, answer)),
    strangers: answers.filter((a) => !counted.includes(a) && a !== otherFounder),
    otherFounder,
    isMember: isOwnMember,
    holdsFloor: floorIsHeld,
  };
}

/**
 * Whether these have promised enough, counted as the answers were.
 * @param granted of the answers that counted, those that promised; their logs ended no later
 */
export function promisesSuffice(
  question: PromotionQuestion,
  granted: readonly MemberId[],
): { readonly isEnough: boolean; readonly counts: readonly Count[] } {
  const { own, isOwnCounted, keep } = question;
  const given = isOwnCounted ? [own, ...granted] : granted;
  const counts = countAnswers(setsOf(question), given, keep);
  return { isEnough: isEnough(counts), counts };
}

/**
 * By the own log alone: a set in an answer whose entry is not here counts for nothing, for either
 * that log is farther and is fetched, or it is a dead branch. Where the own log knows of none, all
 * that anybody names count: an acknowledgement may have counted any of them.
 */
function setsOf({ own, answers, known, keep }: PromotionQuestion): readonly MemberSet[] {
  const sets = countingSets(own.rows);
  if (sets.length > 0) return sets;
  const rows = answers.flatMap((a) => countingSets(a.rows)).flatMap((set) => set.members);
  const names = new Set([own.nodeId, ...known, ...rows.map((m) => m.nodeId)]);
  const members = [...names].map((nodeId) => ({ nodeId, directoryId: UNKNOWN_DIRECTORY }));
  return [{ members, keep: keep ?? 1 }];
}

/** Whether a directory may lead with the log that it has, if enough answer. */
export function mayLead(standing: Standing): boolean {
  const set = countingSets(standing.rows).at(-1);
  return set === undefined || isMember(set, standing);
}

function isAhead(a: Standing, own: Standing): boolean {
  return comparePositions(a.position, own.position) > 0;
}

function farthestOf(standings: readonly Standing[]): Standing | undefined {
  return standings.reduce<Standing | undefined>(
    (best, a) => (best && !isAhead(a, best) ? best : a),
    undefined,
  );
}

function hasParted(own: Standing, other: Standing): boolean {
  const rowsOf = ({ history: rows, position }: Standing) => ({
    rows,
    last: position.sequence,
  });
  return own.position.sequence > 0 && divergenceOf(rowsOf(own), rowsOf(other)) !== undefined;
}

function isSameFounder(own: Standing, other: Standing): boolean {
  const isUnknown = [own.founder, other.founder].includes(UNKNOWN_DIRECTORY);
  return isUnknown || own.founder === other.founder;
}

/** Nobody can have counted on what it has: it will give way, and counts for nothing until then. */
function isLoneFounder(answer: Standing): boolean {
  return answer.founder === answer.directoryId && !answer.isFounded;
}

export function lostBy(
  own: Position,
  answer: Pick<Standing, 'nodeId' | 'position' | 'history'>,
): LostEntries {
  const { epoch, sequence: to } = answer.position;
  // An epoch that the candidate has nothing of begins where its own entries stop to count.
  const foreign = answer.history.find((row) => row.epoch > own.epoch)?.startSequence;
  const from = Math.min(own.sequence + 1, foreign ?? own.sequence + 1);
  return { nodeId: answer.nodeId, from, to, entries: Math.max(0, to - from + 1), epoch };
}
