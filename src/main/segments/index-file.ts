/**
 * The index of a sealed segment as a file beside it; lost or damaged, it is built again. One space
 * is looked up in it without reading the others.
 */
import {
  decodeIndexHead,
  decodeIndexRow,
  decodeIndexRows,
  decodeStretches,
  encodeIndex,
  INDEX_HEAD_BYTES,
  INDEX_ROW_BYTES,
  type IndexRow,
} from '../../shared/log/index-format.js';
import { indexName } from '../../shared/log/segment.js';
import type { SegmentIndex, Stretches } from '../../shared/log/segment-index.js';
import type { Lsn, Sequence, Slot } from '../../shared/position.js';
import { type Disk, type DiskFile, openThere, replaceFile } from './disk.js';

/** Rows that are read at once: a page. */
const ROWS_AT_ONCE = 85;
/** Ids are hashes: where a row stands can be guessed. Where guesses are bad, by halves. */
const GUESSES_MAX = 4;

/** What an index says of one space. */
export interface SpaceRow {
  readonly first: Sequence;
  readonly last: Sequence;
  readonly stretches: Stretches;
}

/** @returns undefined where there is none, or none that fits the segment */
async function inIndex<T>(
  disk: Disk,
  dir: string,
  start: Lsn,
  work: (file: DiskFile) => Promise<T>,
): Promise<T | undefined> {
  try {
    const file = await openThere(disk, dir, indexName(start));
    if (!file) return undefined;
    try {
      return await work(file);
    } finally {
      await file.close();
    }
  } catch {
    // The segment says the same, and says so itself when it cannot be read.
    return undefined;
  }
}

/** Without stretches. @returns undefined where there is none, or none that fits the segment */
export function readIndex(
  disk: Disk,
  dir: string,
  start: Lsn,
  end: Lsn,
  slotOf: (id: string) => Slot | undefined,
): Promise<SegmentIndex | undefined> {
  return inIndex(disk, dir, start, async (file) => {
    const rows = decodeIndexHead(await read(file, 0, INDEX_HEAD_BYTES), start, end);
    const bytes = INDEX_HEAD_BYTES + INDEX_ROW_BYTES * rows;
    // No allocation by a length that the file is too short for.
    if (bytes > (await file.size())) return undefined;
    return decodeIndexRows(await read(file, 0, bytes), start, end, slotOf);
  });
}

/** What the index says of one space. @returns `none`: nothing; undefined: no index that fits */
export function readRow(
  disk: Disk,
  dir: string,
  start: Lsn,
  end: Lsn,
  id: string,
): Promise<SpaceRow | 'none' | undefined> {
  return inIndex(disk, dir, start, async (file) => {
    const rows = decodeIndexHead(await read(file, 0, INDEX_HEAD_BYTES), start, end);
    const row = await findRow(file, rows, id);
    if (!row) return 'none';
    if (row.at + row.bytes > (await file.size())) return undefined;
    const stretches = decodeStretches(await read(file, row.at, row.bytes), row, start);
    return { first: row.first, last: row.last, stretches };
  });
}

async function findRow(file: DiskFile, rows: number, id: string): Promise<IndexRow | undefined> {
  const key = keyOf(id);
  let [low, high, lowKey, highKey] = [0, rows, 0, 2 ** 32];
  for (let tries = 0; low < high; tries++) {
    const share = tries < GUESSES_MAX ? (key - lowKey) / (highKey - lowKey) : 0.5;
    const guess = low + Math.floor(Math.max(0, Math.min(1, share || 0)) * (high - low));
    const from = Math.max(low, Math.min(guess - (ROWS_AT_ONCE >> 1), high - ROWS_AT_ONCE));
    const count = Math.min(ROWS_AT_ONCE, high - from);
    const part = await read(
      file,
      INDEX_HEAD_BYTES + INDEX_ROW_BYTES * from,
      INDEX_ROW_BYTES * count,
    );
    const first = decodeIndexRow(part, 0).id;
    const last = decodeIndexRow(part, INDEX_ROW_BYTES * (count - 1)).id;
    if (id < first) [high, highKey] = [from, keyOf(first)];
    else if (id > last) [low, lowKey] = [from + count, keyOf(last)];
    else return rowIn(part, count, id);
  }
  return undefined;
}

/** Each row on the way is checked: else a flipped bit could hide it. */
function rowIn(part: Uint8Array, count: number, id: string): IndexRow | undefined {
  for (let i = 0; i < count; i++) {
    const row = decodeIndexRow(part, INDEX_ROW_BYTES * i);
    if (row.id >= id) return row.id === id ? row : undefined;
  }
  return undefined;
}

function keyOf(id: string): number {
  return Number.parseInt(id.slice(0, 8), 16);
}

async function read(file: DiskFile, at: number, length: number): Promise<Uint8Array> {
  const bytes = new Uint8Array(length);
  return bytes.subarray(0, await file.read(bytes, at));
}

/** Durable when it returns; the index leaves to the file what takes memory. */
export async function writeIndex(
  disk: Disk,
  dir: string,
  index: SegmentIndex,
  start: Lsn,
  end: Lsn,
  idOf: (slot: Slot) => string,
): Promise<void> {
  // A settled one is in its file already.
  if (index.isSettled) return;
  const bytes = encodeIndex(index, start, end, idOf);
  await replaceFile(disk, dir, indexName(start), bytes).finally(() => index.room.file.leave(bytes));
  index.settle();
}
