/**
 * The segment files of one log: the list of live ones, the one that is written, the next one
 * made ahead of need, and those that were freed: they wait until nobody reads them and no state
 * lists them, then become spares. Whether one may be freed is not decided here.
 */
import path from 'node:path';
import { assert, failure } from '../../shared/errors.js';
import { RESERVE_BYTES, SPARE_SEGMENTS_MAX, TRAILER_BYTES } from '../../shared/limits.js';
import { indexName, indexStart, segmentName } from '../../shared/log/segment.js';
import { IndexRoom, SegmentIndex } from '../../shared/log/segment-index.js';
import type { SegmentFacts } from '../../shared/log/state.js';
import type { Lsn, Sequence, Slot } from '../../shared/position.js';
import type { Disk, DiskFile } from './disk.js';
import { RESERVE } from './log-end.js';

export interface Segment extends SegmentFacts {
  /** undefined: not read since the node was opened. */
  index: SegmentIndex | undefined;
  /** Its index is in its file, too. */
  isIndexStored: boolean;
  /** Readers that are in it. */
  pins: number;
  /** How often its file was replaced by a repair: who has it open has the old one. */
  readonly generation: number;
}

/** A freed segment stays a file until so many states without it are durable (DESIGN 4). */
const STATES_WITHOUT = 2;

interface Freed {
  readonly segment: Segment;
  statesLeft: number;
}

const SPARE = /^spare-([0-9a-f]+)\.seg$/;
const TEMPORARY = 'segment.tmp';

/** Whether a file of this name is a segment waiting to be used. */
export function isSpareName(name: string): boolean {
  return SPARE.test(name);
}

function spareName(start: Lsn): string {
  return `spare-${start.toString(16)}.seg`;
}

export function newSegment(start: Lsn, size: number, end?: Lsn): Segment {
  const unread = { index: undefined, isIndexStored: false, pins: 0 };
  return { start, size, end, ...unread, generation: 0 };
}

/** What the file that is being written is written through. */
interface Writer {
  wrap(file: DiskFile): DiskFile;
}

export class Segments {
  readonly #disk: Disk;
  readonly #dir: string;
  readonly #bytes: number;
  readonly #spares: string[];
  /** Ascending; the last is the one that is written. Freed ones leave gaps. */
  readonly list: Segment[];
  #freed: Freed[];
  #sweeping: Promise<void> | undefined;
  #file: DiskFile | undefined;
  /** Whose thread makes the calls of the segment that is written. */
  readonly #writer: Writer;
  #next: Promise<DiskFile> | undefined;
  #isFull = false;
  /** Grows with each change of the list; and how far a durable state has it. */
  #changes = 0;
  #changesListed = 0;
  #isClosed = false;
  /** From the index of one segment to that of the next. */
  readonly #indexRoom = new IndexRoom();
  /** Segments that were taken from spares. */
  recycled = 0;

  /**
   * @param bytes the size of segments to come
   * @param spares names of files of that size that may be used for them
   * @param leftovers freed before, and still there
   */
  constructor(
    disk: Disk,
    dir: string,
    bytes: number,
    list: Segment[],
    spares: string[],
    leftovers: readonly Segment[],
    writer: Writer,
  ) {
    this.#writer = writer;
    this.#disk = disk;
    this.#dir = dir;
    this.#bytes = bytes;
    this.list = list;
    this.#spares = spares;
    this.#freed = leftovers.map((segment) => ({ segment, statesLeft: STATES_WITHOUT }));
  }

  get current(): Segment {
    return this.list[this.list.length - 1]!;
  }

  get file(): DiskFile {
    assert(this.#file !== undefined, 'the log is written before its segment is open');
    return this.#file;
  }

  get spareCount(): number {
    return this.#spares.length;
  }

  /** Bytes of segments that are live or wait to be freed. */
  get retainedBytes(): number {
    const sizes = [...this.list, ...this.#freed.map((f) => f.segment)].map((s) => s.size);
    return sizes.reduce((sum, size) => sum + size, 0);
  }

  /**
   * Opens the last segment for writing, creating the log's first one; again, where that is empty:
   * it may be of a life that has failed to make its name durable.
   * @param end of the log
   */
  async open(end: Lsn): Promise<void> {
    const { start } = this.list.at(0) ?? { start: 0 };
    if (this.list.length === 0 || (this.list.length === 1 && start === end)) {
      this.#file = this.#writer.wrap(await this.#create(start));
      this.list[0] = {
        ...newSegment(start, this.#bytes),
        index: new SegmentIndex(this.#indexRoom),
      };
    } else {
      await this.#dropLeftIndexes();
      const file = await this.#disk.open(this.pathOf(this.current.start), 'write');
      this.#file = this.#writer.wrap(file);
    }
  }

  /**
   * Only what is sealed has an index. The last one may have been sealed before, and what stood
   * behind it was lost: it grows again, and so may others under the names of those that are gone.
   */
  async #dropLeftIndexes(): Promise<void> {
    const sealed = new Set(this.list.slice(0, -1).map(({ start }) => indexName(start)));
    const names = (await this.#disk.list(this.#dir)).filter((name) => {
      return indexStart(name) !== undefined && !sealed.has(name);
    });
    for (const name of names) await this.#disk.remove(path.join(this.#dir, name));
    if (names.length > 0) await this.#disk.syncDir(this.#dir);
  }

  async #dropIndex(start: Lsn): Promise<void> {
    const index = indexName(start);
    if (!(await this.#disk.list(this.#dir)).includes(index)) return;
    await this.#disk.remove(path.join(this.#dir, index));
    await this.#disk.syncDir(this.#dir);
  }

  /**
   * Recovery is over: removes what it has found empty, and prepares the next segment. One that has
   * that name stays until the new one takes its place: the older state may list it (row 101).
   */
  async goOn(empty: readonly string[]): Promise<void> {
    const next = segmentName(this.current.start + this.current.size);
    const gone = empty.filter((name) => name !== next);
    for (const name of gone) await this.#disk.remove(path.join(this.#dir, name));
    if (gone.length > 0) await this.#disk.syncDir(this.#dir);
    await this.#settleSpares();
    this.prepare();
  }

  /**
   * A spare of an earlier life may have its name only in the cache: where that life ended with a
   * directory fsync that failed, the next one makes nothing of it durable. Used then, its file
   * would have two names behind a power loss, and be recycled by the one while it is the log by the
   * other (row 101). It is renamed once more: back to what it was, and to a spare.
   */
  async #settleSpares(): Promise<void> {
    if (this.#spares.length === 0) return;
    const there = new Set(await this.#disk.list(this.#dir));
    for (const spare of this.#spares.splice(0)) {
      const start = Number.parseInt(SPARE.exec(spare)![1]!, 16);
      const from = path.join(this.#dir, spare);
      if (there.has(segmentName(start))) await this.#disk.remove(from);
      else {
        await this.#disk.rename(from, this.pathOf(start));
        await this.#disk.rename(this.pathOf(start), from);
        this.#spares.push(spare);
      }
    }
    await this.#disk.syncDir(this.#dir);
  }

  /**
   * Switches to the next segment. The caller has made everything before it durable.
   * @param previousEnd where the last entry of the current one ends
   */
  async roll(start: Lsn, previousEnd: Lsn): Promise<void> {
    const file = await this.#next!;
    const before = this.#file;
    this.current.end = previousEnd;
    this.#changes++;
    this.list.push({ ...newSegment(start, this.#bytes), index: new SegmentIndex(this.#indexRoom) });
    this.#file = this.#writer.wrap(file);
    this.prepare();
    await before?.close();
  }

  pathOf(start: Lsn): string {
    return path.join(this.#dir, segmentName(start));
  }

  /** The segment that holds `lsn`. */
  at(lsn: Lsn): Segment | undefined {
    const segment = this.from(lsn);
    return segment && segment.start <= lsn ? segment : undefined;
  }

  /** The segment that holds `lsn`; where it was freed, the next one behind. */
  from(lsn: Lsn): Segment | undefined {
    for (let i = this.list.length - 1; i >= 0; i--) {
      const s = this.list[i]!;
      if (lsn >= s.start) return lsn < s.start + s.size ? s : this.list[i + 1];
    }
    return this.list[0];
  }

  /** Entries of the space from `first` on are void, wherever they stand. */
  rewindIndexes(slot: Slot, first: Sequence): void {
    for (const segment of this.list) {
      const { index } = segment;
      if (!index || (index.last(slot) ?? 0) < first) continue;
      // What is in its file is held against the rewinds when it is read.
      index.rewind(slot, first);
    }
  }

  /**
   * The file of a sealed segment, whole again, takes its name; readers that are in the old one keep
   * it. Where the segment was missing it is there from now on. Nothing may be freed meanwhile.
   * @param from a durable file in the data directory
   */
  async replace(from: string, start: Lsn, size: number, end: Lsn): Promise<Segment> {
    // What was freed under that name is on its way out.
    await this.#sweeping;
    this.#freed = this.#freed.filter((f) => f.segment.start !== start);
    // It says what the old file holds: gone for good before the new one is there. Where it is gone
    // already, an earlier life may have failed to make that durable: so it is removed once more.
    const index = path.join(this.#dir, indexName(start));
    await (await this.#disk.open(index, 'create')).close();
    await this.#disk.remove(index);
    await this.#disk.syncDir(this.#dir);
    await this.#disk.rename(from, this.pathOf(start));
    await this.#disk.syncDir(this.#dir);
    const at = this.list.findIndex((s) => s.start >= start);
    const old = this.list[at]?.start === start ? this.list[at] : undefined;
    const segment = { ...newSegment(start, size, end), generation: (old?.generation ?? 0) + 1 };
    this.list.splice(at < 0 ? this.list.length : at, old ? 1 : 0, segment);
    this.#changes++;
    return segment;
  }

  // --- freeing -----------------------------------------------------------------------------

  /** Nobody needs the entries of these segments any more. */
  free(segments: readonly Segment[]): void {
    for (const segment of segments) {
      this.list.splice(this.list.indexOf(segment), 1);
      this.#changes++;
      this.#freed.push({ segment, statesLeft: STATES_WITHOUT });
    }
  }

  /** No durable state has the list as it is, or one may still list what was freed. */
  get isStateWanted(): boolean {
    return this.#changesListed < this.#changes || this.#freed.some((f) => f.statesLeft > 0);
  }

  /** @returns what to call when the state that is written from now on has become durable */
  stateBegins(): () => void {
    const without = [...this.#freed];
    const changes = this.#changes;
    return () => {
      this.#changesListed = changes;
      for (const freed of without) freed.statesLeft--;
      this.#sweep();
    };
  }

  /** Keeps the file of a segment from being recycled while it is read (row 53). */
  pin(segment: Segment): void {
    segment.pins++;
  }

  unpin(segment: Segment): void {
    segment.pins--;
    if (segment.pins === 0 && !this.list.includes(segment)) this.#sweep();
  }

  /**
   * Why the file that is written is not the log's any more. Rejects Io, Closed: not known.
   * @param isMending the log itself cuts it for a moment, where the disk was full
   */
  async displaced(isMending: () => boolean): Promise<string | undefined> {
    const { file } = this;
    const { start, size } = this.current;
    const name = this.pathOf(start);
    if (!file.identity || !this.#disk.identity) return undefined;
    const [held, named] = await Promise.all([file.identity(), this.#disk.identity(name)]);
    if (held === undefined || held !== named) {
      return `${name} has been removed or replaced while it was written`;
    }
    // It has its whole size from its first day: what is short was cut by somebody else.
    if ((await file.size()) >= size || isMending()) return undefined;
    const bytes = await file.size();
    return bytes < size
      ? `${name} has been cut to ${bytes} of its ${size} bytes while it was written`
      : undefined;
  }

  #sweep(): void {
    this.#sweeping ??= this.#sweepAll()
      // What is not recycled now is a leftover at the next opening.
      .catch(() => undefined)
      .finally(() => {
        this.#sweeping = undefined;
      });
  }

  async #sweepAll(): Promise<void> {
    for (;;) {
      const done = this.#freed.find((f) => f.statesLeft <= 0 && f.segment.pins === 0);
      if (!done || this.#isClosed) return;
      this.#freed = this.#freed.filter((f) => f !== done);
      await this.#recycle(done.segment);
    }
  }

  async #recycle({ start, size }: Segment): Promise<void> {
    const file = this.pathOf(start);
    const spare = spareName(start);
    const isKept =
      !this.#isFull && size === this.#bytes && this.#spares.length < SPARE_SEGMENTS_MAX;
    if (isKept) await this.#disk.rename(file, path.join(this.#dir, spare));
    else await this.#disk.remove(file);
    await this.#dropIndex(start);
    await this.#disk.syncDir(this.#dir);
    // Only now is it the only name that a power loss leaves.
    if (isKept) this.#spares.push(spare);
  }

  /**
   * Gives what is set aside back to a full file system: spares, and the reserve that state and
   * freeing then have (row 13). What is freed from now on is removed, not kept.
   */
  async giveBack(): Promise<void> {
    this.#isFull = true;
    const reserve = path.join(this.#dir, RESERVE);
    if ((await this.#disk.list(this.#dir)).includes(RESERVE)) await this.#disk.remove(reserve);
    const spares = this.#spares.splice(0);
    for (const spare of spares) await this.#disk.remove(path.join(this.#dir, spare));
    await this.#disk.syncDir(this.#dir);
  }

  /** Sets room aside. Rejects DiskFull where there is less than twice as much (hysteresis). */
  async keepReserve(): Promise<void> {
    if (!this.#isFull && (await this.#disk.list(this.#dir)).includes(RESERVE)) return;
    const free = await this.#disk.freeBytes(this.#dir);
    if (free < 2 * RESERVE_BYTES) {
      throw failure('DiskFull', `${free} bytes free, needed are ${2 * RESERVE_BYTES}`);
    }
    const file = await this.#disk.open(path.join(this.#dir, RESERVE), 'create');
    try {
      await file.write(new Uint8Array(RESERVE_BYTES), 0);
      await file.syncAll();
    } finally {
      await file.close();
    }
    this.#isFull = false;
  }

  /** Refuses what comes, waits for what is under way. Both files may be asked for once more. */
  async close(): Promise<void> {
    this.#isClosed = true;
    await this.#file?.close();
    const next = await this.#next?.catch(() => undefined);
    await next?.close();
    await this.#sweeping;
  }

  // --- the next one ------------------------------------------------------------------------

  /** Makes the next segment; again, where it failed before. Rejects as the disk does. */
  async prepareAgain(): Promise<void> {
    const isThere = await this.#next?.then(
      () => true,
      () => false,
    );
    if (!isThere) this.prepare();
    await this.#next;
  }

  prepare(): void {
    if (this.#isClosed) return;
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
      if (spare !== undefined) {
        await file.write(new Uint8Array(TRAILER_BYTES), 0);
        this.recycled++;
      } else {
        await file.truncate(0);
        await file.truncate(this.#bytes);
      }
      await file.syncAll();
      await this.#disk.rename(from, this.pathOf(start));
      file.path = this.pathOf(start);
      await this.#disk.syncDir(this.#dir);
      return file;
    } catch (error) {
      await file.close();
      // What an fsync has failed for is not to be taken for durable by the next one.
      await this.#disk.remove(from).catch(() => undefined);
      throw error;
    }
  }
}
