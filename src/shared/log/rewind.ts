import type { Lsn, Position, Sequence } from '../position.js';

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
