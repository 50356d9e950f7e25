/**
 * What the first bytes of a segment say about the one before it: whether the log went on here,
 * and where it ended there.
 */

import { ENTRY_HEADER_BYTES, READ_CHUNK_BYTES, TRAILER_BYTES } from '../../shared/limits.js';
import { readDurableLsn } from '../../shared/log/entry.js';
import { type Evidence, gatherEvidence, look } from '../../shared/log/segment.js';
import type { Lsn } from '../../shared/position.js';
import type { DiskFile } from './disk.js';
import type { Extent } from './walk.js';

export interface SegmentHead {
  /** The segment holds a good header. */
  readonly isThere: boolean;
  /** Its first bytes are not zero: a write has begun here, for which all before was durable. */
  readonly isTouched: boolean;
  /** Where the entries before it end: the durable_lsn of its first group, where that is told. */
  readonly previousEnd: Lsn | undefined;
  /** Its first entry says so. */
  readonly isFirst: boolean;
}

const UNTOLD = { isThere: false, previousEnd: undefined, isFirst: false };
export const EMPTY: SegmentHead = { ...UNTOLD, isTouched: false };

/** A segment's head. A writer may be in it. */
export async function headOf(file: DiskFile, segment: Extent, salt: number): Promise<SegmentHead> {
  const first = await firstEntry(file, segment, salt);
  if (first.isThere) return first;
  const evidence: Evidence = { durableLsn: 0, lastEnd: undefined };
  await searchBehind(file, segment, segment.start, salt, evidence);
  if (evidence.lastEnd === undefined) return first;
  // What stands behind was written after it: it may be there now.
  const now = await firstEntry(file, segment, salt);
  if (now.isThere) return now;
  // The head is torn: then its first group says where the log ended. Or it is damaged.
  return { ...now, isThere: true, previousEnd: evidence.previousEnd };
}

async function firstEntry(file: DiskFile, segment: Extent, salt: number): Promise<SegmentHead> {
  const head = new Uint8Array(Math.min(ENTRY_HEADER_BYTES, segment.size));
  const got = head.subarray(0, await file.read(head, 0));
  const view = new DataView(head.buffer, 0, got.length);
  const end = segment.start + segment.size;
  const found = look(got, view, 0, segment.start, end, salt);
  const isTouched = got.some((byte) => byte !== 0);
  if (got.length < ENTRY_HEADER_BYTES || found === 'bad-header') return { ...UNTOLD, isTouched };
  const previousEnd = readDurableLsn(view, 0, segment.start);
  return { isThere: true, isTouched, previousEnd, isFirst: true };
}

/** Adds to the evidence every good header from X to the segment's end. */
export async function searchBehind(
  file: DiskFile,
  segment: Extent,
  x: Lsn,
  salt: number,
  evidence: Evidence,
): Promise<void> {
  const end = segment.start + segment.size;
  const window = new Uint8Array(READ_CHUNK_BYTES);
  for (let lsn = x; lsn + ENTRY_HEADER_BYTES <= end; lsn += window.length - ENTRY_HEADER_BYTES) {
    const got = window.subarray(0, await file.read(window, lsn - segment.start));
    gatherEvidence(
      evidence,
      got,
      new DataView(got.buffer, 0, got.length),
      lsn,
      salt,
      segment.start,
    );
    if (got.length < window.length) return;
  }
}

/** Whether the bytes at X, as many as a trailer has, are zero. */
export async function isZero(file: DiskFile, segment: Extent, x: Lsn): Promise<boolean> {
  const head = new Uint8Array(Math.min(TRAILER_BYTES, segment.start + segment.size - x));
  await file.read(head, x - segment.start);
  return head.every((byte) => byte === 0);
}
