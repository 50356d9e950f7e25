/**
 * What is damaged in the log: holes (bytes that are not what was written) and the entries of each
 * space that are lost in them. A space with such entries takes no appends and acknowledges nothing
 * until they are repaired or the loss is accepted; reads around them go on (FAULTS rows 5-7, 20).
 */
import { readSequence, readSpaceId } from '../shared/entry.js';
import { type EngramError, failure } from '../shared/errors.js';
import { HOLES_MAX } from '../shared/limits.js';
import type { Lsn, Sequence, Slot } from '../shared/position.js';
import { isVoided } from '../shared/rewind.js';
import type { SegmentIndex } from '../shared/segment-index.js';
import type { DamagedRange, Hole } from '../shared/state.js';
import type { Disk } from './disk.js';
import { addDamage, addHole } from './replay.js';
import { walkAround } from './segment-walk.js';
import type { Segment, Segments } from './segments.js';
import type { SpaceState, SpaceTable } from './space-table.js';

/** Entries of one space, as an event and an error name them. */
export interface DamagedEntries {
  readonly space: string;
  readonly from: Sequence;
  /** 0: nobody knows how many there were. */
  readonly to: Sequence;
}

export interface DamageHooks {
  /** More of the log is known to be damaged. */
  found(holes: readonly Hole[], entries: readonly DamagedEntries[]): void;
}

/** Runs of sequences, ascending: first and last in turn. */
type Runs = number[];

export class Damage {
  readonly holes: Hole[];
  readonly #disk: Disk;
  readonly #salt: number;
  readonly #segments: Segments;
  readonly #spaces: SpaceTable;
  readonly #durableLsn: () => Lsn;
  readonly #indexOf: (segment: Segment) => Promise<SegmentIndex>;
  readonly #hooks: DamageHooks;
  readonly #examining = new Map<Segment, Promise<void>>();

  constructor(
    disk: Disk,
    salt: number,
    segments: Segments,
    spaces: SpaceTable,
    durableLsn: () => Lsn,
    indexOf: (segment: Segment) => Promise<SegmentIndex>,
    holes: readonly Hole[],
    hooks: DamageHooks,
  ) {
    this.#disk = disk;
    this.#salt = salt;
    this.#segments = segments;
    this.#spaces = spaces;
    this.#durableLsn = durableLsn;
    this.#indexOf = indexOf;
    this.holes = [...holes];
    this.#hooks = hooks;
  }

  /** The known hole that holds `lsn`. */
  at(lsn: Lsn): Hole | undefined {
    return this.holes.find((h) => h.start <= lsn && lsn < h.end);
  }

  /** Spaces with damage that nobody has accepted take no appends. */
  refuse(space: SpaceState): void {
    const range = space.facts.damage.find((d) => !d.accepted);
    if (range) space.refusal = damagedError(space, range);
    else if (space.refusal?.code === 'CorruptionDetected') space.refusal = undefined;
  }

  /** Throws CorruptionDetected where `sequence` is one of the space's damaged entries. */
  check(space: SpaceState, sequence: Sequence): void {
    for (const range of space.facts.damage) {
      if (sequence < range.from || (range.to !== 0 && sequence > range.to)) continue;
      throw damagedError(space, range);
    }
  }

  /** A reader has met a bad place: the whole segment is looked at, once at a time. */
  examine(segment: Segment): Promise<void> {
    let running = this.#examining.get(segment);
    if (!running) {
      running = this.#examine(segment).finally(() => this.#examining.delete(segment));
      this.#examining.set(segment, running);
    }
    return running;
  }

  async #examine(segment: Segment): Promise<void> {
    const { start, size } = segment;
    const to = segment.end ?? Math.min(this.#durableLsn(), start + size);
    const seen = new Map<Slot, Runs>();
    const holes: Hole[] = [];
    this.#segments.pin(segment);
    const file = await this.#disk.open(this.#segments.pathOf(start), 'read').catch((error) => {
      this.#segments.unpin(segment);
      throw error;
    });
    try {
      await walkAround(
        file,
        segment,
        start,
        to,
        this.#salt,
        (_, view, at, lsn) => {
          const space = this.#spaces.byId(readSpaceId(view, at));
          const sequence = readSequence(view, at);
          if (!space || isVoided(space.facts.voided, sequence, lsn)) return;
          addRun(seen, space.slot, sequence);
        },
        (place) => addHole(holes, place),
      );
    } finally {
      await file.close();
      this.#segments.unpin(segment);
    }
    const fresh = holes.filter((hole) => !this.at(hole.start));
    if (fresh.length > 0) await this.#conclude(fresh, start, start + size, seen);
  }

  /** A segment that should be there is not. */
  async missing(hole: Hole): Promise<void> {
    await this.#conclude([hole], hole.start, hole.end, new Map());
  }

  /**
   * Which entries are lost: for each space those between what stands before and behind these
   * bytes, but for what was seen in them.
   */
  async #conclude(
    holes: readonly Hole[],
    start: Lsn,
    end: Lsn,
    seen: ReadonlyMap<Slot, Runs>,
  ): Promise<void> {
    const before: SegmentIndex[] = [];
    const behind: SegmentIndex[] = [];
    for (const other of [...this.#segments.list]) {
      if (!this.#segments.list.includes(other)) continue;
      if (other.start < start) before.push(await this.#indexOf(other));
      else if (other.start >= end) behind.push(await this.#indexOf(other));
    }
    const found: DamagedEntries[] = [];
    for (const space of this.#spaces.spaces) {
      const { facts, slot } = space;
      const lasts = before.map((index) => index.last(slot) ?? 0);
      const first = Math.max(facts.first - 1, ...lasts) + 1;
      const next = behind.find((index) => index.first(slot) !== undefined)?.first(slot);
      const last = (next ?? facts.position.sequence + 1) - 1;
      for (const [from, to] of gapsIn(first, last, seen.get(slot) ?? [])) {
        if (facts.damage.some((d) => d.from <= from && (d.to === 0 || d.to >= to))) continue;
        addDamage(facts, { from, to, lsn: holes[0]!.start, accepted: false });
        found.push({ space: facts.name, from, to });
        this.refuse(space);
      }
      facts.damage.sort((a, b) => a.from - b.from);
    }
    for (const hole of holes) if (!this.at(hole.start)) addHole(this.holes, hole);
    this.#hooks.found(holes, found);
  }
}

/** One line each, however many there are (row 81). */
export function damagedEntries(spaces: readonly SpaceState[]): DamagedEntries[] {
  return spaces.flatMap(({ facts }) =>
    facts.damage.map(({ from, to }) => ({ space: facts.name, from, to })),
  );
}

function damagedError(space: SpaceState, range: DamagedRange): EngramError {
  const { from, to, lsn } = range;
  const what = to === 0 ? `entries from ${from} on` : `entries ${from} to ${to}`;
  return failure(
    'CorruptionDetected',
    `${what} of ${space.facts.name} are damaged, at LSN ${lsn}; others can be read`,
    { details: { space: space.facts.name, from, to, lsn } },
  );
}

function addRun(seen: Map<Slot, Runs>, slot: Slot, sequence: Sequence): void {
  const runs = seen.get(slot);
  if (!runs) seen.set(slot, [sequence, sequence]);
  else if (runs[runs.length - 1] === sequence - 1) runs[runs.length - 1] = sequence;
  else if (runs.length < 2 * HOLES_MAX) runs.push(sequence, sequence);
}

/** What of `first`..`last` is in none of the runs. */
export function gapsIn(first: Sequence, last: Sequence, runs: Runs): [Sequence, Sequence][] {
  const gaps: [Sequence, Sequence][] = [];
  let next = first;
  for (let i = 0; i < runs.length; i += 2) {
    if (runs[i]! > next) gaps.push([next, runs[i]! - 1]);
    next = Math.max(next, runs[i + 1]! + 1);
  }
  if (next <= last) gaps.push([next, last]);
  return gaps;
}
