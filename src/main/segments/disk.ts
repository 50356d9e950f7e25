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
 * a name that an fsync has failed for is not to be taken for durable. An empty directory may be of
 * one that was killed before it could take it away: its name is made anew. (Of its parents nobody
 * can tell: they are not ours, and keep theirs.) Rejects Io, DiskFull.
 */
export async function makeDirDurably(disk: Disk, dir: string): Promise<void> {
  const full = path.resolve(dir);
  const made = await disk.makeDir(full, 'followed');
  const isMade = (child: string): boolean => made !== undefined && child.length >= made.length;
  if (made === undefined && (await disk.list(full)).length === 0) await nameAnew(disk, full);
  try {
    for (let child = full; path.dirname(child) !== child; child = path.dirname(child)) {
      await disk.syncDir(path.dirname(child)).catch((error) => {
        if (isMade(child) || !NOT_OURS.includes(codeOf(error) ?? '')) throw error;
      });
    }
  } catch (error) {
    for (let child = full; isMade(child); child = path.dirname(child)) {
      await disk.removeDir(child).catch(() => undefined);
    }
    throw error;
  }
}

/**
 * Of an empty directory, as it is: moved aside and back. One that cannot be moved is not ours. The
 * name aside is one that nobody else gives: where it stood for a link to the directory, a file of
 * that name would be replaced.
 */
async function nameAnew(disk: Disk, dir: string): Promise<void> {
  const aside = `${dir}.engram-wal.tmp`;
  const isMoved = await disk.rename(dir, aside).then(
    () => true,
    () => false,
  );
  if (!isMoved) return;
  // Where another process has made it meanwhile, and begun, that one stays.
  await disk.rename(aside, dir).catch(() => disk.removeDir(aside));
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
