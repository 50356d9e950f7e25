/**
 * For one segment: where each space's entries begin, and at least every 256 KiB of a space's own
 * entries where the next ones stand. For reading only; the log is the truth.
 */
import { INDEX_EVERY_BYTES } from './limits.js';
import type { Lsn, Sequence, Slot } from './position.js';

interface SpacePoints {
  /** Sequence and LSN, in turn, ascending. */
  readonly points: number[];
  last: Sequence;
  bytesSincePoint: number;
}

export class SegmentIndex {
  readonly #spaces = new Map<Slot, SpacePoints>();

  /** Takes a run of entries of one space, in the order of the log. */
  add(slot: Slot, first: Sequence, count: number, lsn: Lsn, bytes: number): void {
    let space = this.#spaces.get(slot);
    if (!space) {
      space = { points: [], last: 0, bytesSincePoint: INDEX_EVERY_BYTES };
      this.#spaces.set(slot, space);
    }
    if (space.bytesSincePoint >= INDEX_EVERY_BYTES) {
      space.points.push(first, lsn);
      space.bytesSincePoint = 0;
    }
    space.last = first + count - 1;
    space.bytesSincePoint += bytes;
  }

  first(slot: Slot): Sequence | undefined {
    return this.#spaces.get(slot)?.points[0];
  }

  last(slot: Slot): Sequence | undefined {
    return this.#spaces.get(slot)?.last;
  }

  /** The nearest known LSN at or before `sequence`; undefined when the space begins behind it. */
  find(slot: Slot, sequence: Sequence): Lsn | undefined {
    const points = this.#spaces.get(slot)?.points;
    if (!points || points[0]! > sequence) return undefined;
    let low = 0;
    let high = points.length / 2 - 1;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (points[2 * middle]! <= sequence) low = middle;
      else high = middle - 1;
    }
    return points[2 * low + 1];
  }
}
