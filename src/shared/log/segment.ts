/**
 * Segments as bytes: names, walking from entry to entry, and the decision where a log ends.
 * Pure: recovery and the tools feed it windows of files.
 */

import { ENTRY_HEADER_BYTES } from '../limits.js';
import type { Lsn } from '../position.js';
import {
  ENTRY_MAGIC,
  isGoodHeader,
  isGoodPayload,
  isInPlace,
  readDurableLsn,
  readPayloadSize,
} from './entry.js';

const NAME = /^wal-([0-9a-f]{16})\.log$/;

/** `wal-<LSN of the first byte, 16 hex digits>.log` */
export function segmentName(start: Lsn): string {
  return `wal-${start.toString(16).padStart(16, '0')}.log`;
}

/** `wal-<LSN>.idx`: what the segment of that LSN holds. */
export function indexName(start: Lsn): string {
  return `wal-${start.toString(16).padStart(16, '0')}.idx`;
}

/** The LSN in a segment's name; undefined for any other name. */
export function segmentStart(name: string): Lsn | undefined {
  const match = NAME.exec(name);
  const start = match ? Number.parseInt(match[1]!, 16) : Number.NaN;
  return Number.isSafeInteger(start) ? start : undefined;
}

const INDEX_NAME = /^wal-([0-9a-f]{16})\.idx$/;

/** The LSN in the name of an index file; undefined for any other name. */
export function indexStart(name: string): Lsn | undefined {
  const match = INDEX_NAME.exec(name);
  return match ? Number.parseInt(match[1]!, 16) : undefined;
}

/** What stands at a place of the log. `short`: good so far, but the window ends before it. */
export type Found = 'entry' | 'bad-header' | 'bad-payload' | 'short';

/**
 * Looks at what stands at `offset` of a window.
 * @param lsn of the byte at `offset`
 * @param segmentEnd LSN behind the segment: no entry crosses it, so a longer claim is bad
 */
export function look(
  bytes: Uint8Array,
  view: DataView,
  offset: number,
  lsn: Lsn,
  segmentEnd: Lsn,
  salt: number,
): Found {
  if (lsn + ENTRY_HEADER_BYTES > segmentEnd) return 'bad-header';
  if (offset + ENTRY_HEADER_BYTES > bytes.length) return 'short';
  if (!isGoodHeader(view, offset) || !isInPlace(view, offset, salt, lsn)) return 'bad-header';
  const end = ENTRY_HEADER_BYTES + readPayloadSize(view, offset);
  if (lsn + end > segmentEnd) return 'bad-header';
  if (offset + end > bytes.length) return 'short';
  return isGoodPayload(bytes, view, offset) ? 'entry' : 'bad-payload';
}

/** What lies behind the first bad place, found by looking for good headers byte by byte. */
export interface Evidence {
  /** W: the highest durable_lsn that any good header behind X names; 0 when there is none. */
  durableLsn: Lsn;
  /** End of the last good header's entry; undefined when there is no good header. */
  lastEnd: Lsn | undefined;
  /** The highest durable_lsn that is not behind this segment's head: where the one before ends. */
  previousEnd?: Lsn | undefined;
}

/**
 * Adds what a window shows to the evidence. Only stamps are trusted: a header counts where its
 * place fits, so leftovers, stray blocks and logs inside payloads do not.
 * @param lsn of the window's first byte
 * @param segmentStart LSN of the segment's first byte
 */
export function gatherEvidence(
  evidence: Evidence,
  bytes: Uint8Array,
  view: DataView,
  lsn: Lsn,
  salt: number,
  segmentStart: Lsn,
): void {
  const first = ENTRY_MAGIC & 0xff;
  const last = bytes.length - ENTRY_HEADER_BYTES;
  for (let at = bytes.indexOf(first); at >= 0 && at <= last; at = bytes.indexOf(first, at + 1)) {
    if (!isGoodHeader(view, at) || !isInPlace(view, at, salt, lsn + at)) continue;
    const durableLsn = readDurableLsn(view, at, lsn + at);
    evidence.durableLsn = Math.max(evidence.durableLsn, durableLsn);
    if (durableLsn <= segmentStart) {
      evidence.previousEnd = Math.max(evidence.previousEnd ?? 0, durableLsn);
    }
    evidence.lastEnd = lsn + at + ENTRY_HEADER_BYTES + readPayloadSize(view, at);
  }
}

/** Offset of the first good header in a window; undefined where there is none. */
export function firstGoodHeader(
  bytes: Uint8Array,
  view: DataView,
  lsn: Lsn,
  salt: number,
): number | undefined {
  const first = ENTRY_MAGIC & 0xff;
  const last = bytes.length - ENTRY_HEADER_BYTES;
  for (let at = bytes.indexOf(first); at >= 0 && at <= last; at = bytes.indexOf(first, at + 1)) {
    if (isGoodHeader(view, at) && isInPlace(view, at, salt, lsn + at)) return at;
  }
  return undefined;
}

export interface EndFacts {
  /** X: the first byte that is not part of a good entry. */
  readonly x: Lsn;
  /** The 64 bytes at X, or as many as the segment has, are zero. */
  readonly zerosAtX: boolean;
  /** W, from headers behind X in this and later segments and from the state. */
  readonly w: Lsn;
  /** A good header stands behind X in this segment. */
  readonly goodBehind: boolean;
  /** A later segment holds a good header; then its first entry's durable_lsn. */
  readonly nextDurableLsn: Lsn | undefined;
  /** Where the list of live segments says that this one ends. */
  readonly listedEnd: Lsn | undefined;
}

export type End = 'clean' | 'torn' | 'rot';

/**
 * The decision table of "Where the log ends" (DESIGN 4) for one segment.
 *
 *   later segment | at X                     | X against W | decision
 *   --------------+--------------------------+-------------+---------
 *   yes           | X is the segment's end   |             | clean
 *   yes           | anything else            |             | rot
 *   no            | zeros, nothing behind    | X >= W      | clean
 *   no            | anything                 | X <  W      | rot
 *   no            | not zeros, or good behind| X >= W      | torn
 */
export function decideEnd(facts: EndFacts): End {
  if (facts.nextDurableLsn !== undefined) {
    return facts.x === (facts.listedEnd ?? facts.nextDurableLsn) ? 'clean' : 'rot';
  }
  if (facts.x < facts.w) return 'rot';
  return facts.zerosAtX && !facts.goodBehind ? 'clean' : 'torn';
}
