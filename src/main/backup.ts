/**
 * A copy of a data directory: of one whose node runs (its segments pinned, the state of one
 * moment, what was durable at that moment and nothing behind), or of one that is closed, file by
 * file. It is verified as a whole before it gets its name. It has a directory id of its own, and
 * leads nothing until somebody promotes it by force (DESIGN 14).
 */
import { randomBytes } from 'node:crypto';
import path from 'node:path';
import { failure } from '../shared/errors.js';
import { READ_CHUNK_BYTES } from '../shared/limits.js';
import { segmentName, segmentStart } from '../shared/segment.js';
import type { NodeMemory } from '../shared/slab.js';
import { type Disk, type DiskFile, makeDirDurably, replaceFile } from './disk.js';
import { checkName } from './names.js';
import { type NodeFile, newDirectoryId, readNodeFile, writeNodeFile } from './node-file.js';
import { STATE_FILES } from './recovery.js';
import type { Segments } from './segments.js';
import type { SpaceTable } from './space-table.js';
import type { StateKeeper } from './state-keeper.js';
import { verifyLog } from './verify.js';

export interface BackupOptions {
  /** Whose directory the copy is to be. Default: of the same node, whose place it can take. */
  readonly nodeId?: string;
}

export interface BackupReport {
  /** The directory that was made, absolute. */
  readonly target: string;
  readonly nodeId: string;
  /** Of the copy: no other directory has it. */
  readonly directoryId: string;
  readonly spaces: number;
  readonly entries: number;
  readonly segments: number;
  /** Bytes of the log that were copied. */
  readonly bytes: number;
  /** Damage that was known, and was copied as it is; what is new fails the backup. */
  readonly damagedPlaces: number;
}

const PARTIAL = '.partial';

/** Takes backups of a running node. */
export class Backups {
  readonly #disk: Disk;
  readonly #dir: string;
  readonly #file: NodeFile;
  readonly #segments: Segments;
  readonly #state: StateKeeper;
  readonly #memory: NodeMemory;
  readonly #holes: () => number;
  readonly #running = new Set<string>();

  /** @param holes how many damaged places the node knows */
  constructor(
    disk: Disk,
    dir: string,
    memory: NodeMemory,
    _spaces: SpaceTable,
    segments: Segments,
    file: NodeFile,
    state: StateKeeper,
    holes: () => number,
  ) {
    this.#disk = disk;
    this.#dir = dir;
    this.#file = file;
    this.#segments = segments;
    this.#state = state;
    this.#memory = memory;
    this.#holes = holes;
  }

  /** See Node.backup. */
  async take(target: string, { nodeId }: BackupOptions): Promise<BackupReport> {
    const to = pathOf(target);
    if (this.#running.has(to)) throw failure('Configuration', `a backup to ${to} is under way`);
    this.#running.add(to);
    try {
      const own = ownOf(this.#file, nodeId);
      return await copyTo(this.#disk, this.#dir, to, own, (partial) => this.#copy(partial, own));
    } finally {
      this.#running.delete(to);
    }
  }

  async #copy(partial: string, own: OwnFile): Promise<Copied> {
    const disk = this.#disk;
    const segments = this.#segments;
    const taken = await this.#state.encode(1, own, () => {
      const list = [...segments.list];
      for (const segment of list) segments.pin(segment);
      return { list, durable: this.#memory.durableLsn, holes: this.#holes() };
    });
    const { list, durable, holes } = taken.written;
    try {
      const sizes = list.map(({ start, size, end }) => ({ start, size, end: end ?? durable }));
      await requireRoom(
        disk,
        partial,
        sizes.reduce((sum, s) => sum + (s.end - s.start), 0),
      );
      let bytes = 0;
      for (const { start, size, end } of sizes) {
        // A group that is durable may have rolled already: what stands behind comes with the next.
        const length = Math.max(0, Math.min(end, durable) - start);
        const from = segments.pathOf(start);
        await copyFile(disk, from, path.join(partial, segmentName(start)), length, size);
        bytes += length;
      }
      for (const name of STATE_FILES) await replaceFile(disk, partial, name, taken.bytes);
      return { bytes, holes };
    } finally {
      for (const segment of list) segments.unpin(segment);
    }
  }
}

/**
 * Copies the directory of a node that is closed. Rejects Locked where it is not, Configuration,
 * CorruptionDetected, DiskFull, Io.
 */
export async function backupClosed(
  disk: Disk,
  dir: string,
  target: string,
  { nodeId }: BackupOptions,
): Promise<BackupReport> {
  const from = path.resolve(dir);
  const names = await disk.list(from);
  if (!names.includes('node.json')) {
    throw failure('Configuration', `${dir} is no data directory of a node`);
  }
  const lock = await disk.lock(from);
  try {
    const own = ownOf(await readNodeFile(disk, from), nodeId);
    const states: readonly string[] = STATE_FILES;
    const wanted = names.filter((n) => segmentStart(n) !== undefined || states.includes(n));
    return await copyTo(disk, from, pathOf(target), own, async (partial) => {
      let bytes = 0;
      for (const name of wanted) {
        const file = await disk.open(path.join(from, name), 'read');
        const size = await file.size().finally(() => file.close());
        await requireRoom(disk, partial, size);
        await copyFile(disk, path.join(from, name), path.join(partial, name), size, size);
        if (segmentStart(name) !== undefined) bytes += size;
      }
      return { bytes, holes: 0 };
    });
  } finally {
    lock.release();
  }
}

function pathOf(target: unknown): string {
  if (typeof target === 'string' && target !== '' && !target.includes('\0')) {
    return path.resolve(target);
  }
  throw failure('Configuration', 'the target of a backup is not the path of a directory to make');
}

interface Copied {
  readonly bytes: number;
  readonly holes: number;
}

type OwnFile = NodeFile & { readonly directoryId: string };

function ownOf(file: NodeFile, nodeId: string | undefined): OwnFile {
  if (nodeId !== undefined) checkName('the nodeId of a backup', nodeId);
  const directoryId = newDirectoryId();
  return { ...file, nodeId: nodeId ?? file.nodeId, directoryId, copied: true };
}

/** Copies into a folder beside the target, verifies it, gives it its name. */
async function copyTo(
  disk: Disk,
  dir: string,
  target: string,
  own: OwnFile,
  copy: (partial: string) => Promise<Copied>,
): Promise<BackupReport> {
  const inside = path.relative(dir, target);
  if (!inside.startsWith('..') && !path.isAbsolute(inside)) {
    throw failure('Configuration', `${target} is a part of the directory that is to be copied`);
  }
  const parent = path.dirname(target);
  await makeOrSayWho(disk, parent);
  if ((await disk.list(parent)).includes(path.basename(target))) {
    throw failure('Configuration', `${target} is there already: a backup makes its directory`);
  }
  const partial = `${target}${PARTIAL}-${randomBytes(4).toString('hex')}`;
  await makeOrSayWho(disk, partial);
  try {
    const { bytes, holes } = await copy(partial);
    await writeNodeFile(disk, partial, own);
    const verified = await verifyLog(disk, partial);
    const bad = verified.findings.find((finding) => finding.level === 'rot');
    if (bad && holes === 0) {
      const found = `${bad.file} at ${bad.at}: ${bad.what}`;
      throw failure('CorruptionDetected', `the copy is not sound: ${found}`);
    }
    await disk.rename(partial, target);
    await disk.syncDir(parent);
    const { spaces, entries, segments, rot: damagedPlaces } = verified;
    const { nodeId, directoryId } = own;
    return { target, nodeId, directoryId, spaces, entries, segments, bytes, damagedPlaces };
  } catch (error) {
    await removeAll(disk, partial).catch(() => undefined);
    throw error;
  }
}

/** Who writes a backup is not always who asks for it: a refusal says who. */
async function makeOrSayWho(disk: Disk, dir: string): Promise<void> {
  try {
    await makeDirDurably(disk, dir);
  } catch (error) {
    const { code } = ((error as Error).cause ?? {}) as NodeJS.ErrnoException;
    if (code !== 'EACCES' && code !== 'EPERM' && code !== 'EROFS') throw error;
    const who = `user ${process.geteuid?.() ?? 'of the node'}`;
    const found = `${dir} cannot be made (${code}): a running node writes its backup itself`;
    const what = `${found}, a tool as the owner of the directory; that is ${who} here`;
    throw failure('Io', `${what}, who must be let in there (chown, ReadWritePaths of its unit)`, {
      cause: error,
    });
  }
}

async function removeAll(disk: Disk, dir: string): Promise<void> {
  for (const name of await disk.list(dir)) await disk.remove(path.join(dir, name));
  await disk.removeDir(dir);
}

/** Throws DiskFull before anything is written that would not fit. */
async function requireRoom(disk: Disk, dir: string, bytes: number): Promise<void> {
  const free = await disk.freeBytes(dir);
  if (free >= bytes) return;
  throw failure('DiskFull', `${free} bytes free for a backup of ${bytes} more`);
}

/** The first `length` bytes, in a file of `size`; the rest is zeros. Durable when it resolves. */
async function copyFile(
  disk: Disk,
  from: string,
  to: string,
  length: number,
  size: number,
): Promise<void> {
  const source = await disk.open(from, 'read');
  let target: DiskFile | undefined;
  try {
    target = await disk.open(to, 'create');
    await target.truncate(size);
    const chunk = new Uint8Array(Math.min(READ_CHUNK_BYTES, Math.max(1, length)));
    for (let at = 0; at < length; at += chunk.length) {
      const part = chunk.subarray(0, Math.min(chunk.length, length - at));
      const got = await source.read(part, at);
      await target.write(part.subarray(0, got), at);
      if (got < part.length) break;
    }
    await target.syncAll();
  } finally {
    await target?.close();
    await source.close();
  }
}
