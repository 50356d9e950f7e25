/**
 * What a data directory holds, told from its segments alone: for each space the number of
 * entries and a SHA-256 over header and payload of each, in sequence order, with zeros for the
 * header's bytes [56,64), which are each node's own. Two nodes hold the same history when these
 * agree. Opens nothing for writing.
 */
import { createHash, type Hash } from 'node:crypto';
import path from 'node:path';
import { failure } from '../../shared/errors.js';
import { ENTRY_HEADER_BYTES } from '../../shared/limits.js';
import {
  readPayloadSize,
  readSequence,
  readSpaceId,
  readSpaceIdWord,
} from '../../shared/log/entry.js';
import { NODE_SPACE_ID } from '../../shared/log/node-record.js';
import { segmentStart } from '../../shared/log/segment.js';
import type { Lsn, Sequence } from '../../shared/position.js';
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
  const rewinds = new KnownRewinds();
  let log = await digestKnowing(disk, dir, logSalt, rewinds);
  if (rewinds.isMore) {
    // What was taken back stands before the record that says so: once more, knowing all of them.
    const record: Visit = (bytes, view, at, lsn) => recordAt(rewinds, bytes, view, at, lsn);
    await walk(disk, dir, logSalt, record);
    rewinds.isMore = false;
    log = await digestKnowing(disk, dir, logSalt, rewinds);
  }
  return log;
}

/** Ends at the first rewind that was not known: what was digested until then is wrong. */
async function digestKnowing(
  disk: Disk,
  dir: string,
  salt: number,
  rewinds: KnownRewinds,
): Promise<Map<string, SpaceDigest>> {
  const digests = new LogDigests();
  // Entries of one space often stand together: its id is made once for all of them.
  const ids = new SpaceIds();
  await walk(disk, dir, salt, (bytes, view, at, lsn) => {
    const id = ids.at(view, at);
    if (id === NODE_SPACE_ID) recordAt(rewinds, bytes, view, at, lsn);
    else if (!rewinds.isVoided(id, readSequence(view, at), lsn)) digests.take(id, bytes, view, at);
    return !rewinds.isMore;
  });
  return digests.end();
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

function recordAt(
  rewinds: KnownRewinds,
  bytes: Uint8Array,
  view: DataView,
  at: number,
  lsn: Lsn,
): void {
  if (readSpaceId(view, at) !== NODE_SPACE_ID) return;
  const start = at + ENTRY_HEADER_BYTES;
  rewinds.record(bytes.subarray(start, start + readPayloadSize(view, at)), lsn);
}

class SpaceIds {
  #id = '';
  readonly #words = [-1, -1, -1, -1];

  at(view: DataView, at: number): string {
    const words = this.#words;
    if (words.every((word, i) => word === readSpaceIdWord(view, at, i))) return this.#id;
    for (const i of words.keys()) words[i] = readSpaceIdWord(view, at, i);
    this.#id = readSpaceId(view, at);
    return this.#id;
  }
}

/** The digests of a log whose entries come in the order of their LSNs. */
class LogDigests {
  readonly #spaces = new Map<string, Running>();
  /** Entries of one space that stand one behind the other: hashed in one go. */
  #run:
    | { readonly bytes: Uint8Array; readonly space: Running; from: number; to: number }
    | undefined;

  take(id: string, bytes: Uint8Array, view: DataView, at: number): void {
    let space = this.#spaces.get(id);
    if (!space) {
      space = { last: 0, bytes: 0, hash: createHash('sha256') };
      this.#spaces.set(id, space);
    }
    const sequence = readSequence(view, at);
    if (sequence !== space.last + 1) {
      throw failure('CorruptionDetected', `entry ${sequence} of ${id} follows ${space.last}`);
    }
    space.last = sequence;
    const size = readPayloadSize(view, at);
    space.bytes += size;
    // The walk has checked the stamp and needs it no more; it is each node's own.
    bytes.fill(0, at + SHARED_HEADER_BYTES, at + ENTRY_HEADER_BYTES);
    const run = this.#run;
    const to = at + ENTRY_HEADER_BYTES + size;
    if (run?.space === space && run.bytes === bytes && run.to === at) {
      run.to = to;
      return;
    }
    this.#hashRun();
    this.#run = { bytes, space, from: at, to };
  }

  #hashRun(): void {
    if (!this.#run) return;
    const { bytes, space, from, to } = this.#run;
    space.hash.update(bytes.subarray(from, to));
  }

  end(): Map<string, SpaceDigest> {
    this.#hashRun();
    this.#run = undefined;
    const digests = new Map<string, SpaceDigest>();
    for (const [id, { last, bytes, hash }] of this.#spaces) {
      digests.set(id, { entries: last, bytes, digest: hash.digest('hex') });
    }
    return digests;
  }
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
