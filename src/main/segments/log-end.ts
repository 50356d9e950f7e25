/**
 * Makes the end of the log fit to be written on: good headers behind it to quarantine, the bytes
 * from W to X written again, zeros from X to the segment's end, all durable.
 */
import path from 'node:path';
import type { EngramError } from '../../shared/errors.js';
import { READ_CHUNK_BYTES } from '../../shared/limits.js';
import type { Lsn } from '../../shared/position.js';
import type { Disk, DiskFile } from './disk.js';
import { makeFolder, QUARANTINE } from './folders.js';
import type { Extent } from './walk.js';

/** Room that is set aside for when the disk is full (FAULTS row 13). */
export const RESERVE = 'reserve';
const ZEROS = new Uint8Array(1024 * 1024);

/** Once more where the disk is full, with the room that is set aside for that (FAULTS row 13). */
export async function withReserve<T>(disk: Disk, dir: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    const hasReserve = (await disk.list(dir)).includes(RESERVE);
    if ((error as EngramError).code !== 'DiskFull' || !hasReserve) throw error;
    await disk.remove(path.join(dir, RESERVE));
    return await work();
  }
}

/**
 * Writes the bytes from W to X again: a page that failed to reach the disk may look clean in the
 * cache (FAULTS row 10). Then zeros from X on. Durable when it returns.
 */
export async function settleTail(
  disk: Disk,
  dir: string,
  file: DiskFile,
  segment: Extent,
  w: Lsn,
  x: Lsn,
): Promise<void> {
  // There are file systems on which that takes room, too: btrfs, ZFS.
  await withReserve(disk, dir, () => writeAgain(file, segment, w, x));
  await zeroFrom(file, segment, x);
}

async function writeAgain(file: DiskFile, segment: Extent, w: Lsn, x: Lsn): Promise<void> {
  for (let lsn = Math.max(w, segment.start); lsn < x; lsn += ZEROS.length) {
    const bytes = new Uint8Array(Math.min(ZEROS.length, x - lsn));
    await file.read(bytes, lsn - segment.start);
    await file.write(bytes, lsn - segment.start);
  }
}

/** Zeros from an LSN to the segment's end, durably. On a full disk the blocks are given back. */
export async function zeroFrom(file: DiskFile, segment: Extent, x: Lsn): Promise<void> {
  const end = segment.start + segment.size;
  try {
    for (let lsn = x; lsn < end; lsn += ZEROS.length) {
      await file.write(ZEROS.subarray(0, end - lsn), lsn - segment.start);
    }
  } catch (error) {
    if ((error as EngramError).code !== 'DiskFull') throw error;
    await file.truncate(x - segment.start);
    await file.truncate(segment.size);
  }
  await file.syncAll();
}

/**
 * Copies bytes of the log that are to be changed, durably; on a full disk the reserve is given up
 * for it. @returns the file that keeps them
 */
export async function keepCopy(
  disk: Disk,
  dir: string,
  file: DiskFile,
  segment: Extent,
  from: Lsn,
  to: Lsn,
  why: 'torn' | 'rot' = 'torn',
): Promise<string> {
  const copy = () => copyToQuarantine(disk, dir, file, segment, from, to, why);
  return await withReserve(disk, dir, copy);
}

async function copyToQuarantine(
  disk: Disk,
  dir: string,
  file: DiskFile,
  segment: Extent,
  from: Lsn,
  to: Lsn,
  why: 'torn' | 'rot',
): Promise<string> {
  const folder = await makeFolder(disk, dir, QUARANTINE);
  // An earlier one at the same place keeps its own copy.
  const place = `${why}-${from.toString(16).padStart(16, '0')}`;
  const names = await disk.list(folder);
  const earlier = names.filter((name) => name.startsWith(place) && name.endsWith('.bin')).length;
  const name = path.join(folder, `${place}-${earlier + 1}.bin`);
  // Under its name only when it is whole: openings that fail half-way do not pile up copies.
  const temporary = path.join(folder, `${why}.tmp`);
  try {
    await copyRange(disk, temporary, file, segment, from, to);
  } catch (error) {
    await disk.remove(temporary).catch(() => undefined);
    throw error;
  }
  await disk.rename(temporary, name);
  await disk.syncDir(folder);
  return name;
}

async function copyRange(
  disk: Disk,
  name: string,
  file: DiskFile,
  segment: Extent,
  from: Lsn,
  to: Lsn,
): Promise<void> {
  const copy = await disk.open(name, 'create');
  try {
    await copy.truncate(0);
    const bytes = new Uint8Array(READ_CHUNK_BYTES);
    for (let lsn = from; lsn < to; lsn += bytes.length) {
      const want = bytes.subarray(0, Math.min(bytes.length, to - lsn));
      const got = await file.read(want, lsn - segment.start);
      await copy.write(want.subarray(0, got), lsn - from);
    }
    await copy.syncAll();
  } finally {
    await copy.close();
  }
}
