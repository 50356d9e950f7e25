/** What a promotion has found, or come to, as the host and people read it. */
import { type EngramError, failure } from '../../../shared/errors.js';
import type { LostEntries, PromotionVerdict } from '../../../shared/lead/promotion-verdict.js';
import type { MemberId } from '../../../shared/members/members.js';
import type { Epoch, Position, Sequence } from '../../../shared/position.js';
import type { ApplyBlock } from '../../follow/apply.js';
import type { SpaceState } from '../../log/space-table.js';
import type { Poll, SilentMember } from './electorate.js';

/** Where one other member stands. */
export interface AnsweredMember {
  readonly nodeId: string;
  /** 32 hex digits; undefined where it speaks version 1. */
  readonly directoryId: string | undefined;
  /** false: by this node's log it is no member, or another directory than that member's was. */
  readonly counts: boolean;
  readonly role: 'primary' | 'replica';
  readonly epochSeen: Epoch;
  readonly position: Position;
}

/** A member that a forced promotion did without. Should it lead again, that is a second history. */
export interface PassedOver extends MemberId {
  readonly reason: string;
  /** What it has from this sequence on this node may lack. */
  readonly mayHaveFrom: Sequence;
}

export interface PromotionReport {
  readonly space: string;
  readonly isPromoted: boolean;
  /** In which this node leads; the highest one heard where it was not promoted. */
  readonly epoch: Epoch;
  /** Of this node, before. */
  readonly position: Position;
  /** Without `force` it would have been, or was, promoted. */
  readonly isQualified: boolean;
  /** By its own log this directory counts; false: it learns, was replaced, or has left. */
  readonly isMember: boolean;
  readonly answersNeeded: number;
  readonly answers: readonly AnsweredMember[];
  readonly silent: readonly SilentMember[];
  /** What others have and this node does not. */
  readonly lost: readonly LostEntries[];
  /** With `force`: members that have not promised, and count no more from now on. */
  readonly passedOver: readonly PassedOver[];
  /**
   * This directory is a copy that has followed nobody since: its original, or whoever followed it,
   * may have acknowledged entries from this one on. It leads by `force` alone.
   */
  readonly mayLackFrom: Sequence | undefined;
  /** Entries that the host cannot apply: it leads without them. */
  readonly applyBlocked: ApplyBlock | undefined;
}

export function refused(space: SpaceState, why: string): EngramError {
  return failure('PromotionRefused', `${space.facts.name} is not led from here: ${why}`);
}

export function reportOf(
  space: SpaceState,
  poll: Poll,
  verdict: PromotionVerdict,
): PromotionReport {
  const { name, position, epochSeen, copied } = space.facts;
  return {
    space: name,
    isPromoted: false,
    epoch: Math.max(epochSeen, ...poll.answers.map((a) => a.epochSeen)),
    position,
    isQualified: verdict.isQualified && !copied,
    isMember: verdict.isMember,
    answersNeeded: verdict.needed,
    answers: poll.answers.map((answer) => ({
      nodeId: answer.nodeId,
      directoryId: answer.directoryId,
      counts: !verdict.strangers.some((s) => s.nodeId === answer.nodeId),
      role: answer.role,
      epochSeen: answer.epochSeen,
      position: answer.position,
    })),
    silent: poll.silent,
    lost: verdict.lost,
    passedOver: [],
    mayLackFrom: copied ? position.sequence + 1 : undefined,
    applyBlocked: undefined,
  };
}

/** Says what would be lost, against whom, and who is not heard of. */
export function notQualified(
  space: SpaceState,
  report: PromotionReport,
  verdict: PromotionVerdict,
): EngramError {
  const parts = report.lost.map(
    ({ nodeId, entries, from, to }) => `${entries} entries of ${nodeId} (${from} to ${to})`,
  );
  const lost = parts.length > 0 ? `it would lose ${parts.join(', ')}` : 'nobody is ahead of it';
  const { mayLackFrom: from } = report;
  const copy = from === undefined ? [] : [`a copied directory: entries from ${from} on may lack`];
  const silent = report.silent.map(({ nodeId, reason }) => `${nodeId} is silent (${reason})`);
  const { answersNeeded: needed } = report;
  const answers = report.answers.filter((a) => a.counts);
  const got = `${answers.length} other members answer, ${needed} answers are needed`;
  const why = [...copy, ...wrongWith(verdict), lost, got, ...silent].join('; ');
  const found = `${space.facts.name} is not led from here: ${why}`;
  return failure('PromotionRefused', found, { details: { report } });
}

/** What keeps it from leading whoever answers. */
function wrongWith(verdict: PromotionVerdict): string[] {
  const { isMember, otherFounder, mustLead, holdsFloor, strangers } = verdict;
  const names = strangers.map((s) => s.nodeId).join(', ');
  return [
    isMember ? '' : 'this directory is no member: another one was, under its name, or it left',
    otherFounder ? `${otherFounder.nodeId} has a history that another node has begun` : '',
    mustLead ? `the log of ${mustLead.nodeId} goes on otherwise` : '',
    holdsFloor ? '' : 'it lacks the change of members that etcd has a floor for',
    names === '' ? '' : `${names} answer and count for nothing: no members by this log`,
  ].filter((text) => text !== '');
}
