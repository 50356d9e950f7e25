/**
 * The file of a segment's index. A row is found without reading the others, and trusted without
 * them: rows are sorted by id, and each part has a CRC32C of its own. Little-endian:
 *
 * Head: magic "EGWI", format u32, start u64, end u64, spaces u32, CRC of all before it.
 * Rows: id, first u64, last u64, at u32 (of its stretches, in the file), stretches u32, CRC of
 * these, CRC of the row before it. Stretches: first u64, bytes from the segment's start u32,
 * length u32.
 */
import { ByteReader, ByteWriter, idBegin, idWord } from '../bytes.js';
import { crc32c, crc32cRange, crc32cTable } from '../crc.js';
import { failure } from '../errors.js';
import type { Lsn, Sequence, Slot } from '../position.js';
import { SegmentIndex, type Stretches } from './segment-index.js';

const MAGIC = 0x49574745;
const FORMAT = 2;
export const INDEX_HEAD_BYTES = 32;
export const INDEX_ROW_BYTES = 48;
const STRETCH_BYTES = 16;
/** More than a node may have of spaces; with 32 bits before it still a whole number. */
const PLACES = 2 ** 21;

/** One space in the file of an index. */
export interface IndexRow {
  readonly id: string;
  readonly first: Sequence;
  readonly last: Sequence;
  /** Where its stretches are in the file, and how long. */
  readonly at: number;
  readonly bytes: number;
  readonly crc: number;
}

/**
 * @param idOf the space's id; the file outlives slots
 * @returns a part of `index.room.file`: left to it again once it is written
 */
export function encodeIndex(
  index: SegmentIndex,
  start: Lsn,
  end: Lsn,
  idOf: (slot: Slot) => string,
): Uint8Array {
  const { slots, firsts, lasts } = index.ends();
  const behindRows = INDEX_HEAD_BYTES + INDEX_ROW_BYTES * slots.length;
  const length = slots.reduce((sum, slot) => sum + STRETCH_BYTES * index.countOf(slot), behindRows);
  const bytes = index.room.file.take(length).subarray(0, length);
  const view = new DataView(bytes.buffer, bytes.byteOffset, length);
  const head = new ByteWriter().u32(MAGIC).u32(FORMAT).u64(start).u64(end).u32(slots.length);
  bytes.set(head.u32(crc32c(head.bytes())).bytes());
  // All in one place, without a view or an object for each row: of many spaces this is one long
  // turn.
  const places = byIds(slots, idOf);
  /** By slot: where its next stretch goes. */
  const next = new Uint32Array(slots.length > 0 ? slots.at(-1)! + 1 : 0);
  let at = behindRows;
  for (const place of places) {
    const slot = slots[place]!;
    next[slot] = at;
    at += STRETCH_BYTES * index.countOf(slot);
  }
  index.each((slot, first, lsn, long) => {
    const to = next[slot]!;
    putU64(view, to, first);
    view.setUint32(to + 8, lsn - start, true);
    view.setUint32(to + 12, long, true);
    next[slot] = to + STRETCH_BYTES;
  });
  let row = INDEX_HEAD_BYTES;
  at = behindRows;
  for (const place of places) {
    const slot = slots[place]!;
    const stretches = index.countOf(slot);
    const size = STRETCH_BYTES * stretches;
    const id = idOf(slot);
    for (let word = 0; word < 4; word++) view.setUint32(row + 4 * word, idWord(id, word), true);
    putU64(view, row + 16, firsts[place]!);
    putU64(view, row + 24, lasts[place]!);
    view.setUint32(row + 32, at, true);
    view.setUint32(row + 36, stretches, true);
    view.setUint32(row + 40, crc32cRange(bytes, view, at, size), true);
    view.setUint32(row + 44, crc32cTable(view, row, INDEX_ROW_BYTES - 4), true);
    row += INDEX_ROW_BYTES;
    at += size;
  }
  return bytes;
}

/** Places in `slots`, in the order of the ids of these. */
function byIds(slots: Uint32Array, idOf: (slot: Slot) => string): Float64Array {
  // Begin and place in one number: numbers are sorted without a call for each pair of them.
  const keys = Float64Array.from(slots, (slot, place) => PLACES * idBegin(idOf(slot)) + place);
  keys.sort();
  const beginOf = (key: number): number => Math.floor(key / PLACES);
  const idAt = (key: number): string => idOf(slots[key % PLACES]!);
  for (let from = 0, to = 0; from < keys.length; from = to) {
    while (to < keys.length && beginOf(keys[to]!) === beginOf(keys[from]!)) to++;
    // Where they begin alike the texts tell.
    if (to - from > 1) keys.subarray(from, to).sort((a, b) => (idAt(a) < idAt(b) ? -1 : 1));
  }
  return keys.map((key) => key % PLACES);
}

function putU64(view: DataView, at: number, value: number): void {
  view.setUint32(at, value >>> 0, true);
  view.setUint32(at + 4, Math.floor(value / 2 ** 32), true);
}

/** One that an older version has written: nobody reads it, and it is built again when needed. */
export function isOldIndex(bytes: Uint8Array): boolean {
  if (bytes.length < INDEX_HEAD_BYTES) return false;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return view.getUint32(0, true) === MAGIC && view.getUint32(4, true) === FORMAT - 1;
}

/** How many rows follow. Throws CorruptionDetected where it is not the index of this segment. */
export function decodeIndexHead(bytes: Uint8Array, start: Lsn, end: Lsn): number {
  const r = reader(bytes, INDEX_HEAD_BYTES);
  if (r.u32() !== MAGIC || r.u32() !== FORMAT) throw bad('another format');
  if (r.u64() !== start || r.u64() !== end) throw bad('another segment');
  const rows = r.u32();
  checkCrc(bytes, INDEX_HEAD_BYTES);
  return rows;
}

/** Reads the row at `offset`. Throws CorruptionDetected. */
export function decodeIndexRow(bytes: Uint8Array, offset: number): IndexRow {
  const part = bytes.subarray(offset, offset + INDEX_ROW_BYTES);
  const r = reader(part, INDEX_ROW_BYTES);
  const id = r.id();
  const row = { id, first: r.u64(), last: r.u64(), at: r.u32(), bytes: r.u32() * STRETCH_BYTES };
  const crc = r.u32();
  checkCrc(part, INDEX_ROW_BYTES);
  if (row.last < row.first || row.bytes === 0) throw bad('a row that contradicts itself');
  return { ...row, crc };
}

/** @param bytes the stretches of the row. Throws CorruptionDetected. */
export function decodeStretches(bytes: Uint8Array, row: IndexRow, start: Lsn): Stretches {
  if (bytes.length !== row.bytes || crc32c(bytes) !== row.crc) throw bad('its CRC does not fit');
  const r = new ByteReader(bytes, 'CorruptionDetected');
  const stretches: Stretches = [];
  while (r.left > 0) stretches.push(r.u64(), start + r.u32(), r.u32());
  if (stretches[0] !== row.first) throw bad('a row that contradicts itself');
  return stretches;
}

/** Reads head and rows. @param slotOf undefined for a space that is not here any more */
export function decodeIndexRows(
  bytes: Uint8Array,
  start: Lsn,
  end: Lsn,
  slotOf: (id: string) => Slot | undefined,
): SegmentIndex {
  const count = decodeIndexHead(bytes, start, end);
  const rows: [Slot, Sequence, Sequence][] = [];
  for (let i = 0; i < count; i++) {
    const row = decodeIndexRow(bytes, INDEX_HEAD_BYTES + INDEX_ROW_BYTES * i);
    const slot = slotOf(row.id);
    if (slot !== undefined) rows.push([slot, row.first, row.last]);
  }
  return SegmentIndex.settled(rows);
}

/** Reads a whole file, every byte of it. Throws CorruptionDetected. */
export function decodeIndex(
  bytes: Uint8Array,
  start: Lsn,
  end: Lsn,
  slotOf: (id: string) => Slot | undefined,
): SegmentIndex {
  const count = decodeIndexHead(bytes, start, end);
  const index = new SegmentIndex();
  let at = INDEX_HEAD_BYTES + INDEX_ROW_BYTES * count;
  let before = '';
  for (let i = 0; i < count; i++) {
    const row = decodeIndexRow(bytes, INDEX_HEAD_BYTES + INDEX_ROW_BYTES * i);
    if (row.at !== at || row.id <= before) throw bad('rows in another order');
    const stretches = decodeStretches(bytes.subarray(at, at + row.bytes), row, start);
    const slot = slotOf(row.id);
    if (slot !== undefined) index.set(slot, stretches, row.last);
    at += row.bytes;
    before = row.id;
  }
  if (at !== bytes.length) throw bad(`${bytes.length} bytes, its rows take ${at}`);
  return index;
}

function reader(bytes: Uint8Array, least: number): ByteReader {
  if (bytes.length < least) throw bad('it is cut short');
  return new ByteReader(bytes, 'CorruptionDetected');
}

function checkCrc(bytes: Uint8Array, length: number): void {
  const found = crc32c(bytes.subarray(0, length - 4));
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (view.getUint32(length - 4, true) !== found) throw bad('its CRC does not fit');
}

function bad(what: string): Error {
  return failure('CorruptionDetected', `a segment index: ${what}`);
}
