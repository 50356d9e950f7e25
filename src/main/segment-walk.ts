/**
 * Walks the entries of one segment file, in windows: up to the first bad place, or around bad
 * places to the next good header. What a bad place means is not decided here.
 */
import {
  readEpoch,
  readHeaderCrc,
  readPayloadCrc,
  readPayloadSize,
  readSequence,
  readSpaceId,
  readTimestamp,
} from '../shared/entry.js';
import { ENTRY_HEADER_BYTES, READ_CHUNK_BYTES } from '../shared/limits.js';
import type { Lsn, Position } from '../shared/position.js';
import { type Found, firstGoodHeader, look } from '../shared/segment.js';
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
export async function walkSegment(
  file: DiskFile,
  segment: Extent,
  from: Lsn,
  salt: number,
  visit: Visit,
): Promise<Lsn> {
  const segmentEnd = segment.start + segment.size;
  let chunk = FIRST_WINDOW_BYTES;
  let lsn = from;
  for (;;) {
    const bytes = new Uint8Array(Math.min(chunk, segmentEnd - lsn));
    const got = bytes.subarray(0, await file.read(bytes, lsn - segment.start));
    const view = new DataView(got.buffer, 0, got.length);
    let at = 0;
    let found = look(got, view, at, lsn, segmentEnd, salt);
    while (found === 'entry') {
      if (visit(got, view, at, lsn + at) === false) return lsn + at;
      at += ENTRY_HEADER_BYTES + readPayloadSize(view, at);
      found = look(got, view, at, lsn + at, segmentEnd, salt);
    }
    lsn += at;
    if (found !== 'short') return lsn;
    // One entry may be longer than the window; it was bounded by the segment already.
    if (at === 0 && chunk >= segment.size) return lsn;
    if (at === 0) chunk = Math.min(segment.size, 4 * chunk);
    else chunk = Math.max(chunk, Math.min(READ_CHUNK_BYTES, 2 * chunk));
  }
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

/** What stands at a place whose entry is not good, and where the next good header is. */
export async function badPlaceAt(
  file: DiskFile,
  segment: Extent,
  lsn: Lsn,
  to: Lsn,
  salt: number,
): Promise<BadPlace> {
  const head = new Uint8Array(ENTRY_HEADER_BYTES);
  const got = await file.read(head, lsn - segment.start);
  const view = new DataView(head.buffer, 0, got);
  const found: Found = look(
    head.subarray(0, got),
    view,
    0,
    lsn,
    segment.start + segment.size,
    salt,
  );
  if (got === ENTRY_HEADER_BYTES && found !== 'bad-header') {
    const payloadSize = readPayloadSize(view, 0);
    const end = lsn + ENTRY_HEADER_BYTES + payloadSize;
    if (end <= to) {
      const entry = {
        id: readSpaceId(view, 0),
        position: {
          epoch: readEpoch(view, 0),
          sequence: readSequence(view, 0),
          headerCrc: readHeaderCrc(view, 0),
        },
        timestamp: readTimestamp(view, 0),
        payloadSize,
        payloadCrc: readPayloadCrc(view, 0),
      };
      return { start: lsn, end, entry };
    }
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
  let lsn = from;
  let isOver = false;
  while (lsn < to) {
    lsn = await walkSegment(file, segment, lsn, salt, (bytes, view, at, where) => {
      isOver = where >= to || visit(bytes, view, at, where) === false;
      return !isOver;
    });
    if (isOver || lsn >= to) return;
    const place = await badPlaceAt(file, segment, lsn, to, salt);
    bad(place);
    lsn = place.end;
  }
}
