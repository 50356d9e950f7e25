/**
 * Makes one segment whole: what is bad in it is looked up anew, filled from other members in a new
 * file, read back, and swapped in at once; the bad bytes go to quarantine first.
 *
 * A crash leaves the old file or the new one. Behind the swap the state still tells of the damage:
 * then the next round finds nothing bad, and takes over what is there. It may be there in the cache
 * alone, where the directory's fsync has failed: so it is copied, and swapped in once more.
 */
import { failure } from '../../shared/errors.js';
import type { Member } from '../../shared/log/node-record.js';
import type { Hole } from '../../shared/log/state.js';
import type { NodeMemory } from '../../shared/memory/slab.js';
import type { Lsn } from '../../shared/position.js';
import type { Retention } from '../log/retention/retention.js';
import type { StateKeeper } from '../log/retention/state-keeper.js';
import type { SpaceState, SpaceTable } from '../log/space-table.js';
import type { Damage } from '../read/damage.js';
import type { LogReader } from '../read/reader.js';
import type { Disk, DiskFile } from '../segments/disk.js';
import { headOf } from '../segments/head.js';
import { keepCopy } from '../segments/log-end.js';
import type { Segment, Segments } from '../segments/segments.js';
import type { Extent } from '../segments/walk.js';
import type { EntrySource } from './entry-source.js';
import { HoleFiller } from './hole-filler.js';
import { takeRestored } from './regained.js';
import { SegmentRewrite } from './rewrite.js';
import {
  type SeenSpace,
  type SegmentSurvey,
  type SurveyedPlace,
  surveySegment,
} from './segment-survey.js';

/** The parts of a node that a repair works with. */
export interface RepairNode {
  readonly disk: Disk;
  readonly dir: string;
  readonly salt: number;
  readonly segmentBytes: number;
  readonly memory: NodeMemory;
  readonly spaces: SpaceTable;
  readonly segments: Segments;
  readonly reader: LogReader;
  readonly damage: Damage;
  readonly retention: Retention;
  readonly state: StateKeeper;
  membersOf(space: SpaceState): readonly Member[];
}

/** One asking of everybody. */
export interface Round {
  /** Spaces with damage that nobody has accepted, by id. */
  readonly concerned: ReadonlyMap<string, SpaceState>;
  readonly source: EntrySource;
  /** Why a space cannot be brought back any further. */
  readonly stuck: Map<SpaceState, string>;
}

/** Every sealed segment that is bad, or is not there, in the order of the log. */
export function damagedExtents({ segments, damage, spaces, segmentBytes }: RepairNode): Extent[] {
  const found = new Map<Lsn, Extent>();
  const add = (lsn: Lsn, hole: Hole): Lsn => {
    const there = segments.at(lsn);
    if (there) {
      if (there.end !== undefined) found.set(there.start, there);
      return there.start + there.size;
    }
    const first = segments.list[0]!.start;
    // What was freed is nobody's loss.
    if (lsn < first && !isMissed(spaces, hole)) return first;
    const next = segments.list.find((s) => s.start > lsn)?.start ?? hole.end;
    const size = Math.min(segmentBytes, next - lsn);
    found.set(lsn, { start: lsn, size });
    return lsn + size;
  };
  for (const hole of damage.holes) {
    for (let lsn = hole.start; lsn < hole.end; ) lsn = add(lsn, hole);
  }
  for (const { facts } of spaces.spaces) {
    // A crash behind a swap: the damage is known, and gone.
    for (const { lsn, accepted } of facts.damage)
      if (!accepted && segments.at(lsn)) add(lsn, { start: lsn, end: lsn });
  }
  return [...found.values()].sort((a, b) => a.start - b.start);
}

/** Entries that are retained stood there. */
function isMissed(spaces: SpaceTable, { start, end }: Hole): boolean {
  return spaces.spaces.some(({ facts }) =>
    facts.damage.some((d) => !d.accepted && start <= d.lsn && d.lsn < end),
  );
}

/** Rejects as the disk does; a member that does not answer is no error. */
export async function repairSegment(node: RepairNode, extent: Extent, round: Round): Promise<void> {
  const segment = node.segments.list.find((s) => s.start === extent.start);
  if (segment) node.segments.pin(segment);
  let old: DiskFile | undefined;
  try {
    if (segment) old = await node.disk.open(node.segments.pathOf(segment.start), 'read');
    await new SegmentRepair(node, extent, segment, old, round).run();
  } finally {
    await old?.close();
    if (segment) node.segments.unpin(segment);
  }
}

class SegmentRepair {
  readonly #node: RepairNode;
  readonly #extent: Extent;
  /** undefined: it is not there. */
  readonly #segment: Segment | undefined;
  readonly #old: DiskFile | undefined;
  readonly #round: Round;

  constructor(
    node: RepairNode,
    extent: Extent,
    segment: Segment | undefined,
    old: DiskFile | undefined,
    round: Round,
  ) {
    this.#node = node;
    this.#extent = extent;
    this.#segment = segment;
    this.#old = old;
    this.#round = round;
  }

  async run(): Promise<void> {
    const { disk, dir, salt } = this.#node;
    const { start, size } = this.#extent;
    const { concerned } = this.#round;
    const end = this.#segment ? this.#segment.end : await this.#endOfMissing();
    const survey = this.#old
      ? await surveySegment(this.#old, this.#extent, end!, salt, concerned)
      : missing(start, end ?? start + size);
    const rewrite = new SegmentRewrite(disk, dir, this.#extent, this.#old);
    try {
      const filler = this.#filler(survey, rewrite);
      const filled: SurveyedPlace[] = [];
      for (const [i, place] of survey.places.entries()) {
        if (await filler.fill(i, end === undefined)) filled.push(place);
      }
      const mended = this.#segment ? this.#mendedBefore(survey) : [];
      if (mended.length > 0) await rewrite.begin();
      if (filled.length + mended.length === 0) this.#take(survey, this.#segment !== undefined);
      else await this.#swap(rewrite, end ?? filler.cursor, filled, mended);
    } finally {
      await rewrite.close();
    }
  }

  /** What is known as bad, and is not: an earlier life may have mended it. */
  #mendedBefore({ places }: SegmentSurvey): Hole[] {
    const { start, size } = this.#extent;
    const known = this.#node.damage.holes.filter((h) => h.start < start + size && start < h.end);
    return known.filter((hole) => !places.some((place) => overlap(place, hole)));
  }

  #filler(survey: SegmentSurvey, rewrite: SegmentRewrite): HoleFiller {
    const { salt, reader, segments, damage } = this.#node;
    const { start, size } = this.#extent;
    const { source, concerned, stuck } = this.#round;
    const before = segments.list.findLast((s) => s.start + s.size === start);
    const parts = {
      salt,
      reader,
      source,
      rewrite,
      survey,
      concerned,
      previousEnd: before?.end ?? start,
      isMoreBehind: damage.holes.some((h) => h.end > start + size),
      membersOf: (space: SpaceState) => this.#node.membersOf(space),
    };
    return new HoleFiller(parts, stuck);
  }

  /** The next segment's first entry says where this one ended. */
  async #endOfMissing(): Promise<Lsn | undefined> {
    const { disk, segments, salt } = this.#node;
    const { start, size } = this.#extent;
    const next = segments.list.find((s) => s.start === start + size);
    if (!next) return undefined;
    const file = await disk.open(segments.pathOf(next.start), 'read');
    try {
      const end = (await headOf(file, next, salt)).previousEnd;
      return end !== undefined && start < end && end <= start + size ? end : undefined;
    } finally {
      await file.close();
    }
  }

  async #swap(
    rewrite: SegmentRewrite,
    end: Lsn,
    filled: readonly Hole[],
    mended: readonly Hole[],
  ): Promise<void> {
    const { disk, dir, salt, segments, retention, reader, state } = this.#node;
    const { start, size } = this.#extent;
    const file = await rewrite.finish();
    const survey = await surveySegment(file, this.#extent, end, salt, this.#round.concerned);
    const good = [...filled, ...mended];
    if (survey.places.some((place) => good.some((one) => overlap(place, one))))
      throw failure('Io', `${rewrite.path} does not read as it was written`);
    if (this.#old && filled.length > 0) {
      await keepCopy(disk, dir, this.#old, this.#extent, start, start + size, 'rot');
    }
    await rewrite.close();
    const fresh = await retention.without(async () => {
      if (!this.#isWanted) return undefined;
      const segment = await segments.replace(rewrite.path, start, size, end);
      this.#take(survey, true);
      return segment;
    });
    if (fresh) await reader.indexOf(fresh);
    await state.write();
  }

  /** Nobody has freed it meanwhile. */
  get #isWanted(): boolean {
    const { list } = this.#node.segments;
    if (this.#segment) return list.includes(this.#segment);
    const { start, size } = this.#extent;
    const isInside = start > list[0]!.start;
    return isInside || isMissed(this.#node.spaces, { start: 0, end: start + size });
  }

  /** What the segment holds is known from now on. */
  #take(survey: SegmentSurvey, isThere: boolean): void {
    const { damage, memory } = this.#node;
    const { start, size } = this.#extent;
    if (isThere) damage.setHoles(start, start + size, survey.places);
    for (const space of this.#round.concerned.values()) {
      const seen = survey.seen.get(space) ?? NOTHING;
      takeRestored(space, seen, memory, (range) => damage.isWholeFrom(range.lsn));
    }
  }
}

function overlap(a: Hole, b: Hole): boolean {
  return a.start < b.end && b.start < a.end;
}

const NOTHING: SeenSpace = { runs: [], spans: [], end: undefined, epochs: new Map(), sets: [] };

function missing(start: Lsn, end: Lsn): SegmentSurvey {
  const place = { start, end, entry: undefined, durableLsn: undefined };
  return { places: [place], seen: new Map() };
}
