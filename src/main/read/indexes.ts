/** What each segment holds of which space: from memory, from the files of indexes, or by a scan. */

import { ENTRY_HEADER_BYTES, LOOK_UPS_AT_ONCE } from '../../shared/limits.js';
import { readPayloadSize, readSequence, readSpaceId } from '../../shared/log/entry.js';
import { isVoided } from '../../shared/log/rewind.js';
import { SegmentIndex } from '../../shared/log/segment-index.js';
import type { NodeMemory } from '../../shared/memory/slab.js';
import type { Lsn, Sequence, Slot } from '../../shared/position.js';
import type { SpaceState, SpaceTable } from '../log/space-table.js';
import type { Disk } from '../segments/disk.js';
import { readIndex, readRow, type SpaceRow } from '../segments/index-file.js';
import type { OpenSegments } from '../segments/open-segments.js';
import type { Segment, Segments } from '../segments/segments.js';
import { walkAround } from '../segments/walk.js';
import type { Damage } from './damage.js';

/** Where entries of a space are. */
export interface Place {
  readonly segment: Segment;
  readonly row: SpaceRow;
}

export class SegmentIndexes {
  readonly #disk: Disk;
  readonly #dir: string;
  readonly #salt: number;
  readonly #memory: NodeMemory;
  readonly #spaces: SpaceTable;
  readonly #segments: Segments;
  readonly #open: OpenSegments;
  readonly #damage: () => Damage;
  #lookUps = 0;
  readonly #waiting: (() => void)[] = [];
  readonly #indexing = new Map<Segment, Promise<SegmentIndex>>();

  constructor(
    disk: Disk,
    dir: string,
    memory: NodeMemory,
    spaces: SpaceTable,
    segments: Segments,
    salt: number,
    open: OpenSegments,
    damage: () => Damage,
  ) {
    this.#disk = disk;
    this.#dir = dir;
    this.#salt = salt;
    this.#memory = memory;
    this.#spaces = spaces;
    this.#segments = segments;
    this.#open = open;
    this.#damage = damage;
  }

  /** What a segment holds of every space. */
  async of(segment: Segment): Promise<SegmentIndex> {
    return segment.index ?? (await this.#once(segment, () => this.#load(segment)));
  }

  /** One load or scan of a segment, however many ask for it. */
  async #once(segment: Segment, load: () => Promise<SegmentIndex>): Promise<SegmentIndex> {
    let loading = this.#indexing.get(segment);
    if (!loading) {
      loading = load().finally(() => this.#indexing.delete(segment));
      this.#indexing.set(segment, loading);
    }
    return await loading;
  }

  async #load(segment: Segment): Promise<SegmentIndex> {
    const slotOf = (id: string): Slot | undefined => this.#spaces.byId(id)?.slot;
    const { start, end } = segment;
    const stored =
      end === undefined ? undefined : await readIndex(this.#disk, this.#dir, start, end, slotOf);
    if (!stored) return await this.#build(segment);
    for (const slot of stored.slots) {
      const last = stored.last(slot)!;
      const valid = validLast(this.#spaces.bySlot[slot]!, last, end!);
      if (valid < last) stored.rewind(slot, valid + 1);
    }
    segment.isIndexStored = true;
    segment.index = stored;
    return stored;
  }

  async #build(segment: Segment): Promise<SegmentIndex> {
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
          bad ||= this.#damage().at(start) === undefined;
        },
      );
    });
    // Which entries are lost takes the other indexes: not to be waited for in here.
    if (bad)
      void this.#damage()
        .examine(segment)
        .catch(() => undefined);
    segment.isIndexStored = false;
    segment.index = index;
    return index;
  }

  /** What a segment holds of one space, looked up alone where not more is known yet. */
  async row(segment: Segment, space: SpaceState): Promise<SpaceRow | undefined> {
    const { slot, facts } = space;
    const { start, end, index } = segment;
    if (index && index.last(slot) === undefined) return undefined;
    if (index && !index.isSettled) return rowOf(index, slot);
    // One that is written has its index from the beginning on.
    const found = end === undefined ? undefined : await this.#read(start, end, facts.id);
    if (found === 'none') return undefined;
    if (found) {
      const last = validLast(space, found.last, end!);
      return last < found.first ? undefined : { ...found, last };
    }
    return rowOf(await this.#once(segment, () => this.#build(segment)), slot);
  }

  /** Thousands of spaces may ask at once; each look-up has a file open. */
  async #read(start: Lsn, end: Lsn, id: string): Promise<SpaceRow | 'none' | undefined> {
    if (this.#lookUps < LOOK_UPS_AT_ONCE) this.#lookUps++;
    else await new Promise<void>((resolve) => this.#waiting.push(resolve));
    try {
      return await readRow(this.#disk, this.#dir, start, end, id);
    } finally {
      const next = this.#waiting.shift();
      if (next) next();
      else this.#lookUps--;
    }
  }

  /**
   * Where a reading of the space from `sequence` on may begin: the newest segment that holds
   * entries of it up to there, or the first one behind `behind` that holds any from there on.
   * @param upTo none behind this one is asked: the entry is not there
   */
  async find(
    space: SpaceState,
    sequence: Sequence,
    behind?: Segment,
    upTo?: Segment,
  ): Promise<Place | undefined> {
    const { list } = this.#segments;
    let at = behind ? behind.start : upTo ? upTo.start + 1 : Number.POSITIVE_INFINITY;
    for (;;) {
      // The list may change while one is looked up.
      const segment = behind
        ? list.find((other) => other.start > at)
        : list.findLast((other) => other.start < at);
      if (!segment) return undefined;
      at = segment.start;
      const row = await this.row(segment, space).catch((error) => {
        if (list.includes(segment)) throw error;
        return undefined;
      });
      if (!row || !list.includes(segment)) continue;
      if (behind ? row.last >= sequence : row.first <= sequence) return { segment, row };
    }
  }
}

function rowOf(index: SegmentIndex, slot: Slot): SpaceRow | undefined {
  const last = index.last(slot);
  if (last === undefined) return undefined;
  return { first: index.first(slot)!, last, stretches: index.stretches(slot) };
}

/** An index may be older than a rewind: up to where its entries count. */
function validLast({ facts }: SpaceState, last: Sequence, end: Lsn): Sequence {
  let valid = last;
  for (const { lsn, first } of facts.voided) if (lsn >= end) valid = Math.min(valid, first - 1);
  return valid;
}
