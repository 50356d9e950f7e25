/** What says whose a data directory is: node.json. */
import { randomBytes } from 'node:crypto';
import path from 'node:path';
import { crc32c } from '../../shared/crc.js';
import { type EngramError, failure } from '../../shared/errors.js';
import { ENTRY_HEADER_BYTES, READ_CHUNK_BYTES } from '../../shared/limits.js';
import { isEngramLogName } from '../../shared/log/engram-log.js';
import { isGoodHeader, readPayloadSize, saltOf } from '../../shared/log/entry.js';
import { segmentStart } from '../../shared/log/segment.js';
import { type Disk, readSmallFile, replaceFile } from '../segments/disk.js';
import { withReserve } from '../segments/log-end.js';
import { newestState } from './recovery.js';

const NAME = 'node.json';
const FORMAT_VERSION = 2;
const MAX_BYTES = 64 * 1024;

export interface NodeIdentity {
  readonly nodeId: string;
  readonly clusterId: string;
}

/** What node.json says. */
export interface NodeFile extends NodeIdentity {
  readonly logSalt: number;
  /** 32 hex digits; undefined in a file of format 1. */
  readonly directoryId: string | undefined;
  /** The format in which the directory was made. */
  readonly madeAs: number;
  /** No entry of the log is longer; undefined where nobody has noted it. */
  readonly maxEntryBytes?: number | undefined;
  /** A copy that was not opened yet: see makeCopied. */
  readonly copied?: boolean | undefined;
}

/** The node.json of a directory that is open, and what had to be done to it. */
export interface OpenedNodeFile extends NodeFile {
  readonly directoryId: string;
  readonly change: 'made' | 'raised' | 'rebuilt' | undefined;
}

/** Names a directory, as no other is named: 32 hex digits. */
export function newDirectoryId(): string {
  return randomBytes(16).toString('hex');
}

/**
 * Reads node.json or, in a directory without segments, makes it with a fresh salt; raises one of
 * format 1; where it is lost or damaged, rebuilds it from the log and the state. Durable when it
 * returns. Throws Configuration when the directory is another node's, UnsupportedVersion,
 * EngramDirectory, CorruptionDetected.
 */
export async function openNodeFile(
  disk: Disk,
  dir: string,
  own: NodeIdentity & { readonly maxEntryBytes?: number },
): Promise<OpenedNodeFile> {
  const names = await disk.list(dir);
  const segments = names.filter((name) => segmentStart(name) !== undefined);
  const { nodeId, clusterId, maxEntryBytes } = own;
  const put = async (
    file: Omit<NodeFile, keyof NodeIdentity>,
    change: OpenedNodeFile['change'],
  ): Promise<OpenedNodeFile> => {
    const directoryId = file.directoryId ?? newDirectoryId();
    const whole = { ...file, nodeId, clusterId, directoryId };
    await writeNodeFile(disk, dir, whole);
    return { ...whole, change };
  };
  if (!names.includes(NAME) && segments.length === 0) {
    // Names that our own segments never have.
    const foreign = names.find(isEngramLogName);
    if (foreign)
      throw failure('EngramDirectory', `${dir} holds files of Engram itself (${foreign})`);
    const logSalt = randomBytes(4).readUInt32LE();
    const fresh = { logSalt, directoryId: undefined, madeAs: FORMAT_VERSION, maxEntryBytes };
    return await put(fresh, 'made');
  }
  let found: NodeFile;
  try {
    found = await readNodeFile(disk, dir);
  } catch (error) {
    if ((error as EngramError).code !== 'CorruptionDetected') throw error;
    if (segments.length === 0) throw error;
    const logSalt = await findSalt(disk, dir, segments);
    const state = await newestState(disk, dir);
    // Without a witness nobody knows whose log this is.
    if (logSalt === undefined || !state) throw error;
    requireOwn(state, own);
    const { directoryId, madeAs } = state;
    return await put({ logSalt, directoryId, madeAs }, 'rebuilt');
  }
  requireOwn(found, own);
  const { logSalt, directoryId, madeAs } = found;
  // Before there is a log that it is missed by.
  if (directoryId !== undefined && segments.length === 0) return await put(found, undefined);
  if (directoryId !== undefined) return { ...found, directoryId, change: undefined };
  // Raised before, and then an older node.json was put in its place: the directory is the same.
  const state = await newestState(disk, dir);
  const witness = state && isSame(state, own) ? state.directoryId : undefined;
  return await put({ logSalt, directoryId: witness, madeAs }, 'raised');
}

function isSame(found: NodeIdentity, own: NodeIdentity): boolean {
  return found.nodeId === own.nodeId && found.clusterId === own.clusterId;
}

function requireOwn(found: NodeIdentity, own: NodeIdentity): void {
  if (isSame(found, own)) return;
  throw failure(
    'Configuration',
    `dataDir belongs to node ${found.nodeId} of cluster ${found.clusterId}, ` +
      `not to ${own.nodeId} of ${own.clusterId}`,
  );
}

/** What is written once more for a copy. */
interface Stated {
  write(): Promise<void>;
}

/**
 * Behind the first state of each opening: node.json takes its name once more, for an earlier life
 * may have failed to make it durable, and then only the cache has it. Where it is of a copy that is
 * opened for the first time, what its spaces are from now on (makeCopied) is durable in both
 * generations of the state before node.json says that it is a directory like any other.
 */
export async function settleNodeFile(
  disk: Disk,
  dir: string,
  file: OpenedNodeFile,
  state: Stated,
): Promise<void> {
  if (file.copied) await state.write();
  const { directoryId } = file;
  await writeNodeFile(disk, dir, {
    ...(await readNodeFile(disk, dir)),
    directoryId,
    copied: false,
  });
}

/** Durable when it resolves; a crash leaves the old file or this one. */
export async function writeNodeFile(
  disk: Disk,
  dir: string,
  file: NodeFile & { readonly directoryId: string },
): Promise<void> {
  const { nodeId, clusterId, logSalt, directoryId, madeAs, maxEntryBytes } = file;
  const formatVersion = FORMAT_VERSION;
  const copied = file.copied || undefined;
  const more = { directoryId, madeAs, maxEntryBytes, copied };
  const fields = { formatVersion, nodeId, clusterId, logSalt, ...more };
  const text = JSON.stringify({ ...fields, crc: crcOf(fields) });
  await withReserve(disk, dir, () => replaceFile(disk, dir, NAME, Buffer.from(`${text}\n`)));
}

/**
 * The salt under which three good headers stand in their places: `place` can be undone.
 * @returns undefined where no three agree. Throws EngramDirectory.
 */
export async function findSalt(
  disk: Disk,
  dir: string,
  segments: readonly string[],
): Promise<number | undefined> {
  const votes = new Map<number, number>();
  for (const name of segments) {
    const start = segmentStart(name)!;
    const file = await disk.open(path.join(dir, name), 'read');
    try {
      const bytes = new Uint8Array(READ_CHUNK_BYTES);
      const got = bytes.subarray(0, await file.read(bytes, 0));
      const view = new DataView(got.buffer, 0, got.length);
      for (let at = 0; at + ENTRY_HEADER_BYTES <= got.length && isGoodHeader(view, at); ) {
        // Engram itself writes no stamps.
        if (view.getBigUint64(at + 56, true) === 0n) {
          throw failure('EngramDirectory', `${dir} holds files of Engram itself (${name})`);
        }
        const salt = saltOf(view, at, start + at);
        votes.set(salt, (votes.get(salt) ?? 0) + 1);
        if (votes.get(salt) === 3) return salt;
        at += ENTRY_HEADER_BYTES + readPayloadSize(view, at);
      }
    } finally {
      await file.close();
    }
  }
  return undefined;
}

function crcOf(fields: object): number {
  return crc32c(Buffer.from(JSON.stringify(fields)));
}

/** Whose a directory is, and its salt. Throws CorruptionDetected, UnsupportedVersion. */
export async function readNodeFile(disk: Disk, dir: string): Promise<NodeFile> {
  const bytes = await readSmallFile(disk, dir, NAME, MAX_BYTES);
  if (!bytes) throw failure('CorruptionDetected', `${dir} has no ${NAME}`);
  let parsed: unknown;
  try {
    parsed = JSON.parse(Buffer.from(bytes).toString('utf8'));
  } catch (cause) {
    throw failure('CorruptionDetected', `${NAME} is no JSON`, { cause });
  }
  if (typeof parsed !== 'object' || parsed === null) {
    throw failure('CorruptionDetected', `${NAME} holds no object`);
  }
  const { formatVersion, nodeId, clusterId, logSalt, crc, ...rest } = parsed as Record<
    string,
    unknown
  >;
  const { directoryId, madeAs, maxEntryBytes, copied } = rest;
  if (typeof formatVersion === 'number' && formatVersion > FORMAT_VERSION) {
    const found = `data directory of format ${formatVersion}, known: 1 to ${FORMAT_VERSION}`;
    throw failure('UnsupportedVersion', found);
  }
  const first = { formatVersion, nodeId, clusterId, logSalt };
  const more = { directoryId, madeAs, maxEntryBytes, copied };
  const fields = formatVersion === 1 ? first : { ...first, ...more };
  if (crc !== crcOf(fields)) throw failure('CorruptionDetected', `${NAME} does not fit its crc`);
  return {
    nodeId: nodeId as string,
    clusterId: clusterId as string,
    logSalt: logSalt as number,
    directoryId: formatVersion === 1 ? undefined : (directoryId as string),
    madeAs: formatVersion === 1 ? 1 : (madeAs as number),
    maxEntryBytes: maxEntryBytes as number | undefined,
    copied: formatVersion !== 1 && copied === true,
  };
}
