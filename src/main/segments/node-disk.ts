/** The disk of this machine, through Node's file system. */

import fs from 'node:fs';
import path from 'node:path';
import { failure } from '../../shared/errors.js';
import { FILES_ONLY } from './access.js';
import { identityOf, lockDirectory, lockFile } from './directory-lock.js';
import { codeOf, type Disk, type DiskFile, ioError } from './disk.js';
import { OpenFile } from './disk-in-use.js';

/** A link in the place of a file leads to somebody else's: it is not followed. */
const FLAGS = {
  read: fs.constants.O_RDONLY | FILES_ONLY,
  write: fs.constants.O_RDWR | FILES_ONLY,
  create: fs.constants.O_RDWR | fs.constants.O_CREAT | FILES_ONLY,
};

/** The longest wait for a free file descriptor, of waits that double from 10 ms on. */
const OPEN_RETRY_MS = 1_000;

/** A directory that takes its name anew is back by then. */
const MOVED_MS = 20;

type Callback<T> = (error: NodeJS.ErrnoException | null, value: T) => void;

export function call<T>(what: string, start: (done: Callback<T>) => void): Promise<T> {
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
    if (!fs.fstatSync(fd).isFile()) {
      const remedy = 'find out who put it there, and remove it';
      throw failure('Io', `${file} is no file, as all in a data directory are: ${remedy}`);
    }
    if (how === 'read' || lockFile(fd, file)) return opened;
    throw failure('Locked', `${file} is being written by another process`);
  } catch (error) {
    await opened.close();
    throw error;
  }
}

/** Node's own way to make the parents, too, never ends where a file system answers ENOENT. */
async function makeDirs(dir: string, links: 'followed' | 'refused'): Promise<string | undefined> {
  const lookAt = links === 'followed' ? fs.statSync : fs.lstatSync;
  const make = (): Promise<string | undefined> =>
    call<void>(`making ${dir}`, (cb) => fs.mkdir(dir, 0o700, cb as fs.NoParamCallback)).then(
      () => dir,
      (error) => {
        const isThere = lookAt(dir, { throwIfNoEntry: false })?.isDirectory();
        if (isThere && codeOf(error) !== 'ENOENT') return undefined;
        throw error;
      },
    );
  try {
    return await make();
  } catch (error) {
    // It was there, and whoever holds it had moved it aside when it was looked at: for a moment.
    if (codeOf(error) === 'EEXIST' && !lookAt(dir, { throwIfNoEntry: false })) {
      await new Promise((resolve) => setTimeout(resolve, MOVED_MS));
      return await make();
    }
    const parent = path.dirname(dir);
    if (codeOf(error) !== 'ENOENT' || parent === dir) throw error;
    const first = await makeDirs(parent, 'followed');
    const made = await make();
    return first ?? made;
  }
}

/** The real disk. */
export const nodeDisk: Disk = {
  async lock(dir) {
    try {
      return lockDirectory(dir);
    } catch (error) {
      if (codeOf(error) !== 'ENOENT') throw error;
      // Whoever holds it has moved it aside: for a moment.
      await new Promise((resolve) => setTimeout(resolve, MOVED_MS));
      return lockDirectory(dir);
    }
  },
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
  makeDir: (dir, links = 'refused') => makeDirs(dir, links),
  identity: (file) => identityOf(file),
  removeDir: (dir) => call(`remove of ${dir}`, (cb) => fs.rmdir(dir, cb as fs.NoParamCallback)),
  async freeBytes(dir) {
    const stats = await call<fs.StatsFs>(`statfs of ${dir}`, (cb) => fs.statfs(dir, cb));
    return stats.bavail * stats.bsize;
  },
  async syncDir(dir) {
    const flags = fs.constants.O_RDONLY | (fs.constants.O_DIRECTORY ?? 0);
    const fd = await call<number>(`open of ${dir}`, (cb) => fs.open(dir, flags, cb));
    try {
      await call(`fsync of ${dir}`, (cb) => fs.fsync(fd, cb as fs.NoParamCallback));
    } finally {
      await call(`close of ${dir}`, (cb) => fs.close(fd, cb as fs.NoParamCallback));
    }
  },
};
