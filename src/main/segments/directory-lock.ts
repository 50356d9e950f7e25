/**
 * The lock of a data directory: an OS lock, not a pid file, so no crash leaves it behind. What is
 * locked can be removed or replaced under its holder (`rm lock`, `mv`, a mount): whoever comes then
 * still meets the lock on the segment that is written, and the holder finds it out (row 92).
 */
import fs from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import { failure } from '../../shared/errors.js';
import { segmentStart } from '../../shared/log/segment.js';
import { checkAccess, FILES_ONLY } from './access.js';
import { ioError, type Lock } from './disk.js';
import { requireOwner } from './owner.js';

const NAME = 'lock';
const READ_WRITE = fs.constants.O_RDWR | FILES_ONLY;

let native: typeof import('fs-native-extensions') | undefined;

/** Its binary: there is none for some platforms, and a bundle does not find it. */
function locks(): typeof import('fs-native-extensions') {
  try {
    native ??= createRequire(import.meta.url)('fs-native-extensions');
    return native!;
  } catch (cause) {
    const [why] = (cause as Error).message.split('\n', 1);
    throw failure('HostUnsuitable', `no file can be locked here: ${why}`, { cause });
  }
}

/** @returns false where another holder has it. Throws Io (there are no locks), HostUnsuitable. */
export function lockFile(fd: number, file: string): boolean {
  const { tryLock } = locks();
  try {
    return tryLock(fd);
  } catch (cause) {
    const { code, message } = cause as NodeJS.ErrnoException;
    const found = `${file} cannot be locked (${code}: ${message}): its file system has no locks`;
    throw failure('Io', found, { cause });
  }
}

/** Throws Locked, WrongUser, DataRootUnavailable, Io, DiskFull. */
export function lockDirectory(dir: string): Lock {
  requireOwner(dir);
  try {
    const exposed = checkAccess(dir);
    return { ...takeLock(dir), exposed };
  } catch (error) {
    const cause = error as NodeJS.ErrnoException;
    throw cause.syscall === undefined ? error : ioError(`taking ${dir}`, cause);
  }
}

/** Of a directory whose lock is held: it holds nothing else. */
export function holdsNothing(names: readonly string[]): boolean {
  return names.every((name) => name === NAME);
}

function takeLock(dir: string): Lock {
  const file = path.join(dir, NAME);
  for (;;) {
    const { fd, isNew } = openLock(file);
    let isTaken = false;
    try {
      isTaken = lockFile(fd, file);
      if (!isTaken) {
        const pid = fs.readFileSync(fd, 'utf8').trim();
        const who = pid === `${process.pid}` ? 'this very process' : 'process';
        throw failure('Locked', `${dir} is in use by ${who} ${pid || '(unknown)'}`);
      }
      // An opening that was refused has taken its own file away meanwhile: once more.
      if (!isNamed(fd, file)) {
        fs.closeSync(fd);
        continue;
      }
      checkWritten(dir);
      writePid(fd);
      const folder = fs.openSync(dir, 'r');
      return heldLock(dir, file, fd, folder, isNew);
    } catch (error) {
      if (isTaken && isNew) fs.rmSync(file, { force: true });
      fs.closeSync(fd);
      throw error;
    }
  }
}

/** Who holds it, for people: on a full disk it is held without that. */
function writePid(fd: number): void {
  fs.ftruncateSync(fd, 0);
  try {
    fs.writeSync(fd, `${process.pid}\n`, 0);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code !== 'ENOSPC' && code !== 'EDQUOT') throw error;
  }
}

function openLock(file: string): { fd: number; isNew: boolean } {
  const { O_CREAT, O_EXCL } = fs.constants;
  try {
    return { fd: fs.openSync(file, READ_WRITE | O_CREAT | O_EXCL, 0o600), isNew: true };
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
    return { fd: fs.openSync(file, READ_WRITE | O_CREAT, 0o600), isNew: false };
  }
}

function isNamed(fd: number, file: string): boolean {
  const held = fs.fstatSync(fd, { bigint: true });
  const named = fs.lstatSync(file, { bigint: true, throwIfNoEntry: false });
  return named?.ino === held.ino && named.dev === held.dev;
}

/** The last segments are locked by whoever writes them, with or without the lock file. */
function checkWritten(dir: string): void {
  const names = fs.readdirSync(dir).filter((name) => segmentStart(name) !== undefined);
  for (const name of names.sort().slice(-2)) {
    const fd = fs.openSync(path.join(dir, name), READ_WRITE);
    try {
      if (lockFile(fd, name)) continue;
      throw failure('Locked', `${dir} is in use by another process, which writes ${name}`);
    } finally {
      fs.closeSync(fd);
    }
  }
}

function heldLock(dir: string, file: string, fd: number, folder: number, isNew: boolean): Lock {
  let isHeld = true;
  return {
    release(isUndone = false) {
      if (!isHeld) return;
      isHeld = false;
      // While it is held: whoever waits for it finds out that it has no name any more.
      if (isUndone && isNew && isNamed(fd, file)) fs.rmSync(file, { force: true });
      fs.closeSync(folder);
      fs.closeSync(fd);
    },
    async displaced() {
      const isSame = await Promise.all([isStill(folder, dir), isStill(fd, file)]);
      if (!isSame[0]) return `${dir} has been moved, removed or replaced while it was open`;
      if (!isSame[1]) return `${file} has been removed or replaced while it was held`;
      return undefined;
    },
  };
}

/** Whether the name still stands for the open file, as far as that can be told. */
async function isStill(fd: number, name: string): Promise<boolean> {
  const [held, named] = await Promise.all([identityOf(fd), identityOf(name)]);
  return held !== undefined && held === named;
}

/**
 * Device and inode. Asked without libuv's pool: acknowledgements wait for the answer, and the pool
 * may be full of other work for long (row 78); what is asked for is in the kernel's memory.
 * @returns undefined where nothing stands there
 */
export async function identityOf(what: number | string): Promise<string | undefined> {
  try {
    const stats =
      typeof what === 'number'
        ? fs.fstatSync(what, { bigint: true })
        : fs.statSync(what, { bigint: true });
    return stats.nlink === 0n ? undefined : `${stats.dev}:${stats.ino}`;
  } catch (error) {
    const cause = error as NodeJS.ErrnoException;
    if (cause.code === 'ENOENT' || cause.code === 'ENOTDIR') return undefined;
    throw ioError(`stat of ${what}`, cause);
  }
}
