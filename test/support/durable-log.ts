/** Looks at the fake disk itself: what a node calls durable must not depend on any cache. */
import path from 'node:path';
import { ENTRY_HEADER_BYTES } from '#src/shared/limits.js';
import { segmentStart } from '#src/shared/log/segment.js';
import type { FakeDisk } from './fake-disk.js';

/** Throws where a power loss now might change a byte of the log before `durableLsn`. */
export function assertDurable(disk: FakeDisk, dir: string, durableLsn: number): void {
  for (const name of disk.list(dir)) {
    const start = segmentStart(name);
    if (start === undefined || start >= durableLsn) continue;
    const at = disk.firstUnsettled(path.join(dir, name), 0, durableLsn - start);
    if (at === undefined) continue;
    throw new Error(`${name} is dirty at byte ${at}, the log is called durable to ${durableLsn}`);
  }
}

/**
 * Where segments begin in which an entry was begun, whole or torn. Not those that only a cache
 * shows: what a failed sync covered may leave it between two looks of an opening.
 */
export function touchedSegments(disk: FakeDisk, dir: string): number[] {
  const starts: number[] = [];
  for (const name of disk.list(dir)) {
    const start = segmentStart(name);
    const file = path.join(dir, name);
    if (start === undefined || disk.mayVanish(file, 0, ENTRY_HEADER_BYTES)) continue;
    disk.edit(file, (bytes) => {
      const head = bytes.subarray(0, ENTRY_HEADER_BYTES);
      if (head.some((byte) => byte !== 0)) starts.push(start);
    });
  }
  return starts;
}
