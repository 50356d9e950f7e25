/**
 * The narrow door to the file system: all that the log asks of a disk. Short writes are
 * completed here; every failure comes out as an `Io` error that names the operation and path.
 */
import fs from 'node:fs';
import path from 'node:path';
import { type EngramError, failure } from '../shared/errors.js';
import { identityOf, lockDirectory, lockFile } from './directory-lock.js';
import { OpenFile } from './disk-in-use.js';

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
  /** Why it protects nothing any more: moved, removed, replaced. Rejects Io: not known. */
  readonly displaced?: () => Promise<string | undefined>;
}

export interface Disk {
  /** Takes a directory for this process. Rejects Locked, naming the holder's pid, WrongUser. */
  lock(dir: string): Promise<Lock>;
  /**
   * `create`: read and write, made with mode 0600 when absent. What is opened to be written is
   * locked until it is closed. Rejects Locked, Io, DiskFull.
   */
  open(path: string, how: 'read' | 'write' | 'create'): Promise<DiskFile>;
  rename(from: string, to: string): Promise<void>;
  remove(path: string): Promise<void>;
  /** File names; empty when the directory is absent. */
  list(dir: string): Promise<string[]>;
  /** Makes a directory and the parents that it lacks. @returns the first that was not there */
  makeDir(dir: string): Promise<string | undefined>;
  /** Removes an empty directory. */
  removeDir(dir: string): Promise<void>;
  /** fsync of a directory: the names in it are durable. */
  syncDir(dir: string): Promise<void>;
  /** What stands under a name, as something to compare; undefined: nothing. */
  readonly identity?: (path: string) => Promise<string | undefined>;
  /** Bytes that this process may still write to the file system of `dir`. */
  freeBytes(dir: string): Promise<number>;
}

const FLAGS = {
  read: fs.constants.O_RDONLY,
  write: fs.constants.O_RDWR,
  create: fs.constants.O_RDWR | fs.constants.O_CREAT,
};

/** The longest wait for a free file descriptor, of waits that double from 10 ms on. */
const OPEN_RETRY_MS = 1_000;

type Callback<T> = (error: NodeJS.ErrnoException | null, value: T) => void;

function call<T>(what: string, start: (done: Callback<T>) => void): Promise<T> {
  return new Promise((resolve, reject) => {
    try {
      start((error, value) => {
        if (error) reject(ioError(what, error));
        else resolve(value);
      });
    } catch (error) {
      // What Node itself refuses, such as a name that cannot be one.
      reject(ioError(what, error as NodeJS.ErrnoException));
    }
  });
}

/** `Io`, or `DiskFull`, of an operation that the system has refused. */
export function ioError(what: string, cause: NodeJS.ErrnoException): EngramError {
  const code = cause.code === 'ENOSPC' || cause.code === 'EDQUOT' ? 'DiskFull' : 'Io';
  return failure(code, `${what} failed: ${cause.message}`, { cause });
}

class NodeFile implements DiskFile {
  path: string;
  readonly #fd: number;

  constructor(file: string, fd: number) {
    this.path = file;
    this.#fd = fd;
  }

  readonly withFd = <T>(call: (fd: number) => Promise<T>): Promise<T> => call(this.#fd);

  async write(bytes: Uint8Array, position: number): Promise<void> {
    let done = 0;
    while (done < bytes.length) {
      const written = await call<number>(`write to ${this.path}`, (cb) =>
        fs.write(this.#fd, bytes, done, bytes.length - done, position + done, cb),
      );
      if (written === 0) throw failure('Io', `write to ${this.path} accepted no byte`);
      done += written;
    }
  }

  sync(): Promise<void> {
    return call(`fdatasync of ${this.path}`, (cb) =>
      fs.fdatasync(this.#fd, cb as fs.NoParamCallback),
    );
  }

  syncAll(): Promise<void> {
    return call(`fsync of ${this.path}`, (cb) => fs.fsync(this.#fd, cb as fs.NoParamCallback));
  }

  async read(into: Uint8Array, position: number): Promise<number> {
    let done = 0;
    while (done < into.length) {
      const got = await call<number>(`read of ${this.path}`, (cb) =>
        fs.read(this.#fd, into, done, into.length - done, position + done, cb),
      );
      if (got === 0) break;
      done += got;
    }
    return done;
  }

  truncate(bytes: number): Promise<void> {
    return call(`truncate of ${this.path}`, (cb) =>
      fs.ftruncate(this.#fd, bytes, cb as fs.NoParamCallback),
    );
  }

  /** Asked without libuv's pool, as the identity is: acknowledgements wait for it (row 78). */
  async size(): Promise<number> {
    try {
      return fs.fstatSync(this.#fd).size;
    } catch (error) {
      throw ioError(`stat of ${this.path}`, error as NodeJS.ErrnoException);
    }
  }

  identity(): Promise<string | undefined> {
    return identityOf(this.#fd);
  }

  close(): Promise<void> {
    return call(`close of ${this.path}`, (cb) => fs.close(this.#fd, cb as fs.NoParamCallback));
  }
}

/** Nobody else may be writing it (row 92). */
async function taken(file: string, fd: number, how: 'read' | 'write' | 'create') {
  const opened = new NodeFile(file, fd);
  try {
    if (how === 'read' || lockFile(fd, file)) return opened;
    throw failure('Locked', `${file} is being written by another process`);
  } catch (error) {
    await opened.close();
    throw error;
  }
}

/** Node's own way to make the parents, too, never ends where a file system answers ENOENT. */
async function makeDirs(dir: string): Promise<string | undefined> {
  const make = (): Promise<string | undefined> =>
    call<void>(`making ${dir}`, (cb) => fs.mkdir(dir, 0o700, cb as fs.NoParamCallback)).then(
      () => dir,
      (error) => {
        const isThere = fs.statSync(dir, { throwIfNoEntry: false })?.isDirectory();
        if (isThere && codeOf(error) !== 'ENOENT') return undefined;
        throw error;
      },
    );
  try {
    return await make();
  } catch (error) {
    const parent = path.dirname(dir);
    if (codeOf(error) !== 'ENOENT' || parent === dir) throw error;
    const first = await makeDirs(parent);
    const made = await make();
    return first ?? made;
  }
}

/** The errno of an error that `call` has made. */
function codeOf(error: unknown): string | undefined {
  return ((error as EngramError).cause as NodeJS.ErrnoException | undefined)?.code;
}

/** The real disk. */
export const nodeDisk: Disk = {
  lock: async (dir) => lockDirectory(dir),
  async open(file, how) {
    const open = (): Promise<number> =>
      call(`open of ${file}`, (cb) => fs.open(file, FLAGS[how], 0o600, cb));
    for (let ms = 10; ; ms *= 2) {
      try {
        return new OpenFile(await taken(file, await open(), how), how);
      } catch (error) {
        // Somebody in this process may close a file soon (row 15).
        const code = codeOf(error);
        if ((code !== 'EMFILE' && code !== 'ENFILE') || ms > OPEN_RETRY_MS) throw error;
        await new Promise((resolve) => setTimeout(resolve, ms));
      }
    }
  },
  rename: (from, to) =>
    call(`rename of ${from} to ${to}`, (cb) => fs.rename(from, to, cb as fs.NoParamCallback)),
  remove: (file) => call(`remove of ${file}`, (cb) => fs.unlink(file, cb as fs.NoParamCallback)),
  async list(dir) {
    const names = await call<string[]>(`list of ${dir}`, (cb) =>
      fs.readdir(dir, (error, found) => {
        if (error?.code === 'ENOENT') cb(null, []);
        else cb(error, found);
      }),
    );
    return names.sort();
  },
  makeDir: (dir) => makeDirs(dir),
  identity: (file) => identityOf(file),
  removeDir: (dir) => call(`remove of ${dir}`, (cb) => fs.rmdir(dir, cb as fs.NoParamCallback)),
  async freeBytes(dir) {
    const stats = await call<fs.StatsFs>(`statfs of ${dir}`, (cb) => fs.statfs(dir, cb));
    return stats.bavail * stats.bsize;
  },
  async syncDir(dir) {
    const fd = await call<number>(`open of ${dir}`, (cb) => fs.open(dir, 'r', cb));
    try {
      await call(`fsync of ${dir}`, (cb) => fs.fsync(fd, cb as fs.NoParamCallback));
    } finally {
      await call(`close of ${dir}`, (cb) => fs.close(fd, cb as fs.NoParamCallback));
    }
  },
};

/** How a directory that is not ours may refuse to be fsynced. */
const NOT_OURS = ['EACCES', 'EPERM', 'EINVAL', 'ENOTSUP', 'EROFS'];

/**
 * Makes a directory and the parents that it lacks, and each name on the way to it durable. A
 * process that was killed may have made them a moment ago: so it is done for those that are there,
 * too, as far as they let us. Rejects Io, DiskFull.
 */
export async function makeDirDurably(disk: Disk, dir: string): Promise<void> {
  const full = path.resolve(dir);
  const made = await disk.makeDir(full);
  for (let child = full; path.dirname(child) !== child; child = path.dirname(child)) {
    const isMade = made !== undefined && child.length >= made.length;
    await disk.syncDir(path.dirname(child)).catch((error) => {
      if (isMade || !NOT_OURS.includes(codeOf(error) ?? '')) throw error;
    });
  }
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
