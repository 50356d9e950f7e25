/**
 * The rows of members that a node keeps of a space, and the directories of its epochs: how they
 * grow, what of them is told, how they follow what older releases wrote.
 */
import { type ByteReader, type ByteWriter, Recent } from '../bytes.js';
import { MEMBERS_ROWS_MAX } from '../limits.js';
import type { EpochStart } from '../position.js';
import { encodeMembers, type MembersRow, UNKNOWN_DIRECTORY } from './members.js';

/** What a list of rows may come to in any frame, unless the newest is longer by itself. */
const TOLD_BYTES = 24 * 1024;
const DIRECTORIES = new Recent<string>();

/** The entry's set is the newest one from now on. Bounded: the oldest row goes. */
export function addMembersRow(rows: MembersRow[], row: MembersRow): void {
  if (row.sequence <= (rows.at(-1)?.sequence ?? -1)) return;
  rows.push(row);
  // A rewind takes back no change that was settled, and so none of so many.
  if (rows.length > MEMBERS_ROWS_MAX) rows.shift();
}

/** The same with rows that had been lost, each in its place. */
export function withRows(rows: readonly MembersRow[], more: readonly MembersRow[]): MembersRow[] {
  const lost = more.filter((m) => !rows.some((row) => row.sequence === m.sequence));
  if (lost.length === 0) return [...rows];
  const all = [...rows, ...lost].sort((a, b) => a.sequence - b.sequence);
  return all.slice(-MEMBERS_ROWS_MAX);
}

/** What another log has said holds up to its newest row; what was added since stays. */
export function joinRows(told: readonly MembersRow[], own: readonly MembersRow[]): MembersRow[] {
  const last = told.at(-1)?.sequence ?? -1;
  return [...told, ...own.filter((row) => row.sequence > last)];
}

/** What was measured last: thousands of spaces have one row, the same object. */
let lastMeasured: { readonly row: MembersRow; readonly bytes: number } | undefined;

/** The most that a row takes. */
export function rowBytes(row: MembersRow): number {
  if (lastMeasured?.row !== row) lastMeasured = { row, bytes: 12 + encodeMembers(row).length };
  return lastMeasured.bytes;
}

/** The newest rows, as many as any frame holds; the newest one in any case. */
export function rowsToTell(rows: readonly MembersRow[]): MembersRow[] {
  if (rows.length < 2) return [...rows];
  let left = TOLD_BYTES;
  const at = rows.findLastIndex((row) => {
    left -= rowBytes(row);
    return left < 0;
  });
  return rows.slice(Math.min(at + 1, Math.max(0, rows.length - 1)));
}

export function sameRows(a: readonly MembersRow[], b: readonly MembersRow[]): boolean {
  if (a.length === b.length && a.every((row, i) => row === b[i])) return true;
  return JSON.stringify(a) === JSON.stringify(b);
}

/** 16 bytes; zeros where nobody knows it. */
export function writeDirectory(w: ByteWriter, directoryId: string | undefined): void {
  w.recent(DIRECTORIES, directoryId ?? UNKNOWN_DIRECTORY, writeId);
}

export function writeId(w: ByteWriter, id: string): void {
  w.id(id);
}

export function readDirectory(r: ByteReader): string | undefined {
  const directoryId = r.recent(DIRECTORIES, () => r.id());
  return directoryId === UNKNOWN_DIRECTORY ? undefined : directoryId;
}

/** The directories of an epoch history, in its order. */
export function writeDirectories(w: ByteWriter, history: readonly EpochStart[]): void {
  for (const row of history) writeDirectory(w, row.directoryId);
}

let lastOf: { readonly row: EpochStart; readonly named: EpochStart } | undefined;

/** Those of a history that was read before them. */
export function withDirectories(r: ByteReader, history: readonly EpochStart[]): EpochStart[] {
  return history.map((row) => {
    const directoryId = readDirectory(r);
    if (directoryId === undefined) return row;
    // Thousands of spaces have begun alike: one object for them, which nobody changes.
    if (lastOf?.row !== row || lastOf.named.directoryId !== directoryId) {
      lastOf = { row, named: { ...row, directoryId } };
    }
    return lastOf.named;
  });
}
