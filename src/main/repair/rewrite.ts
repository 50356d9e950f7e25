/**
 * A new file for a damaged segment, beside it: made when the first bytes come, with all that the
 * old one holds; nothing else changes its place. It takes the segment's name only when it is whole.
 */
import path from 'node:path';
import { READ_CHUNK_BYTES } from '../../shared/limits.js';
import type { Lsn } from '../../shared/position.js';
import type { Disk, DiskFile } from '../segments/disk.js';
import type { Extent } from '../segments/walk.js';

export const REWRITE_NAME = 'repair.tmp';
const ZEROS = Buffer.alloc(READ_CHUNK_BYTES);

export class SegmentRewrite {
  readonly path: string;
  readonly #disk: Disk;
  readonly #extent: Extent;
  /** undefined: the segment is not there. */
  readonly #old: DiskFile | undefined;
  #file: DiskFile | undefined;

  constructor(disk: Disk, dir: string, extent: Extent, old: DiskFile | undefined) {
    this.path = path.join(dir, REWRITE_NAME);
    this.#disk = disk;
    this.#extent = extent;
    this.#old = old;
  }

  /** All that the old file holds, in a new one. */
  async begin(): Promise<DiskFile> {
    this.#file ??= await this.#copied();
    return this.#file;
  }

  /** Bytes at their place. */
  async put(lsn: Lsn, bytes: Uint8Array): Promise<void> {
    const file = await this.begin();
    await file.write(bytes, lsn - this.#extent.start);
  }

  /** What the old file holds, again. */
  async putBack(from: Lsn, to: Lsn): Promise<void> {
    if (!this.#file) return;
    if (this.#old) await this.#copy(this.#file, this.#old, from, to);
    else await this.#file.write(new Uint8Array(to - from), from - this.#extent.start);
  }

  async #copied(): Promise<DiskFile> {
    const { start, size } = this.#extent;
    const file = await this.#disk.open(this.path, 'create');
    try {
      await file.truncate(0);
      await file.truncate(size);
      if (this.#old) await this.#copy(file, this.#old, start, start + size);
      return file;
    } catch (error) {
      await file.close();
      throw error;
    }
  }

  async #copy(to: DiskFile, from: DiskFile, first: Lsn, end: Lsn): Promise<void> {
    const window = Buffer.alloc(READ_CHUNK_BYTES);
    for (let lsn = first; lsn < end; lsn += window.length) {
      const wanted = window.subarray(0, end - lsn);
      const got = wanted.subarray(0, await from.read(wanted, lsn - this.#extent.start));
      // A whole new file is zeros already; over other bytes they must be written.
      const isNew = first === this.#extent.start && end === first + this.#extent.size;
      if (isNew && got.equals(ZEROS.subarray(0, got.length))) continue;
      await to.write(got, lsn - this.#extent.start);
    }
  }

  /** The file, durable. */
  async finish(): Promise<DiskFile> {
    const file = this.#file!;
    await file.syncAll();
    return file;
  }

  /** Closes the file; it stays under its temporary name, to be used again. */
  async close(): Promise<void> {
    const file = this.#file;
    this.#file = undefined;
    await file?.close();
  }
}
