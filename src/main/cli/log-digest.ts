/**
 * What a data directory holds, told from its segments alone: for each space the number of
 * entries and a SHA-256 over header bytes [0,56) and payload of each, in sequence order. Two
 * nodes hold the same history when these agree. Opens nothing for writing.
 */
import { createHash, type Hash } from 'node:crypto';
import path from 'node:path';
import { failure } from '../../shared/errors.js';
import { ENTRY_HEADER_BYTES } from '../../shared/limits.js';
import { readPayloadSize, readSequence, readSpaceId } from '../../shared/log/entry.js';
import { NODE_SPACE_ID } from '../../shared/log/node-record.js';
import { segmentStart } from '../../shared/log/segment.js';
import type { Sequence } from '../../shared/position.js';
import { readNodeFile } from '../recovery/node-file.js';
import { KnownRewinds } from '../repair/known-rewinds.js';
import type { Disk } from '../segments/disk.js';
import { type Visit, walkSegment } from '../segments/walk.js';

/** Of an entry, what all nodes share: the header without its node-local stamp. */
const SHARED_HEADER_BYTES = 56;

export interface SpaceDigest {
  readonly entries: number;
  /** Bytes of payload. */
  readonly bytes: number;
  /** SHA-256, hex. */
  readonly digest: string;
}

interface Running {
  last: Sequence;
  bytes: number;
  readonly hash: Hash;
}

/**
 * Digests the log in `dir`, by space id (hex). The node must be closed.
 * Throws CorruptionDetected where a space's sequences have a gap.
 */
export async function digestLog(disk: Disk, dir: string): Promise<Map<string, SpaceDigest>> {
  const { logSalt } = await readNodeFile(disk, dir);
  const spaces = new Map<string, Running>();
  // What was taken back stands before the record that says so.
  const rewinds = new KnownRewinds();
  await walk(disk, dir, logSalt, (bytes, view, at, lsn) => {
    if (readSpaceId(view, at) !== NODE_SPACE_ID) return;
    const start = at + ENTRY_HEADER_BYTES;
    rewinds.record(bytes.subarray(start, start + readPayloadSize(view, at)), lsn);
  });
  await walk(disk, dir, logSalt, (bytes, view, at, lsn) => {
    if (rewinds.isVoided(readSpaceId(view, at), readSequence(view, at), lsn)) return;
    take(spaces, bytes, view, at);
  });
  const digests = new Map<string, SpaceDigest>();
  for (const [id, { last, bytes, hash }] of spaces) {
    digests.set(id, { entries: last, bytes, digest: hash.digest('hex') });
  }
  return digests;
}

async function walk(disk: Disk, dir: string, salt: number, visit: Visit): Promise<void> {
  for (const name of await disk.list(dir)) {
    const start = segmentStart(name);
    if (start === undefined) continue;
    const file = await disk.open(path.join(dir, name), 'read');
    try {
      const segment = { start, size: await file.size() };
      await walkSegment(file, segment, start, salt, visit);
    } finally {
      await file.close();
    }
  }
}

function take(spaces: Map<string, Running>, bytes: Uint8Array, view: DataView, at: number): void {
  const id = readSpaceId(view, at);
  if (id === NODE_SPACE_ID) return;
  let space = spaces.get(id);
  if (!space) {
    space = { last: 0, bytes: 0, hash: createHash('sha256') };
    spaces.set(id, space);
  }
  const sequence = readSequence(view, at);
  if (sequence !== space.last + 1) {
    throw failure('CorruptionDetected', `entry ${sequence} of ${id} follows ${space.last}`);
  }
  space.last = sequence;
  const size = readPayloadSize(view, at);
  space.bytes += size;
  space.hash.update(bytes.subarray(at, at + SHARED_HEADER_BYTES));
  const payload = at + ENTRY_HEADER_BYTES;
  space.hash.update(bytes.subarray(payload, payload + size));
}

/** Every space is in both, with the same entries, and none is in one alone. */
export function sameLogs(
  a: ReadonlyMap<string, SpaceDigest>,
  b: ReadonlyMap<string, SpaceDigest>,
): boolean {
  if (a.size !== b.size) return false;
  for (const [id, digest] of a) {
    const other = b.get(id);
    if (other?.digest !== digest.digest || other.entries !== digest.entries) return false;
  }
  return true;
}
