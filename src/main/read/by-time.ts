/**
 * Where in a space a time begins. Timestamps never go back within a space, so a few entries tell:
 * the first of some segments, then of some stretches of one of them.
 */
import { type Entry, readSequence, readTimestamp } from '../../shared/log/entry.js';
import type { NodeMemory } from '../../shared/memory/slab.js';
import type { Sequence } from '../../shared/position.js';
import type { SpaceState } from '../log/space-table.js';
import type { Segment, Segments } from '../segments/segments.js';
import { isOfDamage } from './damage.js';
import type { Place, SegmentIndexes } from './indexes.js';
import type { SegmentEntries, Take } from './segment-entries.js';

type Stamp = Pick<Entry, 'sequence' | 'timestamp'>;

const takeStamp: Take<Stamp> = (_, view, at) => ({
  sequence: readSequence(view, at),
  timestamp: readTimestamp(view, at),
});

export class ByTime {
  readonly #memory: NodeMemory;
  readonly #segments: Segments;
  readonly #indexes: SegmentIndexes;
  readonly #entries: SegmentEntries;

  constructor(
    memory: NodeMemory,
    segments: Segments,
    indexes: SegmentIndexes,
    entries: SegmentEntries,
  ) {
    this.#memory = memory;
    this.#segments = segments;
    this.#indexes = indexes;
    this.#entries = entries;
  }

  /**
   * The first durable entry that is retained and was written at `time` or later; where there is
   * none, the sequence behind the last one. Throws CorruptionDetected, Repairing, Io.
   */
  async find(space: SpaceState, time: bigint): Promise<Sequence> {
    for (;;) {
      const { mark } = space.truth;
      const found = await this.#find(space, time);
      // What was taken back meanwhile may be what was found.
      if (space.truth.mark === mark) return Math.max(found, space.facts.first);
    }
  }

  async #find(space: SpaceState, time: bigint): Promise<Sequence> {
    const { facts, slot } = space;
    let behind = this.#memory.durable(slot) + 1;
    if (facts.timestamp < time) return behind;
    const list = [...this.#segments.list];
    let before: Place | undefined;
    let low = -1;
    let high = list.length;
    while (high - low > 1) {
      const middle = (low + high) >> 1;
      let at = middle;
      let head = await this.#head(space, list[at]!);
      // Most segments may hold nothing of a space.
      while (!head && --at > low) head = await this.#head(space, list[at]!);
      if (head && head.timestamp >= time) {
        behind = head.sequence;
        high = at;
      } else {
        before = head?.place ?? before;
        low = middle;
      }
    }
    return (before && (await this.#within(space, before, time, behind))) ?? behind;
  }

  /** The first entry of the space in a segment; undefined: none that can be read. */
  async #head(
    space: SpaceState,
    segment: Segment,
  ): Promise<(Stamp & { readonly place: Place }) | undefined> {
    const { list } = this.#segments;
    if (!list.includes(segment)) return undefined;
    const row = await this.#indexes.row(segment, space).catch((error) => {
      // It was freed meanwhile.
      if (list.includes(segment)) throw error;
      return undefined;
    });
    if (!row || !list.includes(segment)) return undefined;
    const place = { segment, row };
    const stamp = await this.#stampOf(space, place, row.first);
    return stamp && { ...stamp, place };
  }

  async #stampOf(space: SpaceState, place: Place, sequence: Sequence): Promise<Stamp | undefined> {
    try {
      for await (const [stamp] of this.#entries.read(space, place, sequence, sequence, takeStamp)) {
        return stamp;
      }
    } catch (error) {
      if (!isOfDamage(error as Parameters<typeof isOfDamage>[0])) throw error;
    }
    return undefined;
  }

  /** @param behind the first entry known to be of that time or later */
  async #within(
    space: SpaceState,
    place: Place,
    time: bigint,
    behind: Sequence,
  ): Promise<Sequence | undefined> {
    const { stretches } = place.row;
    let low = 0;
    let high = stretches.length / 3;
    let last = behind - 1;
    while (high - low > 1) {
      const middle = (low + high) >> 1;
      const stamp = await this.#stampOf(space, place, stretches[3 * middle]!);
      if (!stamp) break;
      if (stamp.timestamp < time) low = middle;
      else {
        high = middle;
        last = stamp.sequence - 1;
      }
    }
    const from = stretches[3 * low]!;
    for await (const stamps of this.#entries.read(space, place, from, last, takeStamp)) {
      const found = stamps.find(({ timestamp }) => timestamp >= time);
      if (found) return found.sequence;
    }
    return last + 1;
  }
}
