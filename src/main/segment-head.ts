/**
 * What the first bytes of a segment say about the one before it: whether the log went on here,
 * and where it ended there.
 */
import { readDurableLsn } from '../shared/entry.js';
import { ENTRY_HEADER_BYTES, READ_CHUNK_BYTES } from '../shared/limits.js';
import type { Lsn } from '../shared/position.js';
import { type Evidence, gatherEvidence, look } from '../shared/segment.js';
import type { DiskFile } from './disk.js';
import type { Extent } from './segment-walk.js';

export interface SegmentHead {
  /** The segment holds a good header. */
  readonly isThere: boolean;
  /** Where the entries before it end: the durable_lsn of its first group, where that is told. */
  readonly previousEnd: Lsn | undefined;
}

export const EMPTY: SegmentHead = { isThere: false, previousEnd: undefined };

/** A segment's head. A writer may be in it. */
export async function headOf(file: DiskFile, segment: Extent, salt: number): Promise<SegmentHead> {
  const first = await firstEntry(file, segment, salt);
  if (first) return first;
  const evidence: Evidence = { durableLsn: 0, lastEnd: undefined };
  await searchBehind(file, segment, segment.start, salt, evidence);
  if (evidence.lastEnd === undefined) return EMPTY;
  // What stands behind was written after it: it may be there now.
  const now = await firstEntry(file, segment, salt);
  if (now) return now;
  // The head is torn: then its first group says where the log ended. Or it is damaged.
  const { durableLsn } = evidence;
  return { isThere: true, previousEnd: durableLsn <= segment.start ? durableLsn : undefined };
}

async function firstEntry(
  file: DiskFile,
  segment: Extent,
  salt: number,
): Promise<SegmentHead | undefined> {
  const head = new Uint8Array(ENTRY_HEADER_BYTES);
  const got = await file.read(head, 0);
  const view = new DataView(head.buffer);
  const end = segment.start + segment.size;
  const found = look(head.subarray(0, got), view, 0, segment.start, end, salt);
  if (got < head.length || found === 'bad-header') return undefined;
  return { isThere: true, previousEnd: readDurableLsn(view, 0, segment.start) };
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
    gatherEvidence(evidence, got, new DataView(got.buffer, 0, got.length), lsn, salt);
    if (got.length < window.length) return;
  }
}
