/**
 * Which files of a data directory are the log: what the state lists, and what was begun behind it.
 * Sizes are what the list and the files say, whatever `segmentBytes` is now (FAULTS row 91).
 */
import path from 'node:path';
import { SEGMENT_MAX_BYTES } from '../../shared/limits.js';
import { indexStart, segmentName, segmentStart } from '../../shared/log/segment.js';
import type { Hole, State } from '../../shared/log/state.js';
import type { Lsn } from '../../shared/position.js';
import type { Disk } from '../segments/disk.js';
import { clearFolders } from '../segments/folders.js';
import { isSpareName, newSegment, type Segment } from '../segments/segments.js';
import { corrupt } from './replay.js';

export interface LogDirectory {
  readonly segments: Segment[];
  readonly spares: string[];
  readonly leftovers: Segment[];
  /** Where segments that should be there are not, or not whole. */
  readonly missing: Hole[];
}

interface Found {
  readonly start: Lsn;
  /** Of the file. */
  readonly size: number;
}

/**
 * Reads the directory: nothing of the log is touched. What an earlier life has begun and never
 * finished goes, and spares that no segment to come can use.
 * @param segmentBytes size of segments to come: a spare of another size is none
 */
export async function readDirectory(
  disk: Disk,
  dir: string,
  state: State | undefined,
  segmentBytes: number,
): Promise<LogDirectory> {
  const segments: Segment[] = [];
  const spares: string[] = [];
  const leftovers: Segment[] = [];
  const names = await disk.list(dir);
  const files: Found[] = [];
  for (const name of names) {
    const start = segmentStart(name);
    if (start !== undefined) files.push(await foundAt(disk, dir, name, start));
    else if (isTemporary(name)) await disk.remove(path.join(dir, name));
    else if (!isSpareName(name)) continue;
    else if ((await sizeOf(disk, path.join(dir, name))) === segmentBytes) spares.push(name);
    else await disk.remove(path.join(dir, name));
  }
  files.sort((a, b) => a.start - b.start);
  const listed = new Map(state?.segments.map((s) => [s.start, s]));
  const sizes = knownSizes(files, state, segmentBytes);
  for (const [i, { start, size }] of files.entries()) {
    const fact = listed.get(start);
    // Nothing that a state still lists is ever removed by it (DESIGN 4, State). What a repair has
    // put back before its state was durable is none of the log yet: it is repaired once more.
    if (state && !fact && start < state.lsn) {
      leftovers.push(newSegment(start, size));
      continue;
    }
    const gap = i + 1 < files.length ? files[i + 1]!.start - start : undefined;
    segments.push(newSegment(start, wholeSize(size, fact?.size, gap, sizes), fact?.end));
  }
  await removeStrayIndexes(disk, dir, names);
  await clearFolders(disk, dir);
  const missing = holesBetween(segments, state);
  return { segments, spares, leftovers, missing };
}

/** Throws CorruptionDetected for one that is larger than any segment: it would be read for days. */
async function foundAt(disk: Disk, dir: string, name: string, start: Lsn): Promise<Found> {
  const size = await sizeOf(disk, path.join(dir, name));
  if (size > SEGMENT_MAX_BYTES) throw corrupt(`${name} has ${size} bytes, as no segment has`);
  return { start, size };
}

const TEMPORARY = /^(state-[01]|node\.json|openings|segment|repair|wal-[0-9a-f]{16}\.idx)\.tmp$/;

/** A file that was to take another name, and has not: nobody reads it. */
function isTemporary(name: string): boolean {
  return TEMPORARY.test(name);
}

/** Sizes that segments of this log have, or have had. */
function knownSizes(files: readonly Found[], state: State | undefined, now: number): Set<number> {
  const starts = new Set(files.map((f) => f.start));
  const fitting = files.filter((f) => starts.has(f.start + f.size)).map((f) => f.size);
  return new Set([now, ...fitting, ...(state?.segments ?? []).map((s) => s.size)]);
}

/**
 * The size of a segment: that of its file, if it was not cut short or has grown.
 * @param listed by a state, maybe an older one: an empty segment may have been made anew since
 * @param gap up to the next segment that is there
 */
function wholeSize(
  size: number,
  listed: number | undefined,
  gap: number | undefined,
  known: ReadonlySet<number>,
): number {
  if (size === listed || size === gap) return size;
  if (listed !== undefined && (size < listed || listed === gap)) return listed;
  if (gap === undefined) return size;
  if (size > gap) return gap;
  return !known.has(size) && known.has(gap) ? gap : size;
}

/** An index without its segment is of no use. */
async function removeStrayIndexes(disk: Disk, dir: string, names: string[]): Promise<void> {
  const there = new Set(names);
  for (const name of names) {
    const start = indexStart(name);
    if (start === undefined || there.has(segmentName(start))) continue;
    await disk.remove(path.join(dir, name));
  }
}

function holesBetween(segments: readonly Segment[], state: State | undefined): Hole[] {
  const holes: Hole[] = [];
  const first = segments[0];
  if (first && !state && first.start !== 0) {
    throw corrupt(`no state, and the log begins at LSN ${first.start} instead of 0`);
  }
  const there = new Set(segments.map((s) => s.start));
  for (const { start, size, end } of state?.segments ?? []) {
    if (there.has(start)) continue;
    if (end === undefined) throw corrupt(`${segmentName(start)}, the last segment, is missing`);
    holes.push({ start, end: start + size });
  }
  const lastListed = state?.segments.at(-1)?.start ?? 0;
  for (let i = 1; i < segments.length; i++) {
    const start = segments[i - 1]!.start + segments[i - 1]!.size;
    const end = segments[i]!.start;
    // Before the last listed one the list alone says what must be there.
    if (start !== end && end > lastListed) holes.push({ start, end });
  }
  if (!state && holes[0]) throw corrupt(`no state, and the log misses LSN ${holes[0].start} on`);
  return holes;
}

async function sizeOf(disk: Disk, file: string): Promise<number> {
  const open = await disk.open(file, 'read');
  try {
    return await open.size();
  } finally {
    await open.close();
  }
}
