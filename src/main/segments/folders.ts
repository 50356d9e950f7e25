/**
 * The folders in a data directory. What is put into one counts only where its own name is durable,
 * so that comes first: a folder that holds something lasts (FAULTS row 102).
 */
import path from 'node:path';
import type { Disk } from './disk.js';

/** Keeps what is no part of the log any more. */
export const QUARANTINE = 'quarantine';
/** Snapshots that are being received. */
export const SNAPSHOTS = 'snapshots';

/** Makes a folder in a data directory, durably. @returns its path. Rejects Io, DiskFull */
export async function makeFolder(disk: Disk, dir: string, name: string): Promise<string> {
  const folder = path.join(dir, name);
  await disk.makeDir(folder);
  await disk.syncDir(dir);
  return folder;
}

/** A copy that was begun: nobody counts on it, and the same one may never be asked for again. */
const BEGUN = /^(torn|rot|rewind-[0-9a-f]{32}-.*\.(wal|json))\.tmp$/;

/**
 * An opening takes away what no copy has become, and folders that are empty: one of a life that has
 * failed to make its name durable may be in the cache alone, and no later fsync of the directory
 * changes that.
 */
export async function clearFolders(disk: Disk, dir: string): Promise<void> {
  const there = await disk.list(dir);
  for (const name of [QUARANTINE, SNAPSHOTS]) {
    if (name === QUARANTINE && there.includes(name)) await removeBegun(disk, path.join(dir, name));
    // One that holds something stays; so does what somebody has put in its place.
    if (there.includes(name)) await disk.removeDir(path.join(dir, name)).catch(() => undefined);
  }
}

async function removeBegun(disk: Disk, folder: string): Promise<void> {
  for (const name of await disk.list(folder)) {
    // It harms nobody where it stays.
    if (BEGUN.test(name)) await disk.remove(path.join(folder, name)).catch(() => undefined);
  }
}
