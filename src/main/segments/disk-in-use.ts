/**
 * What stands between the log and a disk, for every file: no call begins once the end has been
 * asked for, and the end waits for those under way. So no call can meet a descriptor that is
 * closed, or one that the system has given to somebody else since (FAULTS row 98).
 */

import path from 'node:path';
import { failure } from '../../shared/errors.js';
import { type ReadPart, readAround } from '../../shared/read-around.js';
import { codeOf, type Disk, type DiskFile, type Lock } from './disk.js';

/** A directory that could not be opened was not fsynced, and has lost nothing. */
const NOT_BEGUN = ['EMFILE', 'ENFILE', 'EACCES', 'EPERM'];

/** Calls of one file or one disk, until their end. */
class Calls {
  #underWay = 0;
  #isOver = false;
  #idle: (() => void) | undefined;

  /** Rejects Closed once the end was asked for. */
  async run<T>(what: string, call: () => Promise<T>): Promise<T> {
    if (this.#isOver) throw failure('Closed', `${what}: the node does not use it any more`);
    this.#underWay++;
    try {
      return await call();
    } finally {
      this.#underWay--;
      if (this.#underWay === 0) this.#idle?.();
    }
  }

  /** Nothing begins any more. Resolves when nothing is under way. */
  async end(): Promise<void> {
    this.#isOver = true;
    if (this.#underWay === 0) return;
    await new Promise<void>((resolve) => {
      this.#idle = resolve;
    });
  }
}

/**
 * A file whose calls and whose close cannot meet. What is opened to be read is read around sectors
 * that the disk cannot read (row 5); a writer does not go on in such a file.
 */
export class OpenFile implements DiskFile {
  readonly #file: DiskFile;
  readonly #how: 'read' | 'write' | 'create';
  readonly #calls = new Calls();
  readonly #closed: () => void;
  #closing: Promise<void> | undefined;
  readonly withFd: DiskFile['withFd'];
  readonly identity: DiskFile['identity'];

  /** @param closed told once, when it is closed */
  constructor(
    file: DiskFile,
    how: 'read' | 'write' | 'create',
    closed: () => void = () => undefined,
  ) {
    this.#file = file;
    this.#how = how;
    this.#closed = closed;
    const identity = file.identity?.bind(file);
    if (identity) this.identity = () => this.#run('stat', identity);
    const withFd = file.withFd?.bind(file);
    if (withFd) this.withFd = (call) => this.#run('call', () => withFd(call));
  }

  get path(): string {
    return this.#file.path;
  }

  set path(renamed: string) {
    this.#file.path = renamed;
  }

  #run<T>(what: string, call: () => Promise<T>): Promise<T> {
    return this.#calls.run(`${what} of ${this.path}`, call);
  }

  write(bytes: Uint8Array, position: number): Promise<void> {
    return this.#run('write', () => this.#file.write(bytes, position));
  }

  sync(): Promise<void> {
    return this.#run('fdatasync', () => this.#file.sync());
  }

  syncAll(): Promise<void> {
    return this.#run('fsync', () => this.#file.syncAll());
  }

  read(into: Uint8Array, position: number): Promise<number> {
    const read: ReadPart = (part, at) => this.#file.read(part, at);
    const isRead = this.#how === 'read';
    return this.#run('read', () =>
      isRead ? readAround(read, into, position) : read(into, position),
    );
  }

  truncate(bytes: number): Promise<void> {
    return this.#run('truncate', () => this.#file.truncate(bytes));
  }

  size(): Promise<number> {
    return this.#run('stat', () => this.#file.size());
  }

  /** Waits for what is under way; what comes later rejects. Safe to call twice. */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    await this.#calls.end();
    try {
      await this.#file.close();
    } finally {
      this.#closed();
    }
  }
}

/**
 * A disk for the life of one node: it holds the directory's lock, and every file that is open.
 * When it is released nothing goes on behind it, whoever forgot a file or was in the middle of
 * something: as after the death of the process, the directory is as it may be left.
 */
export class DiskInUse implements Disk {
  readonly #disk: Disk;
  readonly #dir: string;
  readonly #lock: Lock;
  readonly #calls = new Calls();
  readonly #files = new Set<OpenFile>();
  #displaced: string | undefined;
  #released: Promise<void> | undefined;

  private constructor(disk: Disk, dir: string, lock: Lock) {
    this.#disk = disk;
    this.#dir = path.resolve(dir);
    this.#lock = lock;
  }

  /** Takes a data directory. Rejects Locked, Io. */
  static async take(disk: Disk, dir: string): Promise<DiskInUse> {
    return new DiskInUse(disk, dir, await disk.lock(dir));
  }

  /** The directory's mode, where others than its owner can look into it. */
  get exposed(): string | undefined {
    return this.#lock.exposed;
  }

  lock(dir: string): Promise<Lock> {
    return this.#calls.run(`lock of ${dir}`, () => this.#disk.lock(dir));
  }

  open(path: string, how: 'read' | 'write' | 'create'): Promise<DiskFile> {
    return this.#calls.run(`open of ${path}`, async () => {
      if (how !== 'read') await this.#checkPlace();
      const opened = await this.#disk.open(path, how);
      const file: OpenFile = new OpenFile(opened, how, () => this.#files.delete(file));
      this.#files.add(file);
      return file;
    });
  }

  rename(from: string, to: string): Promise<void> {
    return this.#calls.run(`rename of ${from}`, async () => {
      await this.#checkPlace();
      await this.#disk.rename(from, to);
    });
  }

  remove(path: string): Promise<void> {
    return this.#calls.run(`remove of ${path}`, async () => {
      await this.#checkPlace();
      await this.#disk.remove(path);
    });
  }

  /** Nothing is changed in a directory that is somebody else's by now, or whose names are lost. */
  async #checkPlace(): Promise<void> {
    const why = await this.displaced().catch(() => undefined);
    if (why !== undefined) throw failure('Io', why);
  }

  /**
   * Why the directory is not the one that was taken, or not as it looks, from then on. Rejects Io:
   * not known.
   */
  async displaced(): Promise<string | undefined> {
    this.#displaced ??= await this.#lock.displaced?.();
    return this.#displaced;
  }

  async identity(path: string): Promise<string | undefined> {
    return this.#disk.identity ? await this.#disk.identity(path) : undefined;
  }

  list(dir: string): Promise<string[]> {
    return this.#calls.run(`list of ${dir}`, () => this.#disk.list(dir));
  }

  removeDir(dir: string): Promise<void> {
    return this.#calls.run(`remove of ${dir}`, () => this.#disk.removeDir(dir));
  }

  makeDir(dir: string, links?: 'followed' | 'refused'): Promise<string | undefined> {
    return this.#calls.run(`making ${dir}`, () => this.#disk.makeDir(dir, links));
  }

  /**
   * One that fails in the data directory is as final as a failed fdatasync (row 10): names that
   * others have changed just then are in the cache alone, and the fsync that they wait for says ok.
   */
  syncDir(dir: string): Promise<void> {
    const within = path.relative(this.#dir, path.resolve(dir));
    if (within.startsWith('..')) {
      return this.#calls.run(`fsync of ${dir}`, () => this.#disk.syncDir(dir));
    }
    return this.#calls.run(`fsync of ${dir}`, async () => {
      await this.#disk.syncDir(dir).catch((error) => {
        if (!NOT_BEGUN.includes(codeOf(error) ?? '')) this.#displaced ??= (error as Error).message;
        throw error;
      });
      await this.#checkPlace();
    });
  }

  freeBytes(dir: string): Promise<number> {
    return this.#calls.run(`statfs of ${dir}`, () => this.#disk.freeBytes(dir));
  }

  /**
   * Resolves when no call is under way, every file is closed and the directory is free again.
   * @param isUndone nothing was made in it: it is to be as it was
   */
  release(isUndone = false): Promise<void> {
    this.#released ??= this.#release(isUndone);
    return this.#released;
  }

  async #release(isUndone: boolean): Promise<void> {
    await this.#calls.end();
    // A failed close leaves no descriptor behind, and nothing that it could still save.
    await Promise.all([...this.#files].map((file) => file.close().catch(() => undefined)));
    this.#lock.release(isUndone);
  }
}
