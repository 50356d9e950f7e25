import type { Epoch, EpochStart, Position, Sequence } from '../position.js';

/** The owner of an epoch that nobody has told us yet: it fits every other. */
export const UNKNOWN_OWNER = '0'.repeat(32);

/**
 * What a primary says. It needs our own entry at the replica's sequence, which the caller has
 * looked up.
 *
 *   replica's answer, position against ours            | verdict
 *   ---------------------------------------------------+----------
 *   it has seen a higher epoch                         | fenced
 *   it leads the space itself, or follows another node |
 *   that leads it in our epoch; it has found a fork    | fork (row 68)
 *   it cannot take the space                           | snapshot
 *   it puts a snapshot in place                        | snapshot
 *   ahead of us, last entry of our epoch               | stale (rows 23, 27: our disk went back)
 *   the same, and no other process has shipped that    |
 *   epoch to it than this one                          | fork (row 68, or it lies)
 *   ahead of us, last entry of an older epoch          | rewind
 *   we do not have that entry any more                 | snapshot
 *   our entry at its sequence is the same              | continue
 *   the same epoch, the replica does not know its CRC  | continue (it stands on a snapshot)
 *   another one, both of our own epoch                 | fork
 *   another one, of an older epoch, one or both        | rewind
 */
export function verdictOf(
  own: {
    readonly epoch: Epoch;
    readonly position: Position;
    /** What the replica has of this epoch it has from this very process. */
    readonly isSource: boolean;
  },
  replica: {
    readonly answer: PositionAnswer;
    readonly epochSeen: Epoch;
    readonly position: Position;
  },
  ownEntry: Position | undefined,
): Verdict {
  const theirs = replica.position;
  if (replica.epochSeen > own.epoch) return 'fenced';
  if (replica.answer === 'leads' || replica.answer === 'forked') return 'fork';
  if (replica.answer === 'refused' || replica.answer === 'installing') return 'snapshot';
  if (theirs.sequence > own.position.sequence) {
    if (theirs.epoch !== own.epoch) return 'rewind';
    return own.isSource ? 'fork' : 'stale';
  }
  if (!ownEntry) return 'snapshot';
  const isSame = ownEntry.headerCrc === theirs.headerCrc || theirs.headerCrc === 0;
  if (isSame && ownEntry.epoch === theirs.epoch) return 'continue';
  return ownEntry.epoch === own.epoch && theirs.epoch === own.epoch ? 'fork' : 'rewind';
}

/** A node's epochs in one space, and where its log of it ends. */
export interface History {
  /** Ascending; one row for each epoch that has entries. */
  readonly rows: readonly EpochStart[];
  readonly last: Sequence;
}

/**
 * The last sequence that two histories share: the end, on either side, of the last epoch that
 * both have from the same node and the same sequence on. 0: they share nothing.
 * @returns undefined where the histories say that `ours` is a part of `theirs`, though the entries
 *   differ, or where they do not reach back far enough: nobody can say which entry is the right one
 */
export function divergenceOf(ours: History, theirs: History): Sequence | undefined {
  const common = sharedUpTo(ours, theirs);
  return common === undefined || common >= ours.last ? undefined : common;
}

/**
 * The same, also where it is the end of `ours`.
 * @returns undefined where they do not reach back far enough: what they share nobody knows
 */
export function sharedUpTo(ours: History, theirs: History): Sequence | undefined {
  for (let i = ours.rows.length - 1; i >= 0; i--) {
    const row = ours.rows[i]!;
    const j = theirs.rows.findIndex((r) => isSameEpoch(r, row));
    if (j < 0) continue;
    return Math.min(endOf(ours, i), endOf(theirs, j));
  }
  const isWhole = (history: History): boolean => (history.rows[0]?.startSequence ?? 1) === 1;
  return isWhole(ours) && isWhole(theirs) ? 0 : undefined;
}

function isSameEpoch(a: EpochStart, b: EpochStart): boolean {
  if (a.epoch !== b.epoch || a.startSequence !== b.startSequence) return false;
  // Two directories under one name lead in epochs of their own.
  const isOther = a.directoryId !== undefined && b.directoryId !== undefined;
  if (isOther && a.directoryId !== b.directoryId) return false;
  const isUnknown = a.primaryNodeId === UNKNOWN_OWNER || b.primaryNodeId === UNKNOWN_OWNER;
  return isUnknown || a.primaryNodeId === b.primaryNodeId;
}

function endOf(history: History, row: number): Sequence {
  const next = history.rows[row + 1];
  return next ? next.startSequence - 1 : history.last;
}

/**
 * Which of two positions is the farther one for a promotion (DESIGN 9): the later epoch of the
 * last entry, then the higher sequence. @returns above 0 where `a` is farther, 0 for equal ones
 */
export function comparePositions(a: Position, b: Position): number {
  return a.epoch - b.epoch || a.sequence - b.sequence;
}

/** Fills in whose epochs these are, as far as a primary's history tells. */
export function nameOwners(rows: EpochStart[], told: readonly EpochStart[]): void {
  for (const [i, row] of rows.entries()) {
    if (row.primaryNodeId !== UNKNOWN_OWNER && row.directoryId !== undefined) continue;
    const known = told.find((t) => isSameEpoch(t, row));
    if (!known) continue;
    const isNamed = row.primaryNodeId !== UNKNOWN_OWNER;
    const primaryNodeId = isNamed ? row.primaryNodeId : known.primaryNodeId;
    rows[i] = { ...row, primaryNodeId, directoryId: row.directoryId ?? known.directoryId };
  }
}

/** The directory that wrote a space's first entries; undefined: the history does not tell. */
export function founderOf(history: readonly EpochStart[]): string | undefined {
  const [first] = history;
  return first?.startSequence === 1 ? first.directoryId : undefined;
}

/**
 * `leads`: this node leads the space itself, in the primary's own epoch. `refused`: it cannot take
 * the space. `installing`: it puts a snapshot in the place of what it has, and takes nothing else.
 * `forked`: it follows another node in the primary's epoch, or has other entries of the same
 * epochs.
 */
export type PositionAnswer = 'follows' | 'leads' | 'refused' | 'installing' | 'forked';

/** By their codes on the wire. */
export const POSITION_ANSWERS: readonly PositionAnswer[] = [
  'follows',
  'leads',
  'refused',
  'installing',
  'forked',
];

export type Verdict = 'continue' | 'rewind' | 'snapshot' | 'fenced' | 'fork' | 'stale';

/** In the order in which a frame numbers them. */
export const VERDICTS: readonly Verdict[] = [
  'continue',
  'rewind',
  'snapshot',
  'fenced',
  'fork',
  'stale',
];
