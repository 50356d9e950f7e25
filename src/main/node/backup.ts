/**
 * A copy of a data directory: of one whose node runs (its segments pinned, the state of one
 * moment, what was durable at that moment and nothing behind), or of one that is closed, file by
 * file. It is verified as a whole before it gets its name. It has a directory id of its own, and
 * leads nothing until somebody promotes it by force (DESIGN 14).
 */
import { randomBytes } from 'node:crypto';
import path from 'node:path';
import { failure } from '../../shared/errors.js';
import { READ_CHUNK_BYTES } from '../../shared/limits.js';
import { segmentName, segmentStart } from '../../shared/log/segment.js';
import type { Hole } from '../../shared/log/state.js';
import type { NodeMemory } from '../../shared/memory/slab.js';
import { checkNewName } from '../../shared/names.js';
import type { Lsn } from '../../shared/position.js';
import type { StateKeeper } from '../log/retention/state-keeper.js';
import {
  type NodeFile,
  newDirectoryId,
  readNodeFile,
  writeNodeFile,
} from '../recovery/node-file.js';
import { newestState, STATE_FILES } from '../recovery/recovery.js';
import { verifyLog } from '../repair/verify.js';
import {
  type Disk,
  type DiskFile,
  makeDirDurably,
  readSmallFile,
  replaceFile,
} from '../segments/disk.js';
import type { Segments } from '../segments/segments.js';
import { type BadPlace, type Extent, walkAround } from '../segments/walk.js';

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
/** In the directory that was copied: when that was. */
const NOTED = 'backed-up';

/** Takes backups of a running node. */
export class Backups {
  readonly #disk: Disk;
  readonly #dir: string;
  readonly #file: NodeFile;
  readonly #segments: Segments;
  readonly #state: StateKeeper;
  readonly #memory: NodeMemory;
  readonly #holes: () => readonly Hole[];
  readonly #running = new Set<string>();
  #lastMs: Promise<number | undefined> | undefined;

  /** @param holes damage that the node knows */
  constructor(
    disk: Disk,
    dir: string,
    memory: NodeMemory,
    segments: Segments,
    file: NodeFile,
    state: StateKeeper,
    holes: () => readonly Hole[],
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
      const copy = (partial: string): Promise<Copied> => this.#copy(partial, own);
      const report = await copyTo(this.#disk, this.#dir, to, own, copy);
      this.#lastMs = noteBackup(this.#disk, this.#dir);
      await this.#lastMs;
      return report;
    } finally {
      this.#running.delete(to);
    }
  }

  /** When the last backup was complete, wall clock; undefined: none is known of. */
  lastMs(): Promise<number | undefined> {
    this.#lastMs ??= this.#noted();
    return this.#lastMs;
  }

  async #noted(): Promise<number | undefined> {
    const bytes = await readSmallFile(this.#disk, this.#dir, NOTED, 64).catch(() => undefined);
    const ms = Number.parseInt(new TextDecoder().decode(bytes), 10);
    return Number.isNaN(ms) ? undefined : ms;
  }

  async #copy(partial: string, own: OwnFile): Promise<Copied> {
    const disk = this.#disk;
    const segments = this.#segments;
    const taken = await this.#state.encode(1, own, () => {
      const list = [...segments.list];
      for (const segment of list) segments.pin(segment);
      return { list, durable: this.#memory.durableLsn, holes: [...this.#holes()] };
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
        bytes += await copyFile(disk, from, path.join(partial, segmentName(start)), length, size);
      }
      for (const name of STATE_FILES) await replaceFile(disk, partial, name, taken.bytes);
      return { bytes, holes, segments: sizes };
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
    const report = await copyTo(disk, from, pathOf(target), own, async (partial) => {
      let bytes = 0;
      for (const name of wanted) {
        const file = await disk.open(path.join(from, name), 'read');
        const size = await file.size().finally(() => file.close());
        await requireRoom(disk, partial, size);
        const [old, copy] = [path.join(from, name), path.join(partial, name)];
        const copied = await copyFile(disk, old, copy, size, size);
        if (segmentStart(name) !== undefined) bytes += copied;
      }
      const state = await newestState(disk, partial);
      const segments = (state?.segments ?? []).map((s) => ({
        ...s,
        end: s.end ?? state!.durableLsn,
      }));
      return { bytes, holes: state?.holes ?? [], segments };
    });
    await noteBackup(disk, from);
    return report;
  } finally {
    lock.release();
  }
}

/**
 * Notes that a backup is complete, for the next life of the node, too: where that cannot be written
 * the backup is as good. @returns when, wall clock
 */
async function noteBackup(disk: Disk, dir: string): Promise<number> {
  const nowMs = Date.now();
  const text = new TextEncoder().encode(`${nowMs}\n`);
  await replaceFile(disk, dir, NOTED, text).catch(() => undefined);
  return nowMs;
}

function pathOf(target: unknown): string {
  if (typeof target === 'string' && target !== '' && !target.includes('\0')) {
    return path.resolve(target);
  }
  throw failure('Configuration', 'the target of a backup is not the path of a directory to make');
}

interface Copied {
  readonly bytes: number;
  /** Damage that is known. */
  readonly holes: readonly Hole[];
  readonly segments: readonly EndedSegment[];
}

interface EndedSegment extends Extent {
  /** Where its entries end, as far as that is known. */
  readonly end: Lsn;
}

type OwnFile = NodeFile & { readonly directoryId: string };

function ownOf(file: NodeFile, nodeId: string | undefined): OwnFile {
  if (nodeId !== undefined) checkNewName('the nodeId of a backup', nodeId);
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
    const copied = await copy(partial);
    const { bytes } = copied;
    await writeNodeFile(disk, partial, own);
    const verified = await verifyLog(disk, partial);
    const bad = verified.findings.find((finding) => finding.level === 'rot');
    if (bad && copied.holes.length === 0) throw unsound(`${bad.file} at ${bad.at}: ${bad.what}`);
    if (bad) await requireKnown(disk, partial, own.logSalt, copied);
    await disk.rename(partial, target);
    await disk.syncDir(parent).catch(async (error) => {
      // It is no backup, and does not stand there like one.
      await disk.rename(target, partial);
      throw error;
    });
    const { spaces, entries, segments, rot: damagedPlaces } = verified;
    const { nodeId, directoryId } = own;
    return { target, nodeId, directoryId, spaces, entries, segments, bytes, damagedPlaces };
  } catch (error) {
    await removeAll(disk, partial).catch(() => undefined);
    throw error;
  }
}

function unsound(found: string): Error {
  return failure('CorruptionDetected', `the copy is not sound: ${found}`);
}

/** Throws CorruptionDetected for a damaged place that the source does not know. */
async function requireKnown(
  disk: Disk,
  partial: string,
  salt: number,
  { holes, segments }: Copied,
): Promise<void> {
  for (const segment of segments) {
    const { start, end } = segment;
    const name = segmentName(start);
    let unknown: BadPlace | undefined;
    const bad = (place: BadPlace): void => {
      if (holes.some((h) => h.start <= place.start && place.end <= h.end)) return;
      unknown ??= place;
    };
    if (!(await disk.list(partial)).includes(name)) continue;
    const file = await disk.open(path.join(partial, name), 'read');
    try {
      await walkAround(file, segment, start, end, salt, () => true, bad);
    } finally {
      await file.close();
    }
    if (unknown) throw unsound(`${name} at ${unknown.start}: damage that nobody knew of`);
  }
}

/** A path like this names no directory anywhere. */
const NO_PATH: readonly string[] = ['ENAMETOOLONG', 'ENOTDIR', 'ELOOP', 'EINVAL'];

/** Who writes a backup is not always who asks for it: a refusal says who. */
async function makeOrSayWho(disk: Disk, dir: string): Promise<void> {
  try {
    await makeDirDurably(disk, dir);
  } catch (error) {
    const { code = '' } = ((error as Error).cause ?? error) as NodeJS.ErrnoException;
    if (NO_PATH.includes(code)) {
      throw failure('Configuration', `${dir} cannot be made (${code}): another target`, {
        cause: error,
      });
    }
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

/**
 * The first `length` bytes, in a file of `size`; the rest is zeros. Durable when it resolves.
 * @returns how many bytes were written: what is zero needs no room
 */
async function copyFile(
  disk: Disk,
  from: string,
  to: string,
  length: number,
  size: number,
): Promise<number> {
  const source = await disk.open(from, 'read');
  let target: DiskFile | undefined;
  let written = 0;
  try {
    target = await disk.open(to, 'create');
    await target.truncate(size);
    const chunk = new Uint8Array(Math.min(READ_CHUNK_BYTES, Math.max(1, length)));
    for (let at = 0; at < length; at += chunk.length) {
      const part = chunk.subarray(0, Math.min(chunk.length, length - at));
      const got = await source.read(part, at);
      const bytes = part.subarray(0, got);
      if (bytes.some((byte) => byte !== 0)) {
        await target.write(bytes, at);
        written += got;
      }
      if (got < part.length) break;
    }
    await target.syncAll();
    return written;
  } finally {
    await target?.close();
    await source.close();
  }
}
