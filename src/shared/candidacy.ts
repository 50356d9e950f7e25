/**
 * May a node lead a space, by what its members have answered (DESIGN 9)? Every entry that was
 * acknowledged with `replicas: n` is on n + 1 of the N + 1 members, so among any N - n + 1 of them
 * one has it: the candidate may lead when so many have answered, itself included, and none of them
 * is ahead of it.
 */
import { comparePositions } from './epoch.js';
import type { Epoch, EpochStart, Position } from './position.js';
import { type LostEntries, lostBy } from './promotion-verdict.js';
import { answersNeeded } from './quorum.js';

export { answersNeeded, type LostEntries };

/** Where a member stands, as it says itself. */
export interface MemberStanding {
  readonly nodeId: string;
  readonly epochSeen: Epoch;
  readonly position: Position;
  readonly history: readonly EpochStart[];
}

export interface Candidacy {
  readonly own: Position;
  /** Of the other members. */
  readonly answers: readonly MemberStanding[];
  /** N: the members but one. */
  readonly replicas: number;
  /** n: what was acknowledged on so many replicas is kept. */
  readonly keep: number;
  /** false: this node's own disk went back, so what it has says nothing of what it had. */
  readonly isOwnCounted: boolean;
}

export interface CandidacyVerdict {
  /** Enough have answered, and none is ahead. */
  readonly isQualified: boolean;
  /** How many answers it takes, and how many there are. */
  readonly needed: number;
  readonly got: number;
  readonly lost: readonly LostEntries[];
}

export function judgeCandidacy(candidacy: Candidacy): CandidacyVerdict {
  const { own, answers, replicas, keep, isOwnCounted } = candidacy;
  const needed = answersNeeded(replicas, keep);
  const got = answers.length + (isOwnCounted ? 1 : 0);
  const lost = answers
    .filter((a) => comparePositions(a.position, own) > 0)
    .map((answer) => lostBy(own, answer));
  return { isQualified: got >= needed && lost.length === 0, needed, got, lost };
}
