/**
 * What is damaged in the log: holes (bytes that are not what was written) and the entries of each
 * space that are lost in them. A space with such entries takes no appends and acknowledges nothing
 * until they are repaired or the loss is accepted; reads around them go on (FAULTS rows 5-7, 20).
 */

import { type EngramError, failure } from '../../shared/errors.js';
import { HOLES_MAX } from '../../shared/limits.js';
import { readSequence, readSpaceId } from '../../shared/log/entry.js';
import type { Member } from '../../shared/log/node-record.js';
import { isVoided } from '../../shared/log/rewind.js';
import type { SegmentIndex } from '../../shared/log/segment-index.js';
import type { DamagedRange } from '../../shared/log/space-facts.js';
import type { Hole } from '../../shared/log/state.js';
import type { Lsn, Sequence, Slot } from '../../shared/position.js';
import type { RepairStatus, SpaceState, SpaceTable } from '../log/space-table.js';
import { addDamage, addHole, holesOutside } from '../recovery/replay.js';
import type { Disk } from '../segments/disk.js';
import type { Segment, Segments } from '../segments/segments.js';
import { walkAround } from '../segments/walk.js';
import type { DamagedEntries, DamageEvents } from './events.js';

export interface DamageHooks {
  /** Who else may have entries of the space. */
  members(space: SpaceState): readonly Member[];
  /** A space has damage that nobody has accepted: what is known before anybody is asked. */
  begun(event: DamageEvents['repair']): void;
  /** More of the log is known to be damaged. */
  found(holes: readonly Hole[], entries: readonly DamagedEntries[]): void;
}

/** Runs of sequences, ascending: first and last in turn. */
export type Runs = number[];

export class Damage {
  readonly holes: Hole[];
  readonly #disk: Disk;
  readonly #salt: number;
  readonly #segments: Segments;
  readonly #spaces: SpaceTable;
  readonly #durableLsn: () => Lsn;
  readonly #indexOf: (segment: Segment) => Promise<SegmentIndex>;
  readonly #hooks: DamageHooks;
  /** What was bad at opening in the segment that was the last one then. */
  readonly #tail: readonly Hole[];
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
    const last = segments.list.at(-1)?.start ?? 0;
    this.#tail = holes.filter((h) => h.end > last);
    this.#hooks = hooks;
  }

  /** Between these LSNs the log has been looked at: these places are bad, and no others. */
  setHoles(start: Lsn, end: Lsn, places: readonly Hole[]): void {
    const found = holesOutside(this.holes, start, end);
    for (const place of places) addHole(found, { start: place.start, end: place.end });
    found.sort((a, b) => a.start - b.start);
    this.holes.splice(0, this.holes.length, ...found);
  }

  /** Nothing at or behind `lsn` is bad. */
  isWholeFrom(lsn: Lsn): boolean {
    return this.holes.every((h) => h.end <= lsn);
  }

  /** The known hole that holds `lsn`. */
  at(lsn: Lsn): Hole | undefined {
    return this.holes.find((h) => h.start <= lsn && lsn < h.end);
  }

  /**
   * Where the last entries may be lost, nothing is appended before they are back (row 7); behind
   * a hole with entries on both sides appends go on while members are asked (row 5).
   */
  #isTail({ to, lsn }: DamagedRange): boolean {
    return to === 0 || this.#tail.some((h) => h.start <= lsn && lsn < h.end);
  }

  /** Spaces with damage that nobody has accepted take no appends, but for what `#isTail` says. */
  refuse(space: SpaceState): void {
    const open = space.facts.damage.filter((d) => !d.accepted);
    if (open.length === 0) {
      space.repair = undefined;
      if (isOfDamage(space.refusal)) space.refusal = undefined;
      return;
    }
    space.repair ??= this.#begin(space);
    const isClosed = space.repair.state === 'corrupt' || open.some((d) => this.#isTail(d));
    if (isClosed) space.refusal = damagedError(space, open[0]!);
    else if (isOfDamage(space.refusal)) space.refusal = undefined;
  }

  #begin(space: SpaceState): RepairStatus {
    const isHope = this.#hooks.members(space).length > 0;
    const state = isHope ? 'repairing' : 'corrupt';
    const reason = isHope ? 'its members are asked' : 'it has no other member';
    this.#hooks.begun({ space: space.facts.name, state, reason, unreachable: [] });
    return { state, reason, unreachable: [], sinceMs: performance.now() };
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
          const runs = seen.get(space.slot) ?? [];
          seen.set(space.slot, runs);
          addRun(runs, sequence);
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
    }
    const news = holes.filter((hole) => !this.at(hole.start));
    for (const hole of news) addHole(this.holes, hole);
    if (news.length > 0 || found.length > 0) this.#hooks.found(holes, found);
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
  const isRepairing = space.repair?.state === 'repairing' && !range.accepted;
  return failure(
    isRepairing ? 'Repairing' : 'CorruptionDetected',
    `${what} of ${space.facts.name} are damaged, at LSN ${lsn}; others can be read`,
    { details: { space: space.facts.name, from, to, lsn } },
  );
}

/** Why a space takes nothing, as far as damage is the reason. */
export function isOfDamage(refusal: EngramError | undefined): boolean {
  return refusal?.code === 'CorruptionDetected' || refusal?.code === 'Repairing';
}

/** Adds a sequence to runs that must stay bounded: beyond the cap it is not known to be there. */
export function addRun(runs: Runs, sequence: Sequence): void {
  if (runs.length > 0 && runs[runs.length - 1] === sequence - 1) runs[runs.length - 1] = sequence;
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
