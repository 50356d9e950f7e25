/**
 * Reading the log of one space: from the segments, up to the durable end, and live from there.
 * Works the same on a primary and on a replica.
 */

import { type EngramError, failure } from '../../shared/errors.js';
import { LOOK_UPS_AT_ONCE } from '../../shared/limits.js';
import {
  type Entry,
  readEpoch,
  readHeaderCrc,
  readSequence,
  readTimestamp,
} from '../../shared/log/entry.js';
import { EntryCopies } from '../../shared/log/entry-copies.js';
import { type SegmentIndex, stretchOf } from '../../shared/log/segment-index.js';
import { type Cursor, cursorAt } from '../../shared/log/truth.js';
import type { NodeMemory } from '../../shared/memory/slab.js';
import type { Lsn, Position, Sequence } from '../../shared/position.js';
import { rewoundError, type SpaceState, type SpaceTable } from '../log/space-table.js';
import type { Disk } from '../segments/disk.js';
import { OpenSegments } from '../segments/open-segments.js';
import type { Segment, Segments } from '../segments/segments.js';
import { Backwards } from './backwards.js';
import { ByTime } from './by-time.js';
import { type Damage, isOfDamage } from './damage.js';
import { EntryStreams } from './entry-stream.js';
import { type Place, SegmentIndexes } from './indexes.js';
import { LiveRuns } from './live-runs.js';
import { ReadingMemory } from './memory.js';
import { SegmentEntries, type Take } from './segment-entries.js';

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

interface EntryFacts {
  readonly position: Position;
  readonly timestamp: bigint;
  readonly lsn: Lsn;
}

export class LogReader {
  readonly #memory: NodeMemory;
  readonly #segments: Segments;
  readonly #live: LiveRuns;
  readonly memory: ReadingMemory;
  /** The iterators that hosts hold. */
  readonly streams = new EntryStreams();
  /** Set once, before anything is read. */
  damage!: Damage;
  readonly #indexes: SegmentIndexes;
  readonly #entries: SegmentEntries;
  readonly #backwards: Backwards;
  readonly #byTime: ByTime;

  constructor(
    disk: Disk,
    dir: string,
    memory: NodeMemory,
    spaces: SpaceTable,
    segments: Segments,
    salt: number,
  ) {
    this.#memory = memory;
    this.#segments = segments;
    const open = new OpenSegments(disk, segments);
    const log = [disk, dir, memory, spaces, segments, salt, open] as const;
    this.#indexes = new SegmentIndexes(...log, () => this.damage);
    this.memory = new ReadingMemory(memory.memory.slabs.byteLength);
    this.#entries = new SegmentEntries(salt, memory, open, this.memory, () => this.damage);
    this.#live = new LiveRuns(this.memory);
    const [indexes, entries] = [this.#indexes, this.#entries];
    this.#byTime = new ByTime(memory, segments, indexes, entries);
    this.#backwards = new Backwards({
      ...{ memory, indexes, entries, reading: this.memory },
      checkReadable: (...what) => this.#checkReadable(...what),
    });
  }

  /** The index of a segment: from memory, its file, or by a scan. */
  indexOf(segment: Segment): Promise<SegmentIndex> {
    return this.#indexes.of(segment);
  }

  /** Where a reading of the space from `sequence` on may begin. */
  async locate(space: SpaceState, sequence: Sequence): Promise<Lsn | undefined> {
    const place = await this.#indexes.find(space, sequence);
    return place && lsnIn(place, sequence);
  }

  /**
   * From where on the log holds these entries: nothing of them stands between `lsn` and there.
   * Nothing asked for: the durable end.
   */
  async seek(
    lsn: Lsn,
    wanted: readonly (readonly [SpaceState | undefined, Sequence])[],
  ): Promise<Lsn> {
    let found = this.#memory.durableLsn;
    for (const [space, sequence] of wanted) {
      // Where one of them is not known, nothing may be passed over.
      found = Math.min(found, (space && (await this.locate(space, sequence))) ?? lsn);
    }
    return Math.max(lsn, found);
  }

  /**
   * For many spaces: the position at a sequence, and where the entry behind it stands. Spaces that
   * hold neither are absent from the answer.
   */
  async lookUp(wanted: readonly Wanted[]): Promise<Map<SpaceState, LookedUp>> {
    const found = new Map<SpaceState, LookedUp>();
    const left = wanted.filter(({ space, sequence }) => {
      const known = turnAt(space, sequence);
      if (known) found.set(space, known);
      return !known;
    });
    if (left.length > LOOK_UPS_AT_ONCE) {
      // One look at what a segment holds of all of them.
      for (const segment of [...this.#segments.list]) {
        if (this.#segments.list.includes(segment)) await this.#indexes.of(segment);
      }
    }
    let next = 0;
    const work = async (): Promise<void> => {
      while (next < left.length) {
        const { space, sequence } = left[next++]!;
        const answer = await this.#lookUp(space, sequence);
        if (answer) found.set(space, answer);
      }
    };
    await Promise.all(Array.from({ length: LOOK_UPS_AT_ONCE }, work));
    return found;
  }

  /** About how many bytes entries `from`..`to` take in the log: short ones of others count. */
  async bytesOf(space: SpaceState, from: Sequence, to: Sequence): Promise<number> {
    let bytes = 0;
    let behind: Segment | undefined;
    for (let next = from; next <= to; ) {
      const place = await this.#indexes.find(space, next, behind);
      if (!place) break;
      bytes += bytesIn(place.row, next, to);
      next = Math.max(next, place.row.last + 1);
      behind = place.segment;
    }
    return bytes;
  }

  async #lookUp(space: SpaceState, sequence: Sequence): Promise<LookedUp | undefined> {
    const facts: EntryFacts[] = [];
    if (sequence > 0) await this.#factsOf(space, sequence, sequence + 1, facts);
    const own = facts.find(({ position }) => position.sequence === sequence);
    // Its own entry may be freed or damaged, and what follows it retained.
    if (facts.length < 2) await this.#factsOf(space, sequence + 1, sequence + 1, facts);
    const next = facts.find(({ position }) => position.sequence === sequence + 1);
    if (!own && !next) return undefined;
    return { position: own?.position, next: next?.lsn, timestamp: next?.timestamp ?? 0n };
  }

  /** Facts of entries, as far as the log has them. */
  async #factsOf(
    space: SpaceState,
    from: Sequence,
    to: Sequence,
    facts: EntryFacts[],
  ): Promise<void> {
    const take = (_: Uint8Array, view: DataView, at: number, lsn: Lsn): EntryFacts => ({
      position: {
        epoch: readEpoch(view, at),
        sequence: readSequence(view, at),
        headerCrc: readHeaderCrc(view, at),
      },
      timestamp: readTimestamp(view, at),
      lsn,
    });
    const last = Math.min(to, this.#memory.durable(space.slot));
    let next = from;
    let behind: Segment | undefined;
    try {
      while (next <= last) {
        const place = await this.#indexes.find(space, next, behind);
        if (!place || !this.#segments.list.includes(place.segment)) return;
        for await (const piece of this.#entries.read(space, place, next, last, take)) {
          facts.push(...piece);
          next += piece.length;
        }
        behind = place.segment;
      }
    } catch (error) {
      if (!isOfDamage(error as EngramError)) throw error;
    }
  }

  /**
   * Durable entries `from`..`to` of a space, in pieces as they come from the disk; 0: from the
   * first retained one, whatever is freed before it is in somebody's hands.
   * Throws Trimmed for what was freed, Rewound when what was given out is void from now on,
   * CorruptionDetected where the log does not hold what it acknowledged.
   * @param signal ends it, soon and without an error
   * @param at where it stands; set back by who has not given out all of a piece
   */
  async *read(
    space: SpaceState,
    from: Sequence,
    to: Sequence,
    signal?: AbortSignal,
    at: Cursor = cursorAt(from),
  ): AsyncGenerator<Entry[], void, undefined> {
    const { facts, truth, slot } = space;
    if (at.mark < 0) at.mark = truth.mark;
    const copies = new EntryCopies();
    const take: Take<Entry> = (bytes, view, offset) => copies.take(bytes, view, offset);
    let begun = at.next > 0;
    at.next ||= facts.first;
    let last = Math.min(to, this.#memory.durable(slot));
    let place: Place | undefined;
    let behind: Segment | undefined;
    while (!signal?.aborted) {
      if (isAnotherLog(space, at)) {
        last = Math.min(to, this.#memory.durable(slot));
        place = undefined;
        behind = undefined;
      }
      if (!begun && at.next < facts.first) {
        at.next = facts.first;
        place = undefined;
      }
      if (at.next > last) return;
      this.#checkReadable(space, at.next);
      if (!place) {
        place = await this.#indexes.find(space, at.next, behind);
        // It may be that it was freed, or taken back, meanwhile.
        if (place || at.next < facts.first || truth.mark !== at.mark) continue;
        this.damage.check(space, at.next);
        throw failure('CorruptionDetected', `entry ${at.next} of ${facts.name} is not in the log`);
      }
      const { segment } = place;
      for await (const entries of this.#entries.read(space, place, at.next, last, take, signal)) {
        if (truth.mark !== at.mark) break;
        begun = true;
        const held = this.#give(entries, at);
        try {
          yield entries;
        } finally {
          this.memory.release(held);
        }
        if (truth.mark !== at.mark) break;
      }
      if (truth.mark !== at.mark) continue;
      behind = segment;
      place = undefined;
    }
  }

  /**
   * The same from the end, `to` down to `from`, in pieces of descending sequences. Throws so, too.
   * @param at where it stands: the entry that is given next
   */
  readBack(
    space: SpaceState,
    from: Sequence,
    to: Sequence,
    signal: AbortSignal,
    at: Cursor,
  ): AsyncGenerator<Entry[], void, undefined> {
    return this.#backwards.read(space, from, to, signal, at);
  }

  /** See ByTime. */
  atTime(space: SpaceState, time: bigint): Promise<Sequence> {
    return this.#byTime.find(space, time);
  }

  /** In somebody's hands until it is released. */
  #give(entries: Entry[], at: Cursor): number {
    at.next = entries[entries.length - 1]!.sequence + 1;
    return this.memory.hold(entries);
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

  /**
   * Durable entries from `from` on (0: from the first retained one), without end: history from the
   * log, then live, in pieces. Ends when the signal is aborted. Throws Rewound when what was given
   * out is void from now on; what is void and was not given out yet never is.
   * @param at as for `read`
   */
  async *follow(
    space: SpaceState,
    from: Sequence,
    signal: AbortSignal,
    at: Cursor = cursorAt(from),
  ): AsyncGenerator<Entry[], void, undefined> {
    const follower = this.#live.follow(space);
    if (at.mark < 0) at.mark = space.truth.mark;
    try {
      while (!signal.aborted) {
        isAnotherLog(space, at);
        const live = follower.take(at.next, this.memory.pieceBytes);
        if (live) {
          const held = this.#give(live, at);
          try {
            yield live;
          } finally {
            this.memory.release(held);
          }
        } else if ((at.next || space.facts.first) <= this.#memory.durable(space.slot)) {
          yield* this.read(space, at.next, Number.MAX_SAFE_INTEGER, signal, at);
        } else {
          at.next ||= space.facts.first;
          await follower.wait(signal);
        }
      }
    } finally {
      follower.close();
    }
  }
}

/**
 * What is asked for once a space is led anew is remembered: of thousands each would be read. Not
 * where the log may hold something else by now, or where nobody knows the entry before.
 */
function turnAt({ turn, truth, facts }: SpaceState, sequence: Sequence): LookedUp | undefined {
  if (turn?.before.sequence !== sequence || turn.mark !== truth.mark) return undefined;
  if (facts.damage.length > 0 || sequence + 1 < facts.first) return undefined;
  const { before, lsn: next, timestamp } = turn;
  if (sequence === 0) return { position: undefined, next, timestamp };
  return before.headerCrc === 0 ? undefined : { position: before, next, timestamp };
}

/**
 * Whether the log is another one since the cursor's mark. Throws Rewound where what was taken back
 * stands before the cursor.
 */
function isAnotherLog(space: SpaceState, at: Cursor): boolean {
  const { truth } = space;
  if (truth.mark === at.mark) return false;
  const first = truth.voidSince(at.mark);
  if (at.next > first) throw rewoundError(space, first);
  at.mark = truth.mark;
  return true;
}

function lsnIn({ row }: Place, sequence: Sequence): Lsn | undefined {
  return row.stretches[stretchOf(row.stretches, sequence) + 1];
}

/** Bytes of the stretches of a row from one entry to another; of a part by its entries. */
function bytesIn({ stretches, last }: Place['row'], from: Sequence, to: Sequence): number {
  let bytes = 0;
  for (let at = 0; at < stretches.length; at += 3) {
    const first = stretches[at]!;
    const end = (stretches[at + 3] ?? last + 1) - 1;
    const lacks = Math.min(end, to) - Math.max(first, from) + 1;
    if (lacks > 0) bytes += Math.round((stretches[at + 2]! * lacks) / (end - first + 1));
  }
  return bytes;
}
