/**
 * maxEntryBytes may change from life to life; windows and frames are made for the longest entry. So
 * node.json notes under which limit the log was written (FAULTS row 91).
 */
import path from 'node:path';
import { failure } from '../../shared/errors.js';
import { readPayloadSize } from '../../shared/log/entry.js';
import { segmentName } from '../../shared/log/segment.js';
import type { Disk } from '../segments/disk.js';
import type { Segment } from '../segments/segments.js';
import { walkAround } from '../segments/walk.js';
import { type OpenedNodeFile, writeNodeFile } from './node-file.js';

/**
 * Notes the limit, durably; where it is lower than what was noted, reads the log once.
 * Throws Configuration when the log holds an entry that is longer.
 * @param segments the log; the last one ends at `end`
 */
export async function settleEntryLimit(
  disk: Disk,
  dir: string,
  file: OpenedNodeFile,
  segments: readonly Segment[],
  end: number,
  maxEntryBytes: number,
): Promise<void> {
  const noted = file.maxEntryBytes;
  if (noted === maxEntryBytes) return;
  if (noted !== undefined && noted > maxEntryBytes) {
    const longest = await longestEntry(disk, dir, segments, end, file.logSalt);
    if (longest > maxEntryBytes) {
      const found = `maxEntryBytes ${maxEntryBytes}, and this log has an entry of ${longest} bytes`;
      throw failure('Configuration', found, { details: { option: 'maxEntryBytes' } });
    }
  }
  await writeNodeFile(disk, dir, { ...file, maxEntryBytes });
}

/** Bytes of the longest payload, of bad ones, too, where their headers are good. */
async function longestEntry(
  disk: Disk,
  dir: string,
  segments: readonly Segment[],
  logEnd: number,
  salt: number,
): Promise<number> {
  let longest = 0;
  for (const segment of segments) {
    const file = await disk.open(path.join(dir, segmentName(segment.start)), 'read');
    try {
      await walkAround(
        file,
        segment,
        segment.start,
        segment.end ?? logEnd,
        salt,
        (_, view, at) => {
          longest = Math.max(longest, readPayloadSize(view, at));
        },
        ({ entry }) => {
          longest = Math.max(longest, entry?.payloadSize ?? 0);
        },
      );
    } finally {
      await file.close();
    }
  }
  return longest;
}
