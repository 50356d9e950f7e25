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

/**
 * An opening takes away folders that are empty: one of a life that has failed to make its name
 * durable may be in the cache alone, and no later fsync of the directory changes that.
 */
export async function removeEmptyFolders(disk: Disk, dir: string): Promise<void> {
  const there = await disk.list(dir);
  for (const name of [QUARANTINE, SNAPSHOTS]) {
    // One that holds something stays; so does what somebody has put in its place.
    if (there.includes(name)) await disk.removeDir(path.join(dir, name)).catch(() => undefined);
  }
}
