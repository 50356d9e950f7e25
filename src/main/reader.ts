/**
 * Reading the log of one space: from the segments, up to the durable end, and live from there.
 * Works the same on a primary and on a replica.
 */
import {
  type Entry,
  entryAt,
  readEpoch,
  readHeaderCrc,
  readPayloadSize,
  readSequence,
  readSpaceId,
  readSpaceIdWord,
  readTimestamp,
} from '../shared/entry.js';
import { failure } from '../shared/errors.js';
import { ENTRY_HEADER_BYTES, READ_CHUNK_BYTES, TAIL_QUEUE_BYTES } from '../shared/limits.js';
import type { Lsn, Position, Sequence, Slot } from '../shared/position.js';
import { isVoided } from '../shared/rewind.js';
import { look } from '../shared/segment.js';
import { SegmentIndex } from '../shared/segment-index.js';
import type { NodeMemory } from '../shared/slab.js';
import type { Damage } from './damage.js';
import type { Disk, DiskFile } from './disk.js';
import { readIndex } from './index-file.js';
import { walkAround } from './segment-walk.js';
import type { Segment, Segments } from './segments.js';
import type { RunConsumer, SpaceState, SpaceTable } from './space-table.js';

/** Which entry of a space is looked for. */
export interface Wanted {
  readonly space: SpaceState;
  readonly sequence: Sequence;
}

export interface LookedUp {
  /** undefined: the log does not hold the entry. */
  readonly position: Position | undefined;
  /** Where the entry behind it stands. */
  readonly next: Lsn | undefined;
  /** Of the entry behind it. */
  readonly timestamp: bigint;
}

/** The first window of a read; it doubles up to READ_CHUNK_BYTES. */
const FIRST_WINDOW_BYTES = 16 * 1024;

export class LogReader {
  readonly #disk: Disk;
  readonly #dir: string;
  readonly #salt: number;
  readonly #memory: NodeMemory;
  readonly #spaces: SpaceTable;
  readonly #segments: Segments;
  readonly #files = new Map<Segment, { file: Promise<DiskFile>; readers: number }>();
  /** Set once, before anything is read. */
  damage!: Damage;
  readonly #indexing = new Map<Segment, Promise<SegmentIndex>>();

  constructor(
    disk: Disk,
    dir: string,
    memory: NodeMemory,
    spaces: SpaceTable,
    segments: Segments,
    salt: number,
  ) {
    this.#disk = disk;
    this.#dir = dir;
    this.#salt = salt;
    this.#memory = memory;
    this.#spaces = spaces;
    this.#segments = segments;
  }

  /** The index of a segment: from memory, its file, or by a scan. */
  async indexOf(segment: Segment): Promise<SegmentIndex> {
    if (segment.index) return segment.index;
    let loading = this.#indexing.get(segment);
    if (!loading) {
      loading = this.#loadIndex(segment).finally(() => this.#indexing.delete(segment));
      this.#indexing.set(segment, loading);
    }
    return await loading;
  }

  async #loadIndex(segment: Segment): Promise<SegmentIndex> {
    const slotOf = (id: string): Slot | undefined => this.#spaces.byId(id)?.slot;
    const { start, end } = segment;
    const stored =
      end === undefined ? undefined : await readIndex(this.#disk, this.#dir, start, end, slotOf);
    const index = stored ?? (await this.#buildIndex(segment));
    segment.isIndexStored = stored !== undefined;
    // It may be older than a rewind.
    if (stored && this.#withoutVoided(stored, end!)) segment.isIndexStored = false;
    segment.index = index;
    return index;
  }

  /** @param end of its segment  @returns whether anything in it was void */
  #withoutVoided(index: SegmentIndex, end: Lsn): boolean {
    let isOld = false;
    for (const slot of index.slots) {
      for (const { lsn, first } of this.#spaces.bySlot[slot]!.facts.voided) {
        if (lsn < end || (index.last(slot) ?? 0) < first) continue;
        index.rewind(slot, first);
        isOld = true;
      }
    }
    return isOld;
  }

  async #buildIndex(segment: Segment): Promise<SegmentIndex> {
    const index = new SegmentIndex();
    const to = segment.end ?? this.#memory.durableLsn;
    let bad = false;
    await this.#pinned(segment, async (file) => {
      await walkAround(
        file,
        segment,
        segment.start,
        to,
        this.#salt,
        (_, view, at, lsn) => {
          const space = this.#spaces.byId(readSpaceId(view, at));
          const sequence = readSequence(view, at);
          const bytes = ENTRY_HEADER_BYTES + readPayloadSize(view, at);
          if (!space || isVoided(space.facts.voided, sequence, lsn)) return;
          // A filler of a repair has none.
          if (sequence > 0) index.add(space.slot, sequence, 1, lsn, bytes);
        },
        ({ start }) => {
          bad ||= this.damage.at(start) === undefined;
        },
      );
    });
    // Which entries are lost takes the other indexes: not to be waited for in here.
    if (bad) void this.damage.examine(segment).catch(() => undefined);
    return index;
  }

  /** Reads a segment that cannot be recycled meanwhile. */
  async #pinned<T>(segment: Segment, work: (file: DiskFile) => Promise<T>): Promise<T> {
    const file = await this.#enter(segment);
    try {
      return await work(file);
    } finally {
      await this.#leave(segment);
    }
  }

  /** Where a reading of the space from `sequence` on may begin. */
  async locate(space: SpaceState, sequence: Sequence): Promise<Lsn | undefined> {
    const { list } = this.#segments;
    // Newest first: what is asked for most often is what was written last.
    for (let i = list.length - 1; i >= 0; i--) {
      const segment = list[i]!;
      let { index } = segment;
      if (!index) {
        index = await this.indexOf(segment).catch((error) => {
          if (list.includes(segment)) throw error;
          return undefined;
        });
        // Some may have been freed meanwhile, this one too: on with what is older.
        i = list.findIndex((other) => other.start >= segment.start);
        if (i < 0) i = list.length;
        if (list[i] !== segment) continue;
      }
      const lsn = index?.find(space.slot, sequence);
      if (lsn !== undefined) return lsn;
    }
    return undefined;
  }

  /**
   * For many spaces in one pass over the log: the position at a sequence, and where the entry
   * behind it stands. Spaces that hold neither are absent from the answer.
   */
  async lookUp(wanted: readonly Wanted[]): Promise<Map<SpaceState, LookedUp>> {
    const found = new Map<SpaceState, LookedUp>();
    const byId = new Map<string, Wanted>();
    let from = Number.POSITIVE_INFINITY;
    for (const w of wanted) {
      const { space, sequence } = w;
      // Its own entry may be freed, and what follows it retained.
      const lsn =
        (await this.locate(space, Math.max(1, sequence))) ??
        (await this.locate(space, sequence + 1));
      if (lsn === undefined) continue;
      from = Math.min(from, lsn);
      byId.set(w.space.facts.id, w);
    }
    const take = (_: Uint8Array, view: DataView, at: number, lsn: Lsn): boolean => {
      const w = byId.get(readSpaceId(view, at));
      if (!w) return true;
      const sequence = readSequence(view, at);
      if (isVoided(w.space.facts.voided, sequence, lsn)) return true;
      if (sequence === w.sequence) {
        const position = {
          epoch: readEpoch(view, at),
          sequence,
          headerCrc: readHeaderCrc(view, at),
        };
        found.set(w.space, { position, next: undefined, timestamp: 0n });
      } else if (sequence === w.sequence + 1) {
        const position = found.get(w.space)?.position;
        found.set(w.space, { position, next: lsn, timestamp: readTimestamp(view, at) });
        byId.delete(w.space.facts.id);
      }
      return byId.size > 0;
    };
    for (const segment of [...this.#segments.list]) {
      if (byId.size === 0 || segment.start + segment.size <= from) continue;
      const start = Math.max(from, segment.start);
      const to = segment.end ?? this.#memory.durableLsn;
      await this.#pinned(segment, (file) =>
        walkAround(file, segment, start, to, this.#salt, take, () => undefined),
      );
    }
    return found;
  }

  /**
   * Durable entries `from`..`to` of a space, in pieces as they come from the disk.
   * Throws Trimmed for what was freed, CorruptionDetected where the log does not hold what it
   * acknowledged.
   */
  async *read(space: SpaceState, from: Sequence, to: Sequence): AsyncGenerator<Entry[]> {
    let next = from;
    const last = Math.min(to, this.#memory.durable(space.slot));
    if (next > last) return;
    const { rewindCount } = space;
    this.#checkReadable(space, next);
    let lsn = await this.locate(space, next);
    while (next <= last) {
      if (isAnotherLog(space, rewindCount, next)) {
        yield* this.read(space, next, to);
        return;
      }
      this.#checkReadable(space, next);
      const segment = lsn === undefined ? undefined : this.#segments.from(lsn);
      if (lsn === undefined || !segment) {
        throw failure(
          'CorruptionDetected',
          `entry ${next} of ${space.facts.name} is not in the log`,
        );
      }
      const start = Math.max(lsn, segment.start);
      for await (const entries of this.#readSegment(space, segment, start, next, last)) {
        if (isAnotherLog(space, rewindCount, next)) break;
        next = entries[entries.length - 1]!.sequence + 1;
        yield entries;
      }
      if (rewindCount === space.rewindCount) lsn = segment.start + segment.size;
    }
  }

  #checkReadable(space: SpaceState, sequence: Sequence): void {
    const { name, first } = space.facts;
    if (sequence < first) {
      throw failure('Trimmed', `entry ${sequence} of ${name}: the first retained one is ${first}`, {
        details: { firstSequence: first },
      });
    }
    this.damage.check(space, sequence);
  }

  /** One open file for a segment, however many readers are in it. */
  #enter(segment: Segment): Promise<DiskFile> {
    let open = this.#files.get(segment);
    if (!open) {
      const file = this.#disk.open(this.#segments.pathOf(segment.start), 'read');
      open = { file, readers: 0 };
      this.#files.set(segment, open);
      this.#segments.pin(segment);
      file.catch(() => {
        this.#files.delete(segment);
        this.#segments.unpin(segment);
      });
    }
    open.readers++;
    return open.file;
  }

  async #leave(segment: Segment): Promise<void> {
    const open = this.#files.get(segment);
    if (!open || --open.readers > 0) return;
    this.#files.delete(segment);
    try {
      await (await open.file).close();
    } finally {
      this.#segments.unpin(segment);
    }
  }

  async *#readSegment(
    space: SpaceState,
    segment: Segment,
    from: Lsn,
    first: Sequence,
    last: Sequence,
  ): AsyncGenerator<Entry[]> {
    const file = await this.#enter(segment);
    const segmentEnd = segment.start + segment.size;
    const id = this.#memory.spaceId(space.slot);
    let next = first;
    let lsn = from;
    let window = FIRST_WINDOW_BYTES;
    try {
      for (;;) {
        const end = segment.end ?? Math.min(this.#memory.durableLsn, segmentEnd);
        if (lsn >= end || next > last) return;
        const bytes = new Uint8Array(Math.min(window, end - lsn));
        const got = bytes.subarray(0, await file.read(bytes, lsn - segment.start));
        const view = new DataView(got.buffer, 0, got.length);
        const found: Entry[] = [];
        let at = 0;
        let state = look(got, view, 0, lsn, segmentEnd, this.#salt);
        for (; state === 'entry' && next <= last; ) {
          const isNext = isOf(view, at, id) && readSequence(view, at) === next;
          if (isNext && !isVoided(space.facts.voided, next, lsn + at)) {
            found.push(entryAt(got, view, at));
            next++;
          }
          at += ENTRY_HEADER_BYTES + readPayloadSize(view, at);
          if (lsn + at >= end) break;
          state = look(got, view, at, lsn + at, segmentEnd, this.#salt);
        }
        lsn += at;
        if (found.length > 0) yield found;
        const isStuck = at === 0 && (got.length < bytes.length || lsn + bytes.length >= end);
        const isBad = state === 'short' ? isStuck : state !== 'entry';
        if (next > last) return;
        if (isBad && lsn < end) {
          lsn = await this.#around(segment, lsn);
          this.#checkReadable(space, next);
          continue;
        }
        window = at === 0 ? 4 * window : Math.min(2 * window, Math.max(window, READ_CHUNK_BYTES));
      }
    } finally {
      await this.#leave(segment);
    }
  }

  /** Where to go on behind a bad place. */
  async #around(segment: Segment, lsn: Lsn): Promise<Lsn> {
    if (!this.damage.at(lsn)) await this.damage.examine(segment);
    const hole = this.damage.at(lsn);
    // Bad a moment ago, and good now: the disk is not to be trusted with what it gives.
    if (!hole) throw failure('Io', `LSN ${lsn} cannot be read reliably`);
    return hole.end;
  }

  /**
   * Durable entries from `from` on, without end: history from the log, then live, in pieces. Ends
   * when the signal is aborted. Throws Rewound when what was given out is void from now on.
   */
  async *follow(space: SpaceState, from: Sequence, signal: AbortSignal): AsyncGenerator<Entry[]> {
    const tail = new Tail();
    let next = from;
    let { rewindCount } = space;
    space.consumers.add(tail);
    try {
      while (!signal.aborted) {
        if (isAnotherLog(space, rewindCount, next)) rewindCount = space.rewindCount;
        const live = tail.take(next);
        if (live) {
          next = live[live.length - 1]!.sequence + 1;
          yield live;
        } else if (next <= this.#memory.durable(space.slot)) {
          for await (const entries of this.read(space, next, Number.MAX_SAFE_INTEGER)) {
            next = entries[entries.length - 1]!.sequence + 1;
            yield entries;
            if (signal.aborted) return;
          }
        } else {
          await tail.wait(next, signal);
        }
      }
    } finally {
      space.consumers.delete(tail);
    }
  }
}

/**
 * Whether the space was rewound since `rewindCount`. Throws Rewound where that concerns what was
 * read up to, and without, `next`.
 */
function isAnotherLog(space: SpaceState, rewindCount: number, next: Sequence): boolean {
  const { voided, name } = space.facts;
  const since = space.rewindCount - rewindCount;
  if (since === 0) return false;
  const first = voided[Math.max(0, voided.length - since)]?.first ?? 1;
  if (next <= first) return true;
  throw failure('Rewound', `entries of ${name} from ${first} on were taken back`, {
    details: { from: first },
  });
}

function isOf(view: DataView, at: number, id: readonly number[]): boolean {
  return (
    readSpaceIdWord(view, at, 0) === id[0] &&
    readSpaceIdWord(view, at, 1) === id[1] &&
    readSpaceIdWord(view, at, 2) === id[2] &&
    readSpaceIdWord(view, at, 3) === id[3]
  );
}

/**
 * What became durable while its consumer was busy: copies of runs, up to TAIL_QUEUE_BYTES. A
 * consumer that falls farther behind reads the log until it has caught up.
 */
class Tail implements RunConsumer {
  #queue: Entry[][] = [];
  #bytes = 0;
  /** The sequence that the next run must begin with to be taken; 0: none is. */
  #expected = 0;
  #wake: (() => void) | undefined;

  run(bytes: Uint8Array | undefined, first: Sequence, count: number): void {
    if (first === this.#expected) {
      if (!bytes) this.#expected = 0;
      else if (this.#bytes + bytes.length > TAIL_QUEUE_BYTES && this.#queue.length > 0) {
        this.#expected = 0;
      } else {
        this.#take(bytes, count);
        this.#expected = first + count;
      }
    }
    this.#wake?.();
  }

  #take(bytes: Uint8Array, count: number): void {
    const copy = new Uint8Array(bytes);
    const view = new DataView(copy.buffer);
    const entries: Entry[] = [];
    for (let at = 0, n = 0; n < count; n++) {
      entries.push(entryAt(copy, view, at));
      at += ENTRY_HEADER_BYTES + readPayloadSize(view, at);
    }
    this.#queue.push(entries);
    this.#bytes += bytes.length;
  }

  /** The next piece, if it begins with `next`. */
  take(next: Sequence): Entry[] | undefined {
    const entries = this.#queue[0];
    if (!entries) return undefined;
    if (entries[0]!.sequence !== next) {
      // The log was read past what is queued here.
      this.#queue = [];
      this.#bytes = 0;
      this.#expected = 0;
      return undefined;
    }
    this.#queue.shift();
    for (const e of entries) this.#bytes -= ENTRY_HEADER_BYTES + e.payload.length;
    return entries;
  }

  /** Resolves when something became durable, or the signal is aborted. */
  async wait(next: Sequence, signal: AbortSignal): Promise<void> {
    if (this.#queue.length === 0) this.#expected = next;
    await new Promise<void>((resolve) => {
      const done = (): void => {
        signal.removeEventListener('abort', done);
        this.#wake = undefined;
        resolve();
      };
      this.#wake = done;
      signal.addEventListener('abort', done, { once: true });
      if (signal.aborted) done();
    });
  }
}
