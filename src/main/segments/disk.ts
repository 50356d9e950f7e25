/**
 * The narrow door to the file system: all that the log asks of a disk. Short writes are
 * completed here; every failure comes out as an `Io` error that names the operation and path.
 */

import path from 'node:path';
import { type EngramError, failure } from '../../shared/errors.js';

/** An open file. Offsets and lengths are bytes. */
export interface DiskFile {
  /** What errors name it by: who renames it while it is open says so here. */
  path: string;
  /**
   * Where the operating system knows it by a number: lends that for one call. The file is not
   * closed before it has settled.
   */
  readonly withFd?: (<T>(call: (fd: number) => Promise<T>) => Promise<T>) | undefined;
  /** Writes all of `bytes` at `position`; the bytes must not change before it resolves. */
  write(bytes: Uint8Array, position: number): Promise<void>;
  /** fdatasync. */
  sync(): Promise<void>;
  /** Both in one call, where there is one. What rejects as `WalFailed` has failed to sync. */
  writeAndSync?(bytes: Uint8Array, position: number): Promise<void>;
  /** fsync: after create or truncate, where the size is to last. */
  syncAll(): Promise<void>;
  /** @returns how many bytes were read; fewer than asked for only at the end of the file */
  read(into: Uint8Array, position: number): Promise<number>;
  truncate(bytes: number): Promise<void>;
  size(): Promise<number>;
  /** Names it as `Disk.identity` does; undefined: it has no name any more. */
  readonly identity?: (() => Promise<string | undefined>) | undefined;
  close(): Promise<void>;
}

/** A directory that is held; released by the death of the process as well. */
export interface Lock {
  /** @param isUndone the directory is to be as it was before it was taken */
  release(isUndone?: boolean): void;
  /** The directory's mode, where others than its owner can look into it. */
  readonly exposed?: string | undefined;
  /** Why it protects nothing any more: moved, removed, replaced. Rejects Io: not known. */
  readonly displaced?: () => Promise<string | undefined>;
}

export interface Disk {
  /** Takes a directory for this process. Rejects Locked, naming the holder's pid, WrongUser. */
  lock(dir: string): Promise<Lock>;
  /**
   * `create`: read and write, made with mode 0600 when absent. No link is followed. What is opened
   * to be written is locked until it is closed. Rejects Locked, Io, DiskFull.
   */
  open(path: string, how: 'read' | 'write' | 'create'): Promise<DiskFile>;
  rename(from: string, to: string): Promise<void>;
  remove(path: string): Promise<void>;
  /** File names; empty when the directory is absent. */
  list(dir: string): Promise<string[]>;
  /**
   * Makes a directory, mode 0700, and the parents that it lacks.
   * @param links a link to a directory in its place: `refused` (default) inside a data directory
   * @returns the first that was not there
   */
  makeDir(dir: string, links?: 'followed' | 'refused'): Promise<string | undefined>;
  /** Removes an empty directory. */
  removeDir(dir: string): Promise<void>;
  /** fsync of a directory: the names in it are durable. */
  syncDir(dir: string): Promise<void>;
  /** What stands under a name, as something to compare; undefined: nothing. */
  readonly identity?: (path: string) => Promise<string | undefined>;
  /** Bytes that this process may still write to the file system of `dir`. */
  freeBytes(dir: string): Promise<number>;
}

/** `Io`, or `DiskFull`, of an operation that the system has refused. */
export function ioError(what: string, cause: NodeJS.ErrnoException): EngramError {
  const code = cause.code === 'ENOSPC' || cause.code === 'EDQUOT' ? 'DiskFull' : 'Io';
  const why = cause.code === 'ELOOP' ? ' (a data directory holds no links: remove it)' : '';
  return failure(code, `${what} failed: ${cause.message}${why}`, { cause });
}

/** How a directory that is not ours may refuse to be fsynced. */
const NOT_OURS = ['EACCES', 'EPERM', 'EINVAL', 'ENOTSUP', 'EROFS'];

/**
 * Makes a directory and the parents that it lacks, and each name on the way to it durable. A
 * process that was killed may have made them a moment ago: so it is done for those that are there,
 * too, as far as they let us. Where that fails, what was made goes: the next one makes it anew, for
 * a name that an fsync has failed for is not to be taken for durable. Rejects Io, DiskFull.
 * @returns whether it was not there
 */
export async function makeDirDurably(disk: Disk, dir: string): Promise<boolean> {
  const full = path.resolve(dir);
  const made = await disk.makeDir(full, 'followed');
  const isMade = (child: string): boolean => made !== undefined && child.length >= made.length;
  try {
    for (let child = full; path.dirname(child) !== child; child = path.dirname(child)) {
      await syncNameOf(disk, child, isMade(child));
    }
  } catch (error) {
    for (let child = full; isMade(child); child = path.dirname(child)) {
      await disk.removeDir(child).catch(() => undefined);
    }
    throw error;
  }
  return made !== undefined;
}

async function syncNameOf(disk: Disk, dir: string, isMade: boolean): Promise<void> {
  await disk.syncDir(path.dirname(dir)).catch((error) => {
    if (isMade || !NOT_OURS.includes(codeOf(error) ?? '')) throw error;
  });
}

/** How a name is refused that somebody else has given something to. */
const TAKEN = ['ENOTEMPTY', 'EEXIST', 'ENOTDIR'];

/** A name that nobody else gives. */
function asideOf(dir: string): string {
  return `${dir}.engram-wal.tmp`;
}

/**
 * An empty data directory may be of a process that was killed before it could take it away, for an
 * fsync of its name had failed: the name is made anew, of the directory as it is, which is moved
 * aside and back. (Of its parents nobody can tell: they are not ours, and keep theirs.) Its holder
 * alone does so: nobody else begins in it meanwhile. One that cannot be moved is not ours; nor is
 * the name of a link, which stays. Rejects Io, Locked.
 * @param isEmpty by what stands in a directory that is held
 */
export async function nameAnew(
  disk: Disk,
  dir: string,
  isEmpty: (names: readonly string[]) => boolean,
): Promise<void> {
  if (!isEmpty(await disk.list(dir))) return;
  const aside = asideOf(dir);
  const moved = disk.makeDir(dir).then(() => disk.rename(dir, aside));
  const isMoved = await moved.then(
    () => true,
    () => false,
  );
  if (!isMoved) return;
  await disk.rename(aside, dir).catch(async (cause) => {
    const code = codeOf(cause) ?? '';
    // Another process, which waits for the lock, has put it back.
    if (code === 'ENOENT') return;
    if (!TAKEN.includes(code)) throw cause;
    // An empty one would have gone for ours. What was ours is in the way of the next one.
    const left = await disk.list(aside);
    for (const name of isEmpty(left) ? left : []) await disk.remove(path.join(aside, name));
    await disk.removeDir(aside).catch(() => undefined);
    throw failure('Locked', `another process has made ${dir} meanwhile, and begun`, { cause });
  });
  await syncNameOf(disk, dir, false);
}

/** Where a process was killed while it had moved the directory aside: it is where it belongs. */
export async function putBack(disk: Disk, dir: string): Promise<void> {
  if ((await disk.identity?.(dir)) !== undefined) return;
  // By the slash a directory alone: a file of that name is somebody's.
  await disk.rename(`${asideOf(dir)}/`, dir).catch(() => undefined);
}

/** Replaces a small file so that a crash leaves the old one or the new one, whole. */
export async function replaceFile(
  disk: Disk,
  dir: string,
  name: string,
  bytes: Uint8Array,
): Promise<void> {
  const temporary = path.join(dir, `${name}.tmp`);
  const file = await disk.open(temporary, 'create');
  try {
    await file.truncate(0);
    await file.write(bytes, 0);
    await file.syncAll();
  } catch (error) {
    // What an fsync has failed for is not to be taken for durable by the next one.
    await disk.remove(temporary).catch(() => undefined);
    throw error;
  } finally {
    await file.close();
  }
  await disk.rename(temporary, path.join(dir, name));
  await disk.syncDir(dir);
}

/**
 * Reads a small file whole.
 * @param maxBytes a larger one throws CorruptionDetected: no file of ours is larger
 * @returns undefined when there is none
 */
export async function readSmallFile(
  disk: Disk,
  dir: string,
  name: string,
  maxBytes: number,
): Promise<Uint8Array | undefined> {
  const file = await openThere(disk, dir, name);
  if (!file) return undefined;
  try {
    const size = await file.size();
    if (size > maxBytes) throw failure('CorruptionDetected', `${name} has ${size} bytes`);
    const bytes = new Uint8Array(size);
    return bytes.subarray(0, await file.read(bytes, 0));
  } finally {
    await file.close();
  }
}

/** Opens a file for reading. @returns undefined where it is not there, or no longer */
export async function openThere(
  disk: Disk,
  dir: string,
  name: string,
): Promise<DiskFile | undefined> {
  try {
    return await disk.open(path.join(dir, name), 'read');
  } catch (error) {
    const cause = (error as EngramError).cause as NodeJS.ErrnoException | undefined;
    if (cause?.code === 'ENOENT') return undefined;
    throw error;
  }
}

/** The errno of an error that `call` has made. */
export function codeOf(error: unknown): string | undefined {
  return ((error as EngramError).cause as NodeJS.ErrnoException | undefined)?.code;
}
