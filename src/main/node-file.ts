/** What says whose a data directory is: node.json. */
import { randomBytes } from 'node:crypto';
import path from 'node:path';
import { crc32c } from '../shared/crc.js';
import { ENTRY_MAGIC } from '../shared/entry.js';
import { failure } from '../shared/errors.js';
import { segmentStart } from '../shared/segment.js';
import { type Disk, readSmallFile, replaceFile } from './disk.js';

const NAME = 'node.json';
const FORMAT_VERSION = 1;
const MAX_BYTES = 64 * 1024;

export interface NodeIdentity {
  readonly nodeId: string;
  readonly clusterId: string;
}

/**
 * Reads node.json or, in a directory without segments, makes it with a fresh salt; durable when
 * it returns. @returns the log's salt, u32
 * Throws Configuration when the directory is another node's, UnsupportedVersion, EngramDirectory,
 * CorruptionDetected.
 */
export async function openNodeFile(disk: Disk, dir: string, own: NodeIdentity): Promise<number> {
  if ((await disk.list(dir)).includes(NAME)) {
    const found = await readNodeFile(disk, dir);
    if (found.nodeId !== own.nodeId || found.clusterId !== own.clusterId) {
      throw failure(
        'Configuration',
        `dataDir belongs to node ${found.nodeId} of cluster ${found.clusterId}, ` +
          `not to ${own.nodeId} of ${own.clusterId}`,
      );
    }
    return found.logSalt;
  }
  const segments = (await disk.list(dir)).filter((name) => segmentStart(name) !== undefined);
  if (segments.length > 0) throw await strangeDirectory(disk, dir, segments);
  const logSalt = randomBytes(4).readUInt32LE();
  const { nodeId, clusterId } = own;
  const fields = { formatVersion: FORMAT_VERSION, nodeId, clusterId, logSalt };
  const text = JSON.stringify({ ...fields, crc: crcOf(fields) });
  await replaceFile(disk, dir, NAME, Buffer.from(`${text}\n`));
  return logSalt;
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

/** Segments without node.json: Engram's own (no stamps), or ours with the file lost. */
async function strangeDirectory(disk: Disk, dir: string, segments: string[]): Promise<Error> {
  for (const name of segments) {
    const file = await disk.open(path.join(dir, name), 'read');
    try {
      const head = Buffer.alloc(64);
      const got = await file.read(head, 0);
      const magic = got === 64 && head.readUInt32LE(0) === ENTRY_MAGIC;
      if (magic && head.readBigUInt64LE(56) === 0n) {
        return failure('EngramDirectory', `${dir} holds files of Engram itself (${name})`);
      }
    } finally {
      await file.close();
    }
  }
  return failure('CorruptionDetected', `${dir} holds ${segments.length} segments but no ${NAME}`);
}
