/**
 * Reading the log of one space: from the segments, up to the durable end, and live from there.
 * Works the same on a primary and on a replica.
 */
import {
  type Entry,
  readEpoch,
  readHeaderCrc,
  readPayloadSize,
  readSequence,
  readSpaceId,
  readSpaceIdWord,
  readTimestamp,
} from '../shared/entry.js';
import { EntryCopies } from '../shared/entry-copies.js';
import { failure } from '../shared/errors.js';
import { ENTRY_HEADER_BYTES, READ_LEAST_BYTES } from '../shared/limits.js';
import type { Lsn, Position, Sequence, Slot } from '../shared/position.js';
import { isVoided } from '../shared/rewind.js';
import { type Found, look } from '../shared/segment.js';
import { SegmentIndex } from '../shared/segment-index.js';
import type { NodeMemory } from '../shared/slab.js';
import type { Damage } from './damage.js';
import type { Disk } from './disk.js';
import { EntryStreams } from './entry-stream.js';
import { readIndex } from './index-file.js';
import { LiveRuns } from './live-runs.js';
import { OpenSegments } from './open-segments.js';
import { ReadingMemory } from './reading-memory.js';
import { walkAround } from './segment-walk.js';
import type { Segment, Segments } from './segments.js';
import type { SpaceState, SpaceTable } from './space-table.js';

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

/** Where a window stands in a segment, and what of a space is looked for in it. */
interface Part {
  readonly space: SpaceState;
  readonly lsn: Lsn;
  readonly end: Lsn;
  readonly segmentEnd: Lsn;
  readonly next: Sequence;
  readonly last: Sequence;
}

export class LogReader {
  readonly #disk: Disk;
  readonly #dir: string;
  readonly #salt: number;
  readonly #memory: NodeMemory;
  readonly #spaces: SpaceTable;
  readonly #segments: Segments;
  readonly #open: OpenSegments;
  readonly #live: LiveRuns;
  readonly memory: ReadingMemory;
  /** The iterators that hosts hold. */
  readonly streams = new EntryStreams();
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
    this.#open = new OpenSegments(disk, segments);
    this.memory = new ReadingMemory(memory.memory.slabs.byteLength);
    this.#live = new LiveRuns(this.memory);
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
    await this.#open.within(segment, async (file) => {
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
      await this.#open.within(segment, (file) =>
        walkAround(file, segment, start, to, this.#salt, take, () => undefined),
      );
    }
    return found;
  }

  /**
   * Durable entries `from`..`to` of a space, in pieces as they come from the disk; 0: from the
   * first retained one, whatever is freed before it is in somebody's hands.
   * Throws Trimmed for what was freed, CorruptionDetected where the log does not hold what it
   * acknowledged.
   * @param signal ends it, soon and without an error
   */
  async *read(
    space: SpaceState,
    from: Sequence,
    to: Sequence,
    signal?: AbortSignal,
  ): AsyncGenerator<Entry[], void, undefined> {
    const { facts, rewindCount } = space;
    const last = Math.min(to, this.#memory.durable(space.slot));
    let begun = from > 0;
    let next = from || facts.first;
    let lsn: Lsn | undefined;
    let isLocated = false;
    while (next <= last && !signal?.aborted) {
      if (isAnotherLog(space, rewindCount, next)) {
        yield* this.read(space, begun ? next : 0, to, signal);
        return;
      }
      if (!begun && next < facts.first) {
        next = facts.first;
        isLocated = false;
        continue;
      }
      this.#checkReadable(space, next);
      if (!isLocated) {
        lsn = await this.locate(space, next);
        isLocated = true;
        continue;
      }
      const segment = lsn === undefined ? undefined : this.#segments.from(lsn);
      if (lsn === undefined || !segment) {
        throw failure('CorruptionDetected', `entry ${next} of ${facts.name} is not in the log`);
      }
      const start = Math.max(lsn, segment.start);
      for await (const entries of this.#readSegment(space, segment, start, next, last, signal)) {
        if (isAnotherLog(space, rewindCount, next)) break;
        begun = true;
        next = entries[entries.length - 1]!.sequence + 1;
        const held = this.memory.hold(entries);
        try {
          yield entries;
        } finally {
          this.memory.release(held);
        }
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

  /** Its segment is pinned in the turn of the first `next()`. */
  async *#readSegment(
    space: SpaceState,
    segment: Segment,
    from: Lsn,
    first: Sequence,
    last: Sequence,
    signal: AbortSignal | undefined,
  ): AsyncGenerator<Entry[], void, undefined> {
    const file = await this.#open.enter(segment);
    const segmentEnd = segment.start + segment.size;
    const copies = new EntryCopies();
    let next = first;
    let lsn = from;
    let window = READ_LEAST_BYTES;
    try {
      while (!signal?.aborted) {
        const end = segment.end ?? Math.min(this.#memory.durableLsn, segmentEnd);
        if (lsn >= end || next > last) return;
        const bytes = new Uint8Array(Math.min(window, end - lsn));
        const got = bytes.subarray(0, await file.read(bytes, lsn - segment.start));
        const part = { space, lsn, end, segmentEnd, next, last };
        const { found, at, state, needs } = this.#entriesIn(got, part, copies);
        lsn += at;
        next += found.length;
        if (found.length > 0) yield found;
        if (next > last) return;
        const isStuck = at === 0 && (got.length < bytes.length || lsn + bytes.length >= end);
        const isBad = state === 'short' ? isStuck : state !== 'entry';
        if (isBad && lsn < end) {
          lsn = await this.#around(segment, lsn);
          this.damage.check(space, next);
        } else {
          window = Math.max(needs, Math.min(2 * window, this.memory.pieceBytes));
        }
      }
    } finally {
      await this.#open.leave(segment);
    }
  }

  /** What a window holds of a space from `next` on: copies, for nobody keeps the window. */
  #entriesIn(
    bytes: Uint8Array,
    part: Part,
    copies: EntryCopies,
  ): { found: Entry[]; at: number; state: Found; needs: number } {
    const { space, lsn, end, segmentEnd, last } = part;
    const { voided } = space.facts;
    const id = this.#memory.spaceId(space.slot);
    const view = new DataView(bytes.buffer, 0, bytes.length);
    const found: Entry[] = [];
    let { next } = part;
    let at = 0;
    let state = look(bytes, view, 0, lsn, segmentEnd, this.#salt);
    while (state === 'entry' && next <= last) {
      const isNext = isOf(view, at, id) && readSequence(view, at) === next;
      if (isNext && !isVoided(voided, next, lsn + at)) {
        found.push(copies.take(bytes, view, at));
        next++;
      }
      at += ENTRY_HEADER_BYTES + readPayloadSize(view, at);
      if (lsn + at >= end) break;
      state = look(bytes, view, at, lsn + at, segmentEnd, this.#salt);
    }
    const isHeader = state === 'short' && at + ENTRY_HEADER_BYTES <= bytes.length;
    const needs = ENTRY_HEADER_BYTES + (isHeader ? readPayloadSize(view, at) : 0);
    return { found, at, state, needs };
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
   * Durable entries from `from` on (0: from the first retained one), without end: history from the
   * log, then live, in pieces. Ends when the signal is aborted. Throws Rewound when what was given
   * out is void from now on.
   */
  async *follow(
    space: SpaceState,
    from: Sequence,
    signal: AbortSignal,
  ): AsyncGenerator<Entry[], void, undefined> {
    const follower = this.#live.follow(space);
    let next = from;
    let { rewindCount } = space;
    try {
      while (!signal.aborted) {
        if (isAnotherLog(space, rewindCount, next)) rewindCount = space.rewindCount;
        const live = follower.take(next, this.memory.pieceBytes);
        if (live) {
          next = live[live.length - 1]!.sequence + 1;
          const held = this.memory.hold(live);
          try {
            yield live;
          } finally {
            this.memory.release(held);
          }
        } else if ((next || space.facts.first) <= this.#memory.durable(space.slot)) {
          for await (const entries of this.read(space, next, Number.MAX_SAFE_INTEGER, signal)) {
            next = entries[entries.length - 1]!.sequence + 1;
            yield entries;
            if (signal.aborted) return;
          }
        } else {
          next ||= space.facts.first;
          await follower.wait(signal);
        }
      }
    } finally {
      follower.close();
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
