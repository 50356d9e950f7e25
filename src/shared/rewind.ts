/**
 * What a rewind means for the facts of a space: its end goes back to the last entry that it shares
 * with its primary, and what stood behind it is void. The bytes stay in the log: an entry counts
 * only where no later rewind voids it.
 */
import { REWINDS_MAX } from './limits.js';
import { rowsUpTo } from './members.js';
import type { Lsn, Position, Sequence } from './position.js';
import type { SpaceFacts } from './state.js';

/** Entries from `first` on that stand before `lsn` do not count. */
export interface Voided {
  readonly lsn: Lsn;
  readonly first: Sequence;
}

/** A rewind that the host has not been told of, or has not returned from. */
export interface PendingRewind {
  readonly from: Sequence;
  readonly to: Sequence;
  /** Name of the file in `quarantine` that keeps what was taken back. */
  readonly quarantine: string;
}

/** What a rewind record says. */
export interface Rewind {
  /** Of the last entry that stays. */
  readonly position: Position;
  readonly timestamp: bigint;
  /** The last one that is taken back. */
  readonly to: Sequence;
  readonly quarantine: string;
}

/** Ascending in both; a later one that begins earlier stands for those that it covers. */
export function addVoided(voided: Voided[], lsn: Lsn, first: Sequence): void {
  while (voided.length > 0 && voided[voided.length - 1]!.first >= first) voided.pop();
  voided.push({ lsn, first });
}

/** Whether the entry that stands at `lsn` was taken back. */
export function isVoided(voided: readonly Voided[], sequence: Sequence, lsn: Lsn): boolean {
  for (let i = voided.length - 1; i >= 0; i--) {
    const { lsn: end, first } = voided[i]!;
    if (lsn >= end) return false;
    if (sequence >= first) return true;
  }
  return false;
}

/** Entries at `lsn` count below this sequence; from it on a rewind has taken them back. */
export function validBelow(voided: readonly Voided[], lsn: Lsn): Sequence {
  return voided.find((v) => lsn < v.lsn)?.first ?? Number.POSITIVE_INFINITY;
}

/** @param lsn what stands before it and behind the new end is void */
export function applyRewind(facts: SpaceFacts, rewind: Rewind, lsn: Lsn): void {
  const { position, timestamp, to, quarantine } = rewind;
  facts.position = position;
  facts.timestamp = timestamp;
  undoBehind(facts, position.sequence, lsn);
  addPending(facts.rewinds, { from: position.sequence + 1, to, quarantine });
}

/**
 * Entries behind `last` that stand before `lsn` count no more. Alone where the log goes back and
 * the record that says so is lost: only a rewind goes back.
 */
export function undoBehind(facts: SpaceFacts, last: Sequence, lsn: Lsn): void {
  facts.history = facts.history.filter((row) => row.startSequence <= last);
  facts.sets = rowsUpTo(facts.sets, last);
  facts.skipped = facts.skipped.filter((sequence) => sequence <= last);
  facts.checkpoint = Math.min(facts.checkpoint, last + 1);
  // What replicas had of it is as void.
  for (const slot of facts.slots.values()) slot.flushed = Math.min(slot.flushed, last);
  facts.damage = facts.damage
    .filter((range) => range.from <= last)
    .map((range) => (range.to === 0 || range.to > last ? { ...range, to: last } : range));
  addVoided(facts.voided, lsn, last + 1);
}

/** Bounded: beyond, the newest one stands for the one before it as well. */
function addPending(rewinds: PendingRewind[], rewind: PendingRewind): void {
  const before = rewinds.length < REWINDS_MAX ? undefined : rewinds.pop();
  const from = Math.min(rewind.from, before?.from ?? rewind.from);
  const to = Math.max(rewind.to, before?.to ?? rewind.to);
  rewinds.push({ from, to, quarantine: rewind.quarantine });
}

/**
 * The host needs nothing below `sequence`. It may have said so of entries that were taken back
 * while its word was on its way to the disk: of those in their place it has said nothing.
 */
export function passCheckpoint(facts: SpaceFacts, sequence: Sequence): void {
  const said = Math.min(sequence, facts.position.sequence + 1);
  facts.checkpoint = Math.max(facts.checkpoint, said);
}

/** Up to where a host that says `applied` has the true entries, with what it has yet to undo. */
export function trulyApplied({ rewinds }: SpaceFacts, applied: Sequence): Sequence {
  return rewinds.reduce((least, { from }) => Math.min(least, from - 1), applied);
}

/** The host has returned from `rewound`: it has undone what it had applied from there on. */
export function rewoundTold(facts: SpaceFacts, from: Sequence, to: Sequence): void {
  const at = facts.rewinds.findIndex((r) => r.from === from && r.to === to);
  if (at >= 0) facts.rewinds.splice(at, 1);
  facts.applied = Math.min(facts.applied, from - 1);
}
