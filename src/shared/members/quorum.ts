/**
 * How many directories have an entry, and what that allows (DESIGN 14). Everybody counts by the
 * newest members entry of its own log: while that is pending both sets must agree. Acks,
 * promotions and changes of members all count here and nowhere else.
 */

import type { Epoch, EpochStart, Position, Sequence } from '../position.js';
import { epochAt } from '../position.js';

import {
  countingSets,
  fits,
  isMember,
  type MemberId,
  type MemberSet,
  type MembersRow,
} from './members.js';

/** What a primary knows of its own log, and of the directories that follow it. */
export interface Progress {
  readonly own: MemberId;
  readonly ownFlushed: Sequence;
  /** Durable there, as a part of this primary's log. */
  readonly others: readonly { readonly member: MemberId; readonly flushed: Sequence }[];
  /** Of the present epoch the first entry; Infinity: it has none yet. */
  readonly first: Sequence;
  /** Enough of version 0 follow this founder; true in every later epoch. */
  readonly isFounded: boolean;
}

/** The word of etcd on a pending entry: the new set has it, the old one needs not be asked. */
export interface Floor {
  readonly epoch: Epoch;
  readonly sequence: Sequence;
}

/** How many of a set have said something, of how many it takes. */
export interface Count {
  readonly set: MemberSet;
  readonly needed: number;
  readonly got: number;
}

/**
 * The last entry that is acknowledged with `{ replicas: level }`; 0: none is. What an older epoch
 * wrote is acknowledged together with the first entry of this one: alone it may yet be taken back.
 * @param sets what `countingSets` gives; empty: carried over, every other directory counts
 * @param level 0: this primary's own disk
 */
export function acknowledgedUpTo(
  sets: readonly MemberSet[],
  level: number,
  progress: Progress,
): Sequence {
  if (level === 0) return progress.ownFlushed;
  if (!progress.isFounded) return 0;
  let upTo = progress.ownFlushed;
  for (const set of sets) upTo = Math.min(upTo, flushedBy(set, level + 1, progress));
  if (sets.length === 0) upTo = Math.min(upTo, flushedByOthers(level, progress));
  return upTo >= progress.first ? upTo : 0;
}

/**
 * Whether the settled entry behind this pending one may be written: the old set cannot be led
 * without it any more, for so many of it have it that every promotion meets it; or etcd says so.
 */
export function maySettle(row: MembersRow, progress: Progress, floor?: Floor): boolean {
  if (!row.old || !isMember(row.next, progress.own)) return false;
  if (floor?.epoch === row.epoch && floor.sequence === row.sequence) return true;
  return isKeptBy(row.old, row.sequence, progress);
}

/** Whether the primary may ask etcd to be the witness of this pending entry. */
export function mayWriteFloor(row: MembersRow, progress: Progress): boolean {
  return row.old !== undefined && isKeptBy(row.next, row.sequence, progress);
}

/** Whether a change may begin: none is pending. Where no set is known there is none to change. */
export function mayChange(rows: readonly MembersRow[]): boolean {
  const row = rows.at(-1);
  return row !== undefined && !row.old;
}

/** How many of a set a promotion needs, so that every one of them meets what was acknowledged. */
export function answersNeeded(replicas: number, keep: number): number {
  return Math.max(1, replicas - keep + 1);
}

/** @param keep what the operator asks to be kept; never less than what the set keeps */
export function countAnswers(
  sets: readonly MemberSet[],
  answered: readonly MemberId[],
  keep?: number,
): Count[] {
  return sets.map((set) => ({
    set,
    needed: answersNeeded(set.members.length - 1, Math.min(keep ?? set.keep, set.keep)),
    got: countMembers(set, answered),
  }));
}

function countMembers(set: MemberSet, answered: readonly MemberId[]): number {
  let got = 0;
  for (const m of set.members) if (answered.some((a) => fits(a, m))) got++;
  return got;
}

export function isEnough(counts: readonly Count[]): boolean {
  return counts.every(({ needed, got }) => got >= needed);
}

/**
 * Whether a founder is the founder: so many of version 0, itself included, follow it that no other
 * one can have as many.
 */
export function isFounded(set: MemberSet, followers: readonly MemberId[]): boolean {
  const many = set.members.length;
  const needed = Math.max(answersNeeded(many - 1, set.keep), Math.floor(many / 2) + 1);
  return countMembers(set, followers) >= needed;
}

/**
 * Whether nobody else can lead in the epoch that the primary of this log leads in, so that a member
 * which has promised it to another candidate may follow nevertheless: that one has not won, for of
 * each counting set a promotion takes a majority. Sets without the member, as `force` may have
 * written them, say nothing of what it has promised.
 * @param rows of the primary, since it leads
 */
export function leadsAlone(rows: readonly MembersRow[], member: MemberId): boolean {
  const sets = countingSets(rows);
  const isMajority = ({ members, keep }: MemberSet): boolean =>
    answersNeeded(members.length - 1, keep) > members.length / 2;
  return sets.some((set) => isMember(set, member)) && sets.every(isMajority);
}

/** Whether a log that ends at `position` holds the entry that etcd's floor names. */
export function holdsFloor(
  log: {
    readonly position: Position;
    readonly history: readonly EpochStart[];
    readonly rows: readonly MembersRow[];
  },
  floor: Floor | undefined,
): boolean {
  if (!floor) return true;
  const { epoch, sequence } = floor;
  if (log.rows.some((r) => r.epoch === epoch && r.sequence === sequence)) return true;
  return log.position.sequence >= sequence && epochAt(log.history, sequence) === epoch;
}

/** So many of the set have it that a promotion by the set alone must meet one of them. */
function isKeptBy(set: MemberSet, sequence: Sequence, progress: Progress): boolean {
  if (!progress.isFounded) return false;
  const many = Math.min(set.keep, set.members.length - 1) + 1;
  const has = Math.min(progress.ownFlushed, flushedBy(set, many, progress));
  return has >= Math.max(sequence, progress.first);
}

/** What so many members of the set have flushed; the primary itself counts where it is named. */
function flushedBy(set: MemberSet, many: number, progress: Progress): Sequence {
  const { own, ownFlushed, others } = progress;
  const each: Sequence[] = [];
  for (const m of set.members) {
    let most = fits(own, m) ? ownFlushed : 0;
    for (const o of others) if (o.flushed > most && fits(o.member, m)) most = o.flushed;
    insert(each, most);
  }
  return each[many - 1] ?? 0;
}

function flushedByOthers(many: number, { others }: Progress): Sequence {
  const each: Sequence[] = [];
  for (const o of others) insert(each, o.flushed);
  return each[many - 1] ?? 0;
}

/** The greatest stands first. A commit asks for it: to sort a few costs more than all else here. */
function insert(sorted: Sequence[], sequence: Sequence): void {
  let at = sorted.length;
  for (; at > 0 && sorted[at - 1]! < sequence; at--) sorted[at] = sorted[at - 1]!;
  sorted[at] = sequence;
}
