/**
 * Walks the entries of one segment file, in windows: up to the first bad place, or around bad
 * places to the next good header. What a bad place means is not decided here.
 */

import { ENTRY_HEADER_BYTES, READ_CHUNK_BYTES } from '../../shared/limits.js';
import {
  readEpoch,
  readHeaderCrc,
  readPayloadCrc,
  readPayloadSize,
  readSequence,
  readSpaceId,
  readTimestamp,
} from '../../shared/log/entry.js';
import { type Found, firstGoodHeader, look } from '../../shared/log/segment.js';
import type { Lsn, Position } from '../../shared/position.js';
import type { DiskFile } from './disk.js';

export interface Extent {
  readonly start: Lsn;
  readonly size: number;
}

/** Gets each good entry; `false` ends the walk. */
export type Visit = (bytes: Uint8Array, view: DataView, at: number, lsn: Lsn) => unknown;

/** The first window of a walk; it doubles up to READ_CHUNK_BYTES. Holes often come together. */
const FIRST_WINDOW_BYTES = 64 * 1024;

/**
 * Walks one segment from `from`, until `visit` returns false.
 * @returns X, the first byte that is no part of a good entry, or where the visit ended
 */
export function walkSegment(
  file: DiskFile,
  segment: Extent,
  from: Lsn,
  salt: number,
  visit: Visit,
): Promise<Lsn> {
  return walkOver(file, segment, from, from, from, salt, visit, () => undefined);
}

/** What the header of an entry says whose payload is bad. */
export interface NamedEntry {
  readonly id: string;
  readonly position: Position;
  readonly timestamp: bigint;
  readonly payloadSize: number;
  readonly payloadCrc: number;
}

export interface BadPlace {
  readonly start: Lsn;
  /** Where the next entry may stand. */
  readonly end: Lsn;
  /** The header is good: this entry alone is damaged (DESIGN 4). */
  readonly entry: NamedEntry | undefined;
}

/** A place whose entry is not good, where a window shows where the next one may stand. */
function badPlaceIn(
  bytes: Uint8Array,
  view: DataView,
  at: number,
  lsn: Lsn,
  isHeaderGood: boolean,
  to: Lsn,
  salt: number,
): BadPlace | undefined {
  const start = lsn + at;
  if (isHeaderGood) {
    const end = start + ENTRY_HEADER_BYTES + readPayloadSize(view, at);
    if (end <= to) return { start, end, entry: namedEntryAt(view, at) };
  }
  const rest = bytes.subarray(Math.min(at + 1, bytes.length), Math.max(0, to - lsn));
  const restView = new DataView(rest.buffer, rest.byteOffset, rest.length);
  const next = firstGoodHeader(rest, restView, start + 1, salt);
  if (next !== undefined) return { start, end: start + 1 + next, entry: undefined };
  return lsn + bytes.length >= to ? { start, end: to, entry: undefined } : undefined;
}

function namedEntryAt(view: DataView, at: number): NamedEntry {
  return {
    id: readSpaceId(view, at),
    position: {
      epoch: readEpoch(view, at),
      sequence: readSequence(view, at),
      headerCrc: readHeaderCrc(view, at),
    },
    timestamp: readTimestamp(view, at),
    payloadSize: readPayloadSize(view, at),
    payloadCrc: readPayloadCrc(view, at),
  };
}

/** What stands at a place whose entry is not good, and where the next good header is. */
export async function badPlaceAt(
  file: DiskFile,
  segment: Extent,
  lsn: Lsn,
  to: Lsn,
  salt: number,
): Promise<BadPlace> {
  const head = new Uint8Array(ENTRY_HEADER_BYTES);
  const got = head.subarray(0, await file.read(head, lsn - segment.start));
  const view = new DataView(head.buffer, 0, got.length);
  const found: Found = look(got, view, 0, lsn, segment.start + segment.size, salt);
  if (got.length === ENTRY_HEADER_BYTES && found !== 'bad-header') {
    const end = lsn + ENTRY_HEADER_BYTES + readPayloadSize(view, 0);
    if (end <= to) return { start: lsn, end, entry: namedEntryAt(view, 0) };
  }
  const next = await findGoodHeader(file, segment, lsn + 1, to, salt);
  return { start: lsn, end: next ?? to, entry: undefined };
}

/** The first good header at or behind `from`. */
export async function findGoodHeader(
  file: DiskFile,
  segment: Extent,
  from: Lsn,
  to: Lsn,
  salt: number,
): Promise<Lsn | undefined> {
  const window = new Uint8Array(READ_CHUNK_BYTES);
  for (let lsn = from; lsn + ENTRY_HEADER_BYTES <= to; lsn += window.length - ENTRY_HEADER_BYTES) {
    const wanted = window.subarray(0, Math.min(window.length, to - lsn));
    const got = wanted.subarray(0, await file.read(wanted, lsn - segment.start));
    const at = firstGoodHeader(got, new DataView(got.buffer, 0, got.length), lsn, salt);
    if (at !== undefined) return lsn + at;
    if (got.length < window.length) return undefined;
  }
  return undefined;
}

/** Walks the entries from `from` up to `to`, around whatever is bad; `visit` may end it. */
export async function walkAround(
  file: DiskFile,
  segment: Extent,
  from: Lsn,
  to: Lsn,
  salt: number,
  visit: Visit,
  bad: (place: BadPlace) => void,
): Promise<void> {
  if (from >= to) return;
  const within: Visit = (bytes, view, at, lsn) => lsn < to && visit(bytes, view, at, lsn) !== false;
  await walkOver(file, segment, from, to, to, salt, within, bad);
}

/**
 * Walks the entries from `from` on: around what is bad before `limit`, up to the first bad place at
 * or behind it. However many places are bad, the file is read about once (FAULTS row 81).
 * @param to up to where the next good header is looked for; nothing is bad from there on
 * @returns the bad place that it ended at, or where the visit ended
 */
export async function walkOver(
  file: DiskFile,
  segment: Extent,
  from: Lsn,
  limit: Lsn,
  to: Lsn,
  salt: number,
  visit: Visit,
  bad: (place: BadPlace) => void,
): Promise<Lsn> {
  const segmentEnd = segment.start + segment.size;
  const stop = Math.min(limit, to, segmentEnd);
  let chunk = FIRST_WINDOW_BYTES;
  let lsn = from;
  for (;;) {
    const window = new Uint8Array(Math.max(0, Math.min(chunk, segmentEnd - lsn)));
    const bytes = window.subarray(0, await file.read(window, lsn - segment.start));
    const view = new DataView(bytes.buffer, 0, bytes.length);
    let at = 0;
    let found: Found;
    for (;;) {
      found = look(bytes, view, at, lsn + at, segmentEnd, salt);
      if (found === 'entry') {
        if (visit(bytes, view, at, lsn + at) === false) return lsn + at;
        at += ENTRY_HEADER_BYTES + readPayloadSize(view, at);
        continue;
      }
      if (found === 'short') break;
      if (lsn + at >= stop) return lsn + at;
      const place = badPlaceIn(bytes, view, at, lsn, found === 'bad-payload', to, salt);
      if (!place) break;
      bad(place);
      at = place.end - lsn;
    }
    lsn += at;
    // One entry may be longer than the window; it was bounded by the segment already.
    const isStuck = found === 'short' && at === 0 && chunk >= segment.size;
    if (isStuck && lsn >= stop) return lsn;
    if (isStuck || found !== 'short') {
      const place = await badPlaceAt(file, segment, lsn, to, salt);
      bad(place);
      lsn = place.end;
    }
    if (at === 0 && found === 'short') chunk = Math.min(segment.size, 4 * chunk);
    else chunk = Math.max(chunk, Math.min(READ_CHUNK_BYTES, 2 * chunk));
  }
}
