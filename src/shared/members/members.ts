/**
 * Who counts in a space (DESIGN 14): directories, not names. The sets of members are entries of the
 * log (type 7): a change is two of them, *pending* names the old set and the new one, *settled* the
 * new one alone. Version 0, the set a space begins with, is in no entry: its row has sequence 0.
 */
import { ByteReader, ByteWriter, Recent } from '../bytes.js';
import { type ErrorCode, failure } from '../errors.js';
import { MEMBERS_MAX, MEMBERS_ROWS_MAX } from '../limits.js';
import type { Epoch, Sequence } from '../position.js';

/** The type of the entries that say who counts: written by the library alone. */
export const MEMBERS_ENTRY = 7;

/** A directory that nobody has told us: it fits any directory of its node. */
export const UNKNOWN_DIRECTORY = '0'.repeat(32);

export interface MemberId {
  /** The name of a node. */
  readonly nodeId: string;
  /** 16 bytes, lower-case hex; zeros: UNKNOWN_DIRECTORY. */
  readonly directoryId: string;
}

export interface MemberSet {
  /** At least one, no node or directory twice. */
  readonly members: readonly MemberId[];
  /** The ack level that promotions keep, from 1. */
  readonly keep: number;
}

/** What one entry says. */
export interface Members {
  readonly next: MemberSet;
  /** The set before, while the change to `next` is pending; undefined: settled. */
  readonly old: MemberSet | undefined;
}

/** An entry of members that a log holds, or version 0 (sequence 0). */
export interface MembersRow extends Members {
  readonly epoch: Epoch;
  readonly sequence: Sequence;
}

/** Whether these may be one directory: unknown ids fit any of the same node. */
export function fits(a: MemberId, b: MemberId): boolean {
  if (a.nodeId !== b.nodeId) return false;
  if (a.directoryId === UNKNOWN_DIRECTORY || b.directoryId === UNKNOWN_DIRECTORY) return true;
  return a.directoryId === b.directoryId;
}

export function isMember(set: MemberSet, member: MemberId): boolean {
  return set.members.some((m) => fits(m, member));
}

export function sameSet(a: MemberSet, b: MemberSet): boolean {
  const isWithin = a.members.every((m) =>
    b.members.some((o) => o.nodeId === m.nodeId && o.directoryId === m.directoryId),
  );
  return a.keep === b.keep && a.members.length === b.members.length && isWithin;
}

/** On the same nodes, whichever their directories are. */
export function sameNames(a: MemberSet, b: MemberSet): boolean {
  const names = (set: MemberSet): string =>
    set.members
      .map((m) => m.nodeId)
      .sort()
      .join('\n');
  return names(a) === names(b);
}

/**
 * The sets that count by a log with these rows: both while the newest row is pending.
 * @param rows ascending
 * @returns empty where the log knows of none: it is carried over from a release without sets
 */
export function countingSets(rows: readonly MembersRow[]): readonly MemberSet[] {
  const row = rows.at(-1);
  if (!row) return [];
  return row.old ? [row.old, row.next] : [row.next];
}

/** The rows of a log that ends at `last`: what a rewind or a snapshot's position leaves of them. */
export function rowsUpTo(rows: readonly MembersRow[], last: Sequence): MembersRow[] {
  return rows.filter((row) => row.sequence <= last);
}

/**
 * What of the rows is still needed where a log keeps entries from `first` on, and may go back to
 * `first - 1`: the newest settled one at or below that, and all behind it.
 */
export function rowsKept(rows: readonly MembersRow[], first: Sequence): readonly MembersRow[] {
  if (rows.length < 2) return rows;
  const from = rows.findLast((row) => !row.old && row.sequence < first)?.sequence ?? 0;
  return rows.filter((row) => row.sequence >= from);
}

// --- bytes -----------------------------------------------------------------------------------

const FORMAT = 1;
const PENDING = 1;
const SETTLED = 2;
const SETS = new Recent<MemberSet>();
const ROWS = new Recent<MembersRow>();

/** The payload of an entry: format u8, kind u8, the old set where it is pending, the new one. */
export function encodeMembers(members: Members): Uint8Array {
  const w = new ByteWriter().u8(FORMAT);
  writeMembersOf(w, members);
  return w.bytes().slice();
}

/** Throws `code` for what is damaged or too large, UnsupportedVersion for a newer format. */
export function decodeMembers(
  payload: Uint8Array,
  code: ErrorCode = 'CorruptionDetected',
): Members {
  const r = new ByteReader(payload, code);
  const format = r.u8();
  if (format !== FORMAT) {
    throw failure('UnsupportedVersion', `members in format ${format}, known: ${FORMAT}`);
  }
  const members = readMembersOf(r, code);
  r.end();
  return members;
}

/** Rows as the state, a snapshot and the wire carry them: u16 count, then the rows. */
export function writeMembersRows(w: ByteWriter, rows: readonly MembersRow[]): void {
  w.u16(rows.length);
  // Of its own each space has a row; the sets in it are the same for thousands.
  for (const row of rows) writeMembersOf(w.u32(row.epoch).u64(row.sequence), row);
}

/** Throws as `decodeMembers`; rows that do not ascend are damage, too. */
export function readMembersRows(r: ByteReader, code: ErrorCode): MembersRow[] {
  const count = r.u16();
  if (count > MEMBERS_ROWS_MAX) throw failure(code, `${count} rows of members`);
  const rows: MembersRow[] = [];
  for (let i = 0; i < count; i++) {
    const row = r.recent(ROWS, () => readRow(r, code));
    if (i > 0 && row.sequence <= rows[i - 1]!.sequence) {
      throw failure(code, `members at ${row.sequence} behind those at ${rows[i - 1]!.sequence}`);
    }
    rows.push(row);
  }
  // A list that grew has room for many; nearly all have one row, in thousands of spaces.
  return rows.slice();
}

function readRow(r: ByteReader, code: ErrorCode): MembersRow {
  const epoch = r.u32();
  const sequence = r.u64();
  const { next, old } = readMembersOf(r, code);
  return { epoch, sequence, next, old };
}

function writeMembersOf(w: ByteWriter, { old, next }: Members): void {
  w.u8(old ? PENDING : SETTLED);
  if (old) w.recent(SETS, old, writeSet);
  w.recent(SETS, next, writeSet);
}

function readMembersOf(r: ByteReader, code: ErrorCode): Members {
  const kind = r.u8();
  if (kind !== PENDING && kind !== SETTLED) throw failure(code, `members of kind ${kind}`);
  const set = (): MemberSet => r.recent(SETS, () => readSet(r, code));
  const old = kind === PENDING ? set() : undefined;
  return { old, next: set() };
}

/** Throws Configuration for what could not be read again. */
function writeSet(w: ByteWriter, { members, keep }: MemberSet): void {
  const problem = setProblem({ members, keep });
  if (problem) throw failure('Configuration', problem, { details: { option: 'replicas' } });
  w.u8(keep).u16(members.length);
  for (const m of members) w.text(m.nodeId).id(m.directoryId);
}

function readSet(r: ByteReader, code: ErrorCode): MemberSet {
  const keep = r.u8();
  const count = r.u16();
  if (count > MEMBERS_MAX) throw failure(code, `a set of ${count} members`);
  const members: MemberId[] = [];
  for (let i = 0; i < count; i++) members.push({ nodeId: r.text(), directoryId: r.id() });
  const problem = setProblem({ members, keep });
  if (problem) throw failure(code, problem);
  return { members, keep };
}

/** @returns why nobody could count by it; undefined: all is well */
function setProblem({ members, keep }: MemberSet): string | undefined {
  if (members.length === 0) return 'a set without members';
  if (members.length > MEMBERS_MAX) return `a set of ${members.length}, at most ${MEMBERS_MAX}`;
  if (!Number.isInteger(keep) || keep < 1 || keep > 255) return `a set that keeps level ${keep}`;
  const names = new Set(members.map((m) => m.nodeId));
  if (names.has('') || names.size < members.length) return 'a set that names a node twice, or none';
  const known = members.map((m) => m.directoryId).filter((id) => id !== UNKNOWN_DIRECTORY);
  return new Set(known).size < known.length ? 'a set that names a directory twice' : undefined;
}
