/**
 * Reading a space from its end: the newest entries first, a stretch of the log at a time, and of a
 * long one as much as readers have memory for.
 */
import { type EngramError, failure } from '../../shared/errors.js';
import type { Entry } from '../../shared/log/entry.js';
import { EntryCopies, entriesBytes } from '../../shared/log/entry-copies.js';
import { stretchOf } from '../../shared/log/segment-index.js';
import type { SpaceFacts } from '../../shared/log/space-facts.js';
import type { Cursor } from '../../shared/log/truth.js';
import type { NodeMemory } from '../../shared/memory/slab.js';
import type { Sequence } from '../../shared/position.js';
import { rewoundError, type SpaceState } from '../log/space-table.js';
import type { Segment } from '../segments/segments.js';
import { isOfDamage } from './damage.js';
import type { Place, SegmentIndexes } from './indexes.js';
import type { ReadingMemory } from './memory.js';
import type { SegmentEntries, Take } from './segment-entries.js';

/** What is read, and who says whether it can be. */
export interface BackwardsParts {
  readonly memory: NodeMemory;
  readonly indexes: SegmentIndexes;
  readonly entries: SegmentEntries;
  readonly reading: ReadingMemory;
  /** Throws Trimmed, and what damage throws. */
  checkReadable(space: SpaceState, sequence: Sequence): void;
}

export class Backwards {
  readonly #parts: BackwardsParts;

  constructor(parts: BackwardsParts) {
    this.#parts = parts;
  }

  /**
   * Durable entries `to` down to `from`, in pieces of descending sequences; 0: down to the first
   * retained one. Throws as `LogReader.read` does.
   * @param at where it stands: the entry that is given next; set back by who has not given out all
   */
  async *read(
    space: SpaceState,
    from: Sequence,
    to: Sequence,
    signal: AbortSignal,
    at: Cursor,
  ): AsyncGenerator<Entry[], void, undefined> {
    const { memory, indexes, reading, checkReadable } = this.#parts;
    const { facts, truth, slot } = space;
    let top = 0;
    let near: Segment | undefined;
    while (!signal.aborted) {
      if (truth.mark !== at.mark || top === 0) {
        const first = at.mark < 0 ? Number.POSITIVE_INFINITY : truth.voidSince(at.mark);
        if (at.next < top && first <= top) throw rewoundError(space, first);
        if (at.next >= top) {
          // Nothing was given out yet: the end is where it is now.
          top = Math.min(to, memory.durable(slot));
          at.next = top;
        }
        at.mark = truth.mark;
        near = undefined;
      }
      if (at.next < Math.max(1, from) || (from === 0 && at.next < facts.first)) return;
      checkReadable(space, at.next);
      const place = await indexes.find(space, at.next, undefined, near);
      if (truth.mark !== at.mark) continue;
      const piece = place && (await this.#piece(space, place, from, at.next, signal));
      if (truth.mark !== at.mark || signal.aborted) continue;
      if (!piece) {
        // A repair may have put it farther back in the log; or it was freed meanwhile.
        if (!near && at.next >= facts.first) throw missingError(space, at.next);
        near = undefined;
        continue;
      }
      near = place.segment;
      at.next = piece[piece.length - 1]!.sequence - 1;
      const held = reading.hold(piece);
      try {
        yield piece;
      } finally {
        reading.release(held);
      }
    }
  }

  /** The entries down from `last` that stand together; undefined: they are not there. */
  async #piece(
    space: SpaceState,
    place: Place,
    from: Sequence,
    last: Sequence,
    signal: AbortSignal,
  ): Promise<Entry[] | undefined> {
    const { facts } = space;
    const { stretches } = place.row;
    const which = Math.max(0, stretchOf(stretches, last));
    const begin = stretches[which]!;
    // What stands behind it was given out already.
    const row = { ...place.row, stretches: stretches.slice(which, which + 3) };
    const alone = { ...place, row };
    for (;;) {
      const first = Math.max(begin, from, facts.first, readableFrom(facts, last));
      try {
        const entries = await this.#newest(space, alone, first, last, signal);
        return entries.at(-1)?.sequence === last ? entries.reverse() : undefined;
      } catch (error) {
        // Some below it are damaged, which is known from now on.
        if (!isOfDamage(error as EngramError) || readableFrom(facts, last) <= first) throw error;
      }
    }
  }

  /** Of a stretch that is too long for the memory of readers: its end. */
  async #newest(
    space: SpaceState,
    place: Place,
    first: Sequence,
    last: Sequence,
    signal: AbortSignal,
  ): Promise<Entry[]> {
    const { reading, entries } = this.#parts;
    const copies = new EntryCopies();
    const take: Take<Entry> = (bytes, view, offset) => copies.take(bytes, view, offset);
    const most = reading.pieceBytes;
    let kept: Entry[] = [];
    let bytes = 0;
    for await (const found of entries.read(space, place, first, last, take, signal)) {
      kept.push(...found);
      bytes += entriesBytes(found);
      let spare = 0;
      while (bytes > most && spare < kept.length - 1) bytes -= entriesBytes([kept[spare++]!]);
      kept = kept.slice(spare);
    }
    return kept;
  }
}

/** The entries from here to `last` are not known to be damaged. */
function readableFrom({ damage }: SpaceFacts, last: Sequence): Sequence {
  return Math.max(1, ...damage.map(({ to }) => (to !== 0 && to < last ? to + 1 : 1)));
}

function missingError({ facts }: SpaceState, sequence: Sequence): EngramError {
  return failure('CorruptionDetected', `entry ${sequence} of ${facts.name} is not in the log`);
}
