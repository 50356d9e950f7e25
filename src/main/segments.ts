/**
 * The segment files of one log: the list of live ones, the one that is written, and the next one
 * made ahead of need, from a spare file or sparse.
 */
import path from 'node:path';
import { assert } from '../shared/errors.js';
import { TRAILER_BYTES } from '../shared/limits.js';
import type { Lsn, Sequence, Slot } from '../shared/position.js';
import { segmentName } from '../shared/segment.js';
import { SegmentIndex } from '../shared/segment-index.js';
import type { SegmentFacts } from '../shared/state.js';
import type { Disk, DiskFile } from './disk.js';

export interface Segment extends SegmentFacts {
  /** undefined: not scanned since the node was opened. */
  index: SegmentIndex | undefined;
}

const SPARE = /^spare-[0-9a-f]+\.seg$/;
const TEMPORARY = 'segment.tmp';

/** Whether a file of this name is a segment waiting to be used. */
export function isSpareName(name: string): boolean {
  return SPARE.test(name);
}

export class Segments {
  readonly #disk: Disk;
  readonly #dir: string;
  readonly #bytes: number;
  readonly #spares: string[];
  /** Ascending, contiguous in LSN; the last is the one that is written. */
  readonly list: Segment[];
  #file: DiskFile | undefined;
  #next: Promise<DiskFile> | undefined;

  /**
   * @param bytes the size of segments to come
   * @param spares names of files of that size that may be used for them
   */
  constructor(disk: Disk, dir: string, bytes: number, list: Segment[], spares: string[]) {
    this.#disk = disk;
    this.#dir = dir;
    this.#bytes = bytes;
    this.list = list;
    this.#spares = spares;
  }

  get current(): Segment {
    return this.list[this.list.length - 1]!;
  }

  get file(): DiskFile {
    assert(this.#file !== undefined, 'the log is written before its segment is open');
    return this.#file;
  }

  /** Opens the last segment for writing, creating the log's first one. */
  async open(): Promise<void> {
    if (this.list.length === 0) {
      this.#file = await this.#create(0);
      this.list.push({ start: 0, size: this.#bytes, end: undefined, index: new SegmentIndex() });
    } else {
      this.#file = await this.#disk.open(this.pathOf(this.current.start), 'write');
    }
  }

  /**
   * Recovery is over: removes what it has found empty, and prepares the next segment, which may
   * take the name of one of them.
   */
  async goOn(empty: readonly string[]): Promise<void> {
    for (const name of empty) await this.#disk.remove(path.join(this.#dir, name));
    if (empty.length > 0) await this.#disk.syncDir(this.#dir);
    this.#prepare();
  }

  /**
   * Switches to the next segment. The caller has made everything before it durable.
   * @param previousEnd where the last entry of the current one ends
   */
  async roll(start: Lsn, previousEnd: Lsn): Promise<void> {
    const file = await this.#next!;
    const before = this.#file;
    this.current.end = previousEnd;
    this.list.push({ start, size: this.#bytes, end: undefined, index: new SegmentIndex() });
    this.#file = file;
    this.#prepare();
    await before?.close();
  }

  pathOf(start: Lsn): string {
    return path.join(this.#dir, segmentName(start));
  }

  /** The segment that holds `lsn`. */
  at(lsn: Lsn): Segment | undefined {
    for (let i = this.list.length - 1; i >= 0; i--) {
      const s = this.list[i]!;
      if (lsn >= s.start) return lsn < s.start + s.size ? s : undefined;
    }
    return undefined;
  }

  addToIndex(slot: Slot, first: Sequence, count: number, lsn: Lsn, bytes: number): void {
    this.at(lsn)?.index?.add(slot, first, count, lsn, bytes);
  }

  async close(): Promise<void> {
    const next = await this.#next?.catch(() => undefined);
    await next?.close();
    await this.#file?.close();
    this.#file = undefined;
  }

  #prepare(): void {
    this.#next = this.#create(this.current.start + this.current.size);
    // A failure is the roll's to report; until then it must not count as unhandled.
    this.#next.catch(() => undefined);
  }

  /** A file of the full size under its final name, durable with its directory entry. */
  async #create(start: Lsn): Promise<DiskFile> {
    const spare = this.#spares.shift();
    const from = path.join(this.#dir, spare ?? TEMPORARY);
    const file = await this.#disk.open(from, 'create');
    try {
      if (spare !== undefined) await file.write(new Uint8Array(TRAILER_BYTES), 0);
      else {
        await file.truncate(0);
        await file.truncate(this.#bytes);
      }
      await file.syncAll();
      await this.#disk.rename(from, this.pathOf(start));
      await this.#disk.syncDir(this.#dir);
      return file;
    } catch (error) {
      await file.close();
      throw error;
    }
  }
}
