/**
 * What must be retained: which entries of a space somebody still needs, and which segments may
 * go. Pure; main/log/retention/retention.ts carries out.
 */
import type { Lsn, Sequence, Slot } from '../position.js';
import type { SegmentIndex } from './segment-index.js';
import type { SlotFacts } from './space-facts.js';

export interface SpaceNeeds {
  /** The host needs nothing below; 0: everything. */
  readonly checkpoint: Sequence;
  /** On a replica with an apply callback: what it has returned for; else undefined. */
  readonly applied: Sequence | undefined;
  readonly slots: Iterable<SlotFacts>;
  /** What stands before it in the log is void, or was given up already. */
  readonly first: Sequence;
}

/** Entries below it are of no use to this host. */
export function hostFloor(needs: SpaceNeeds): Sequence {
  const { checkpoint, applied, first } = needs;
  const needed = applied === undefined ? checkpoint : Math.min(checkpoint, applied + 1);
  return Math.max(first, needed);
}

/**
 * Entries below it are of no use to anybody. A slot keeps its position's own entry: the verdict
 * compares header_crc (DESIGN 8).
 */
export function floorOf(needs: SpaceNeeds): Sequence {
  let floor = hostFloor(needs);
  for (const slot of needs.slots) if (!slot.lost) floor = Math.min(floor, slot.flushed);
  return Math.max(needs.first, floor);
}

/** How many more spaces may be looked at before others have their turn. */
export interface Effort {
  spaces: number;
}

/**
 * Finds a space that needs a segment. One that does is as good as any: it is remembered, and only
 * once it needs the segment no more the next one is looked for, behind those that were passed
 * before. So each space of a segment is looked at about once, however often is asked.
 */
export class KeeperSearch {
  keeper: Slot | undefined;
  #index: SegmentIndex | undefined;
  #rest: Iterator<Slot> = [].values();

  /**
   * @param index of the segment: sealed, or as it was at the last call
   * @param floor the first sequence that a space needs; what has fallen behind the search since is
   *   not seen: see `isNeeded`
   * @returns `unknown`: the effort is used up; the next call goes on
   */
  look(
    index: SegmentIndex,
    floor: (slot: Slot) => Sequence,
    effort: Effort,
  ): 'kept' | 'passed' | 'unknown' {
    if (index !== this.#index) this.restart(index);
    effort.spaces--;
    if (this.keeper !== undefined && keeps(index, this.keeper, floor)) return 'kept';
    this.keeper = undefined;
    while (effort.spaces > 0) {
      const { value: slot, done } = this.#rest.next();
      if (done) return 'passed';
      effort.spaces--;
      if (!keeps(index, slot, floor)) continue;
      this.keeper = slot;
      return 'kept';
    }
    return 'unknown';
  }

  /** Begins with the first space again: a floor may have fallen. */
  restart(index: SegmentIndex): void {
    this.#index = index;
    this.#rest = index.slots;
  }
}

/** Whether any space needs the segment, by looking at all of them: what frees one must ask. */
export function isNeeded(index: SegmentIndex, floor: (slot: Slot) => Sequence): boolean {
  for (const slot of index.slots) if (keeps(index, slot, floor)) return true;
  return false;
}

function keeps(index: SegmentIndex, slot: Slot, floor: (slot: Slot) => Sequence): boolean {
  return slot !== 0 && (index.last(slot) ?? 0) >= floor(slot);
}

/** A slot that holds bytes farther behind than this is lost (row 54). */
export function isPastBound(oldest: Lsn, durable: Lsn, maxSlotBytes: number): boolean {
  return durable - oldest > maxSlotBytes;
}

/**
 * How safe what a slot needs is: `reserved` within half of its bound, `extended` beyond it,
 * `unreserved` past the bound until the next pass makes it `lost`.
 */
export type SlotState = 'reserved' | 'extended' | 'unreserved' | 'lost';
