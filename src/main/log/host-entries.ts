/**
 * Which entries of a space a host has written: all but those of the library, the first one of each
 * epoch after the first (type 5) and those that say who counts (type 7). The facts know where these
 * stand, and what is staged is noted: no append of a host pays for it, and nothing is read. Where
 * the facts have forgotten one (thousands of epochs, or dozens of changes of members, without an
 * entry of a host between) it counts as a host's.
 */
import type { SpaceFacts } from '../../shared/log/space-facts.js';
import type { NodeMemory } from '../../shared/memory/slab.js';
import type { Epoch, Sequence } from '../../shared/position.js';
import type { SpaceState } from './space-table.js';

/** Up to where a host knows the space. */
export interface Expected {
  /** 0: it has no entry. */
  readonly sequence: Sequence;
  /** Of the entry there; undefined: whatever it is. */
  readonly epoch?: Epoch | undefined;
}

/** The last entry of a host, where that is not the one that was expected; 0: there is none. */
export interface Conflict {
  readonly last: Sequence;
  readonly epoch: Epoch;
}

/** The last durable entry of a host up to `end`; 0: there is none. */
export function lastHostSequence({ history, sets }: SpaceFacts, end: Sequence): Sequence {
  let last = end;
  let begun = history.length - 1;
  let set = sets.length - 1;
  while (last > 0) {
    while (begun >= 0 && history[begun]!.startSequence > last) begun--;
    while (set >= 0 && sets[set]!.sequence > last) set--;
    const begins = begun >= 0 && history[begun]!.startSequence === last;
    const isOwn = (begins && history[begun]!.epoch > 1) || sets[set]?.sequence === last;
    if (!isOwn) return last;
    last--;
  }
  return 0;
}

/** The same with what is staged and not durable yet. */
function lastStaged({ facts, stagedOwn }: SpaceState, end: Sequence, durable: Sequence): Sequence {
  let last = end;
  while (last > durable && stagedOwn.includes(last)) last--;
  return last > durable ? last : lastHostSequence(facts, last);
}

/** The epoch of an entry; undefined where nobody knows it any more. */
export function epochAt(
  { facts }: SpaceState,
  sequence: Sequence,
  durable: Sequence,
): Epoch | undefined {
  if (sequence > durable) return facts.epoch;
  return facts.history.findLast((row) => row.startSequence <= sequence)?.epoch;
}

/** What a host that expects this has not seen, staged entries too; undefined: nothing. */
export function conflictWith(
  space: SpaceState,
  memory: NodeMemory,
  { sequence, epoch }: Expected,
): Conflict | undefined {
  const durable = memory.durable(space.slot);
  const end = memory.allocated(space.slot);
  const last = lastStaged(space, end, durable);
  const isLast = last <= sequence && sequence <= end;
  // 0 where it is not known any more: what a conflict names is taken as `expected`, always.
  const epochOf = (at: Sequence): Epoch => (at === 0 ? 0 : (epochAt(space, at, durable) ?? 0));
  const isIts = epoch === undefined || sequence === 0 || epochOf(sequence) === epoch;
  if (isLast && isIts) return undefined;
  return { last, epoch: epochOf(last) };
}
