/** What a space has again once a segment of the log is whole: its damaged ranges, its position. */

import type { DamagedRange, SpaceFacts } from '../../shared/log/space-facts.js';
import { trimHistory } from '../../shared/log/space-facts.js';
import { rowsUpTo } from '../../shared/members/members.js';
import { withRows } from '../../shared/members/rows.js';
import type { NodeMemory } from '../../shared/memory/slab.js';
import type { Epoch, Sequence } from '../../shared/position.js';
import { type SpaceState, wakeDurableWaits } from '../log/space-table.js';
import { gapsIn } from '../read/damage.js';
import type { SeenSpace } from './segment-survey.js';

/**
 * Takes over what the segment holds of the space.
 * @param isWhole no bad place is left from this range's first bad byte on
 * @returns whether the space has more entries at its end than it knew of
 */
export function takeRestored(
  space: SpaceState,
  seen: SeenSpace,
  memory: NodeMemory,
  isWhole: (range: DamagedRange) => boolean,
): boolean {
  const { facts } = space;
  const isOpen = facts.damage.some((d) => !d.accepted && d.to === 0 && d.doubt !== 'record');
  const isLonger = isOpen && seen.end !== undefined;
  for (const [epoch, sequence] of seen.epochs) beginEpoch(facts, epoch, sequence, space.primaryId);
  space.lookAt();
  if (isOpen && seen.end) advance(space, seen.end, memory);
  facts.sets = withRows(facts.sets, rowsUpTo(seen.sets, facts.position.sequence));
  facts.damage = facts.damage.flatMap((range) => {
    if (range.accepted) return [range];
    const last = range.to === 0 ? facts.position.sequence : range.to;
    const gaps = gapsIn(range.from, last, within(seen.runs, range.from, last));
    const left = gaps.map(([from, to]) => ({ ...range, from, to }));
    if (range.to !== 0) return left;
    if (range.doubt !== 'record' && isWhole(range)) return left;
    // Its end is still not known: one range, from the first that is missing.
    return [{ ...range, from: left[0]?.from ?? last + 1 }];
  });
  return isLonger;
}

function within(runs: readonly Sequence[], from: Sequence, to: Sequence): Sequence[] {
  const found: Sequence[] = [];
  for (let i = 0; i < runs.length; i += 2) {
    const first = Math.max(runs[i]!, from);
    const last = Math.min(runs[i + 1]!, to);
    if (first <= last) found.push(first, last);
  }
  return found;
}

/** An epoch of which entries were lost may have begun before the first one that was known. */
function beginEpoch(facts: SpaceFacts, epoch: Epoch, sequence: Sequence, primaryId: string): void {
  const at = facts.history.findIndex((h) => h.epoch >= epoch);
  const known = facts.history[at];
  if (known?.epoch === epoch) {
    const startSequence = Math.min(known.startSequence, sequence);
    facts.history[at] = { ...known, startSequence };
  } else if (sequence > facts.first) {
    const row = { epoch, startSequence: sequence, primaryNodeId: primaryId };
    facts.history.splice(at < 0 ? facts.history.length : at, 0, row);
    trimHistory(facts.history);
  }
}

function advance(space: SpaceState, end: NonNullable<SeenSpace['end']>, memory: NodeMemory): void {
  const { facts, slot } = space;
  const before = facts.position.sequence;
  const { sequence } = end.position;
  facts.position = end.position;
  facts.timestamp = end.timestamp;
  memory.setAllocated(slot, sequence);
  memory.setDurable(slot, sequence);
  for (const consumer of space.consumers) consumer.run(undefined, before + 1, sequence - before);
  wakeDurableWaits(space, sequence);
}
