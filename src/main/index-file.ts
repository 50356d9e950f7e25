/** The index of a sealed segment as a file beside it; lost or damaged, it is built again. */
import type { Lsn, Slot } from '../shared/position.js';
import { indexName } from '../shared/segment.js';
import { SegmentIndex } from '../shared/segment-index.js';
import { type Disk, readSmallFile, replaceFile } from './disk.js';

const INDEX_MAX_BYTES = 64 * 1024 * 1024;

/** @returns undefined where there is none, or none that fits the segment */
export async function readIndex(
  disk: Disk,
  dir: string,
  start: Lsn,
  end: Lsn,
  slotOf: (id: string) => Slot | undefined,
): Promise<SegmentIndex | undefined> {
  try {
    const bytes = await readSmallFile(disk, dir, indexName(start), INDEX_MAX_BYTES);
    return bytes && SegmentIndex.decode(bytes, start, end, slotOf);
  } catch {
    // The segment says the same, and says so itself when it cannot be read.
    return undefined;
  }
}

/** Durable when it returns. */
export async function writeIndex(
  disk: Disk,
  dir: string,
  index: SegmentIndex,
  start: Lsn,
  end: Lsn,
  idOf: (slot: Slot) => string,
): Promise<void> {
  await replaceFile(disk, dir, indexName(start), index.encode(start, end, idOf));
}
