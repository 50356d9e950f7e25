/**
 * What a snapshot stands for: a space up to one entry, and the history that led there. It travels
 * ahead of the bytes, heads the file in which they are collected, and is in the node records.
 */
import type { ByteReader, ByteWriter } from '../bytes.js';
import { type ErrorCode, failure } from '../errors.js';
import { SNAPSHOT_HISTORY_MAX } from '../limits.js';
import {
  type MembersRow,
  readMembersRows,
  rowsKept,
  rowsUpTo,
  writeMembersRows,
} from '../members/members.js';
import { rowsToTell, withDirectories, writeDirectories } from '../members/rows.js';
import type { EpochStart, Position, Sequence } from '../position.js';

/** A snapshot id that stands for none. */
export const NO_SNAPSHOT = '0'.repeat(32);

export interface SnapshotFacts {
  /** 16 random bytes, hex: two snapshots of one position are two. */
  readonly id: string;
  /** Of the last entry that it holds. `headerCrc` 0: the primary no longer has that entry. */
  readonly position: Position;
  /** Of that entry, ns since the Unix epoch; 0 where it is not known. */
  readonly timestamp: bigint;
  /** The epochs up to the position, the newest SNAPSHOT_HISTORY_MAX of them. */
  readonly history: readonly EpochStart[];
  /** Who counted at the position; empty where an older release has made it, or nobody knows. */
  readonly sets: readonly MembersRow[];
}

/** The bytes of a snapshot as a whole. */
export interface SnapshotWhole {
  readonly chunks: number;
  readonly bytes: number;
  /** SHA-256 of all bytes, 64 hex digits. */
  readonly digest: string;
}

/** The part of an epoch history that a snapshot at `sequence` carries. */
export function historyUpTo(history: readonly EpochStart[], sequence: Sequence): EpochStart[] {
  return history.filter((h) => h.startSequence <= sequence).slice(-SNAPSHOT_HISTORY_MAX);
}

/** The sets of members that a snapshot at `sequence` carries. */
export function setsAt(sets: readonly MembersRow[], sequence: Sequence): MembersRow[] {
  return rowsToTell(rowsKept(rowsUpTo(sets, sequence), sequence + 1));
}

export function writeSnapshotFacts(w: ByteWriter, facts: SnapshotFacts): void {
  const { id, position, timestamp, history } = facts;
  w.id(id).u32(position.epoch).u64(position.sequence).u32(position.headerCrc).big(timestamp);
  w.u16(history.length);
  for (const h of history) w.u32(h.epoch).u64(h.startSequence).id(h.primaryNodeId);
}

/** What older releases do not know of: directories and sets. Behind all that they wrote. */
export function writeSnapshotSets(w: ByteWriter, { history, sets }: SnapshotFacts): void {
  writeDirectories(w, history);
  writeMembersRows(w, sets);
}

/** @param facts as they were read without. Throws `code` for what is no set. */
export function readSnapshotSets(
  r: ByteReader,
  facts: SnapshotFacts,
  code: ErrorCode,
): SnapshotFacts {
  const history = withDirectories(r, facts.history);
  return { ...facts, history, sets: readMembersRows(r, code) };
}

/** Throws ProtocolViolation for a history that is too long, else what the reader throws. */
export function readSnapshotFacts(r: ByteReader): SnapshotFacts {
  const id = r.id();
  const position = { epoch: r.u32(), sequence: r.u64(), headerCrc: r.u32() };
  const timestamp = r.big();
  const count = r.u16();
  if (count > SNAPSHOT_HISTORY_MAX) {
    throw failure('ProtocolViolation', `a snapshot with a history of ${count} epochs`);
  }
  const history: EpochStart[] = [];
  for (let i = 0; i < count; i++) {
    history.push({ epoch: r.u32(), startSequence: r.u64(), primaryNodeId: r.id() });
  }
  return { id, position, timestamp, history, sets: [] };
}

export function writeSnapshotWhole(w: ByteWriter, whole: SnapshotWhole): void {
  const { chunks, bytes, digest } = whole;
  w.u32(chunks).u64(bytes).id(digest.slice(0, 32)).id(digest.slice(32));
}

export function readSnapshotWhole(r: ByteReader): SnapshotWhole {
  return { chunks: r.u32(), bytes: r.u64(), digest: r.id() + r.id() };
}
