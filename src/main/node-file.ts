/** What says whose a data directory is: node.json. */
import { randomBytes } from 'node:crypto';
import path from 'node:path';
import { crc32c } from '../shared/crc.js';
import { isGoodHeader, readPayloadSize, saltOf } from '../shared/entry.js';
import { type EngramError, failure } from '../shared/errors.js';
import { ENTRY_HEADER_BYTES, READ_CHUNK_BYTES } from '../shared/limits.js';
import { segmentStart } from '../shared/segment.js';
import { type Disk, readSmallFile, replaceFile } from './disk.js';
import { newestState } from './recovery.js';

const NAME = 'node.json';
const FORMAT_VERSION = 1;
const MAX_BYTES = 64 * 1024;

export interface NodeIdentity {
  readonly nodeId: string;
  readonly clusterId: string;
}

/** The salt of a directory, and whether its node.json had to be made again. */
export interface OpenedNodeFile {
  readonly logSalt: number;
  readonly isRebuilt: boolean;
}

/**
 * Reads node.json or, in a directory without segments, makes it with a fresh salt; where it is
 * lost or damaged, rebuilds it from the log and the state. Durable when it returns.
 * Throws Configuration when the directory is another node's, UnsupportedVersion, EngramDirectory,
 * CorruptionDetected.
 */
export async function openNodeFile(
  disk: Disk,
  dir: string,
  own: NodeIdentity,
): Promise<OpenedNodeFile> {
  const names = await disk.list(dir);
  const segments = names.filter((name) => segmentStart(name) !== undefined);
  if (!names.includes(NAME) && segments.length === 0) {
    const logSalt = randomBytes(4).readUInt32LE();
    await writeNodeFile(disk, dir, own, logSalt);
    return { logSalt, isRebuilt: false };
  }
  try {
    const found = await readNodeFile(disk, dir);
    requireOwn(found, own);
    return { logSalt: found.logSalt, isRebuilt: false };
  } catch (error) {
    if ((error as EngramError).code !== 'CorruptionDetected') throw error;
    if (segments.length === 0) throw error;
    const logSalt = await findSalt(disk, dir, segments);
    const state = await newestState(disk, dir);
    // Without a witness nobody knows whose log this is.
    if (logSalt === undefined || !state) throw error;
    requireOwn(state, own);
    await writeNodeFile(disk, dir, own, logSalt);
    return { logSalt, isRebuilt: true };
  }
}

function requireOwn(found: NodeIdentity, own: NodeIdentity): void {
  if (found.nodeId === own.nodeId && found.clusterId === own.clusterId) return;
  throw failure(
    'Configuration',
    `dataDir belongs to node ${found.nodeId} of cluster ${found.clusterId}, ` +
      `not to ${own.nodeId} of ${own.clusterId}`,
  );
}

async function writeNodeFile(
  disk: Disk,
  dir: string,
  { nodeId, clusterId }: NodeIdentity,
  logSalt: number,
): Promise<void> {
  const fields = { formatVersion: FORMAT_VERSION, nodeId, clusterId, logSalt };
  const text = JSON.stringify({ ...fields, crc: crcOf(fields) });
  await replaceFile(disk, dir, NAME, Buffer.from(`${text}\n`));
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
export async function readNodeFile(
  disk: Disk,
  dir: string,
): Promise<NodeIdentity & { readonly logSalt: number }> {
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
  const { formatVersion, nodeId, clusterId, logSalt, crc } = parsed as Record<string, unknown>;
  if (typeof formatVersion === 'number' && formatVersion > FORMAT_VERSION) {
    throw failure('UnsupportedVersion', `data directory of format ${formatVersion}, known: 1`);
  }
  if (crc !== crcOf({ formatVersion, nodeId, clusterId, logSalt })) {
    throw failure('CorruptionDetected', `${NAME} does not fit its crc`);
  }
  return { nodeId: nodeId as string, clusterId: clusterId as string, logSalt: logSalt as number };
}
