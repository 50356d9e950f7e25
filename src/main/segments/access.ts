/**
 * Who besides its owner can do what to a data directory. Whoever can write there can replace the
 * log, or plant a link that the node would write through: such a one is not opened.
 */
import fs from 'node:fs';
import path from 'node:path';
import { MAY_ENTER, MAY_READ, MAY_WRITE, modeText, othersMay } from '../../shared/access.js';
import { type EngramError, failure } from '../../shared/errors.js';

/**
 * Files in it and nothing else: what opens them follows no link, and waits for nobody at the other
 * end of a pipe. 0 where there are no such flags.
 */
export const FILES_ONLY = (fs.constants.O_NOFOLLOW ?? 0) | (fs.constants.O_NONBLOCK ?? 0);

/**
 * @returns the mode, where others can read or enter it; undefined where it is its owner's alone
 * Throws DataRootUnavailable where others can write it or a file in it, and where something in it
 * is neither a file nor a directory, or a file that has another name besides.
 */
export function checkAccess(dir: string): string | undefined {
  if (process.getgroups === undefined) return undefined;
  const groups = [process.getegid!(), ...process.getgroups()];
  const folder = fs.statSync(dir);
  const others = othersMay(folder, groups);
  if (others & MAY_WRITE) throw writable(dir, modeText(folder));
  for (const entry of fs.readdirSync(dir, { withFileTypes: true })) {
    const file = path.join(dir, entry.name);
    if (!entry.isFile() && !entry.isDirectory()) throw odd(file, entry);
    const stats = fs.lstatSync(file, { throwIfNoEntry: false });
    if (entry.isFile() && stats && stats.nlink > 1) throw shared(file, stats.nlink);
    if ((others & MAY_ENTER) === 0) continue;
    if (stats && othersMay(stats, groups) & MAY_WRITE) throw writable(file, modeText(stats));
  }
  return others & (MAY_READ | MAY_ENTER) ? modeText(folder) : undefined;
}

function writable(what: string, mode: string): EngramError {
  const found = `${what} can be written by others (mode ${mode}), who could put anything there`;
  return failure('DataRootUnavailable', `${found}: look at it, then chmod go-rwx it`);
}

/** What is written here would be written there, and the reverse. */
function shared(what: string, names: number): EngramError {
  const found = `${what} has ${names} names (hard links): who has another one shares its bytes`;
  const remedy = 'stop what makes them (cp -l, deduplication), then put a copy in its place';
  return failure('DataRootUnavailable', `${found}; ${remedy}`);
}

function odd(what: string, entry: fs.Dirent): EngramError {
  const kind = entry.isSymbolicLink() ? 'a symbolic link' : 'no file';
  const found = `${what} is ${kind}: a data directory holds files of its own alone`;
  return failure('DataRootUnavailable', `${found}; find out who put it there, and remove it`);
}
