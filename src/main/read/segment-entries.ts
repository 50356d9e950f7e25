/** What one segment holds of a space: read window by window, around bad places. */
import { failure } from '../../shared/errors.js';
import { ENTRY_HEADER_BYTES, INDEX_GAP_BYTES, READ_LEAST_BYTES } from '../../shared/limits.js';
import { readPayloadSize, readSequence, readSpaceIdWord } from '../../shared/log/entry.js';
import { isVoided } from '../../shared/log/rewind.js';
import { type Found, look } from '../../shared/log/segment.js';
import { type Stretches, stretchOf } from '../../shared/log/segment-index.js';
import type { NodeMemory } from '../../shared/memory/slab.js';
import type { Lsn, Sequence } from '../../shared/position.js';
import type { SpaceState } from '../log/space-table.js';
import type { OpenSegments } from '../segments/open-segments.js';
import type { Segment } from '../segments/segments.js';
import type { Damage } from './damage.js';
import type { Place } from './indexes.js';
import type { ReadingMemory } from './memory.js';

/** Where a window stands in a segment, and what of a space is looked for in it. */
interface Part {
  readonly space: SpaceState;
  readonly lsn: Lsn;
  readonly end: Lsn;
  readonly segmentEnd: Lsn;
  readonly next: Sequence;
  readonly last: Sequence;
}

/** What a reading makes of an entry. */
export type Take<T> = (bytes: Uint8Array, view: DataView, at: number, lsn: Lsn) => T;

export class SegmentEntries {
  readonly #salt: number;
  readonly #memory: NodeMemory;
  readonly #open: OpenSegments;
  readonly #reading: ReadingMemory;
  readonly #damage: () => Damage;

  constructor(
    salt: number,
    memory: NodeMemory,
    open: OpenSegments,
    reading: ReadingMemory,
    damage: () => Damage,
  ) {
    this.#salt = salt;
    this.#memory = memory;
    this.#open = open;
    this.#reading = reading;
    this.#damage = damage;
  }

  /**
   * What `take` makes of the entries of a space in one segment. It is pinned in the turn of the
   * first `next()`.
   */
  async *read<T>(
    space: SpaceState,
    { segment, row }: Place,
    first: Sequence,
    last: Sequence,
    take: Take<T>,
    signal?: AbortSignal,
  ): AsyncGenerator<T[], void, undefined> {
    const file = await this.#open.enter(segment);
    const segmentEnd = segment.start + segment.size;
    const { stretches } = row;
    let at = Math.max(0, stretchOf(stretches, first));
    let lsn = 0;
    let next = first;
    let window = READ_LEAST_BYTES;
    try {
      while (!signal?.aborted && next <= last) {
        while (at < stretches.length && lsn >= stretches[at + 1]! + stretches[at + 2]!) at += 3;
        if (at >= stretches.length) return;
        lsn = Math.max(lsn, stretches[at + 1]!);
        const durable = segment.end ?? Math.min(this.#memory.durableLsn, segmentEnd);
        const end = Math.min(durable, reachOf(stretches, at));
        if (lsn >= end) return;
        const bytes = new Uint8Array(Math.min(window, end - lsn));
        const got = bytes.subarray(0, await file.read(bytes, lsn - segment.start));
        const part = { space, lsn, end, segmentEnd, next, last };
        const { found, read, state, needs } = this.#entriesIn(got, part, take);
        lsn += read;
        next += found.length;
        if (found.length > 0) yield found;
        if (next > last) return;
        const isStuck = read === 0 && (got.length < bytes.length || lsn + bytes.length >= end);
        const isBad = state === 'short' ? isStuck : state !== 'entry';
        if (isBad && lsn < end) {
          lsn = await this.#around(segment, lsn);
          this.#damage().check(space, next);
        } else {
          window = Math.max(needs, Math.min(2 * window, this.#reading.pieceBytes));
        }
      }
    } finally {
      await this.#open.leave(segment);
    }
  }

  /** What a window holds of a space from `next` on. */
  #entriesIn<T>(
    bytes: Uint8Array,
    part: Part,
    take: Take<T>,
  ): { found: T[]; read: number; state: Found; needs: number } {
    const { space, lsn, end, segmentEnd, last } = part;
    const { voided } = space.facts;
    const id = this.#memory.spaceId(space.slot);
    const view = new DataView(bytes.buffer, 0, bytes.length);
    const found: T[] = [];
    let { next } = part;
    let at = 0;
    let state = look(bytes, view, 0, lsn, segmentEnd, this.#salt);
    while (state === 'entry' && next <= last) {
      const isNext = isOf(view, at, id) && readSequence(view, at) === next;
      if (isNext && !isVoided(voided, next, lsn + at)) {
        found.push(take(bytes, view, at, lsn + at));
        next++;
      }
      at += ENTRY_HEADER_BYTES + readPayloadSize(view, at);
      if (lsn + at >= end) break;
      state = look(bytes, view, at, lsn + at, segmentEnd, this.#salt);
    }
    const isHeader = state === 'short' && at + ENTRY_HEADER_BYTES <= bytes.length;
    const needs = ENTRY_HEADER_BYTES + (isHeader ? readPayloadSize(view, at) : 0);
    return { found, read: at, state, needs };
  }

  /** Where to go on behind a bad place. */
  async #around(segment: Segment, lsn: Lsn): Promise<Lsn> {
    if (!this.#damage().at(lsn)) await this.#damage().examine(segment);
    const hole = this.#damage().at(lsn);
    // Bad a moment ago, and good now: the disk is not to be trusted with what it gives.
    if (!hole) throw failure('Io', `LSN ${lsn} cannot be read reliably`);
    return hole.end;
  }
}

/** Up to where stretches lie so close that they are read in one go. */
function reachOf(stretches: Stretches, from: number): Lsn {
  let at = from;
  let end = stretches[at + 1]! + stretches[at + 2]!;
  for (at += 3; at < stretches.length && stretches[at + 1]! - end <= INDEX_GAP_BYTES; at += 3) {
    end = stretches[at + 1]! + stretches[at + 2]!;
  }
  return end;
}

function isOf(view: DataView, at: number, id: readonly number[]): boolean {
  return (
    readSpaceIdWord(view, at, 0) === id[0] &&
    readSpaceIdWord(view, at, 1) === id[1] &&
    readSpaceIdWord(view, at, 2) === id[2] &&
    readSpaceIdWord(view, at, 3) === id[3]
  );
}
