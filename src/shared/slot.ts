/**
 * What must be retained: which entries of a space somebody still needs, and which segments may
 * go. Pure; main/retention.ts carries out.
 */
import type { Lsn, Sequence, Slot } from './position.js';
import type { SegmentIndex } from './segment-index.js';
import type { SlotFacts } from './state.js';

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

/** The first space found that still needs a segment; undefined: it may go. */
export function keeperOf(
  index: SegmentIndex,
  floor: (slot: Slot) => Sequence,
  lastKeeper: Slot | undefined,
): Slot | undefined {
  const keeps = (slot: Slot): boolean => (index.last(slot) ?? 0) >= floor(slot);
  // Who kept it a moment ago most likely still does.
  if (lastKeeper !== undefined && keeps(lastKeeper)) return lastKeeper;
  for (const slot of index.slots) if (slot !== 0 && keeps(slot)) return slot;
  return undefined;
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

/** @param heldBytes of the log, from the first segment that the slot needs to the durable end */
export function slotStateOf(isLost: boolean, heldBytes: number, maxSlotBytes: number): SlotState {
  if (isLost) return 'lost';
  if (heldBytes > maxSlotBytes) return 'unreserved';
  return heldBytes > maxSlotBytes / 2 ? 'extended' : 'reserved';
}
