/**
 * What of each space stands farther back in the log than so many bytes: looked at once for each
 * segment that comes to lie there, not for each space that somebody asks about.
 */

import type { SegmentIndex } from '../../../shared/log/segment-index.js';
import { isPastBound } from '../../../shared/log/slot.js';
import type { Lsn, Sequence, Slot } from '../../../shared/position.js';
import type { Turns } from '../../runtime/turns.js';
import type { Segment, Segments } from '../../segments/segments.js';
import type { SpaceState } from '../space-table.js';

interface LastThere {
  readonly last: Sequence;
  /** Of the space, when this was found: a rewind takes entries back. -1: it is to be found anew. */
  readonly mark: number;
}

export class FarBack {
  readonly #bytes: number;
  readonly #segments: Segments;
  readonly #lasts = new Map<SpaceState, LastThere>();
  /** Those that were looked at. */
  readonly #seen = new WeakSet<Segment>();
  /** No segment from here on was looked at. */
  #edge: Lsn = 0;

  /** @param bytes how far back is far */
  constructor(bytes: number, segments: Segments) {
    this.#bytes = bytes;
    this.#segments = segments;
  }

  /**
   * Takes in what has come to lie far back of these sealed segments, ascending.
   * @param found gets each space that has entries in one of them
   */
  async advance(
    sealed: readonly Segment[],
    durable: Lsn,
    turns: Turns,
    indexOf: (segment: Segment) => Promise<SegmentIndex>,
    spaceOf: (slot: Slot) => SpaceState,
    found?: (space: SpaceState) => void,
  ): Promise<void> {
    for (const segment of sealed) {
      if (!isPastBound(segment.start, durable, this.#bytes)) return;
      if (this.#seen.has(segment)) continue;
      const index = await indexOf(segment);
      for (const slot of index.slots) {
        turns.spaces--;
        if (slot === 0) continue;
        const space = spaceOf(slot);
        const last = Math.max(this.last(space), index.last(slot)!);
        this.#lasts.set(space, { last, mark: space.truth.mark });
        found?.(space);
      }
      this.#seen.add(segment);
      this.#edge = Math.max(this.#edge, segment.start + segment.size);
      if (turns.isOver) await turns.next();
    }
  }

  /** The last entry of the space that stands far back; 0: none that is retained. */
  last(space: SpaceState): Sequence {
    const known = this.#lasts.get(space);
    if (!known) return 0;
    return known.mark === space.truth.mark ? known.last : this.#lookAgain(space);
  }

  #lookAgain(space: SpaceState): Sequence {
    let last = 0;
    for (const segment of this.#segments.list) {
      if (this.#seen.has(segment)) last = Math.max(last, segment.index?.last(space.slot) ?? 0);
    }
    this.#lasts.set(space, { last, mark: space.truth.mark });
    return last;
  }

  /** A segment is freed: what was last there of a space may have been the last far back. */
  freed(space: SpaceState, last: Sequence): void {
    const known = this.#lasts.get(space);
    if (known?.last === last) this.#lasts.set(space, { last, mark: -1 });
  }

  /** Whether entries of the space behind `sequence` stand far back, as of this moment. */
  has(space: SpaceState, sequence: Sequence, durable: Lsn): boolean {
    const { list } = this.#segments;
    // As a rule nothing lies so far back.
    if (!isPastBound(list[0]!.start, durable, this.#bytes)) return false;
    if (this.last(space) > sequence) return true;
    for (let i = this.#firstUnseen(); i < list.length; i++) {
      const { start, index } = list[i]!;
      if (!isPastBound(start, durable, this.#bytes)) return false;
      if ((index?.last(space.slot) ?? 0) > sequence) return true;
    }
    return false;
  }

  /** Index of the first segment from the edge on, found by halving. */
  #firstUnseen(): number {
    const { list } = this.#segments;
    let low = 0;
    let high = list.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (list[middle]!.start >= this.#edge) high = middle;
      else low = middle + 1;
    }
    return low;
  }
}
