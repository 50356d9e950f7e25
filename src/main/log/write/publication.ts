/** What becomes known of a group's runs when they are durable: positions, index, lag, consumers. */

import { nameOwners, UNKNOWN_OWNER } from '../../../shared/lead/epoch.js';
import {
  ENTRY_HEADER_BYTES,
  GROUP_MAX_RUNS,
  INDEX_EVERY_BYTES,
  INDEX_PART_BYTES,
} from '../../../shared/limits.js';
import { rowsEach } from '../../../shared/link/durable-times.js';
import {
  readEpoch,
  readHeaderCrc,
  readPayloadSize,
  readTimestampWord,
  readType,
} from '../../../shared/log/entry.js';
import type { SegmentIndex } from '../../../shared/log/segment-index.js';
import { trimHistory } from '../../../shared/log/space-facts.js';
import { decodeMembers, MEMBERS_ENTRY, type MembersRow } from '../../../shared/members/members.js';
import { addMembersRow } from '../../../shared/members/rows.js';
import {
  MARK_COUNT,
  MARK_FIELDS,
  type NodeMemory,
  RUN_BYTES,
  RUN_COUNT,
  RUN_FIELDS,
  RUN_FIRST,
  RUN_LAST,
  RUN_OFFSET,
  RUN_SLOT,
  type Slab,
} from '../../../shared/memory/slab.js';
import type { Epoch, EpochStart, Lsn, Position, Sequence, Slot } from '../../../shared/position.js';
import type { Segments } from '../../segments/segments.js';
import { type SpaceState, type SpaceTable, wakeDurableWaits } from '../space-table.js';
import type { LogGroup, RunNews, RunTable } from './open-group.js';
import type { RunEnds } from './run-ends.js';

const NO_BEGINS: readonly EpochStart[] = [];
const NO_SETS: readonly MembersRow[] = [];

/** Words of a tip: epoch, header_crc, and the timestamp's, low first. */
const TIP_WORDS = 4;
/** Where the tips of a group are read that is published at once: one group at a time. */
const TIPS = new Uint32Array(TIP_WORDS * GROUP_MAX_RUNS);

/** What a sealed group holds, for when its slab is given up before it is durable. */
export function setAside(group: LogGroup, spaces: SpaceTable): RunTable {
  const runs = group.slab.runs.slice(0, RUN_FIELDS * group.runs);
  const tips = new Uint32Array(TIP_WORDS * group.runs);
  readTips(group, tips);
  const news: RunNews[] = [];
  for (let run = 0; run < group.runs; run++) {
    const slot = runs[run * RUN_FIELDS + RUN_SLOT]!;
    const isQuiet = !group.holdsMembers && spaces.rows.isQuiet(slot, tips[TIP_WORDS * run]!);
    const found = isQuiet ? undefined : newsOf(group, run, spaces.bySlot[slot]!);
    if (found) news.push(found);
  }
  return { runs, tips, news };
}

/** What is known of the last entry of each run. */
function readTips({ slab, runs }: LogGroup, tips: Uint32Array): void {
  const { view, runs: table } = slab;
  for (let run = 0; run < runs; run++) {
    const last = table[run * RUN_FIELDS + RUN_LAST]!;
    const at = TIP_WORDS * run;
    tips[at] = readEpoch(view, last);
    tips[at + 1] = readHeaderCrc(view, last);
    tips[at + 2] = readTimestampWord(view, last, 0);
    tips[at + 3] = readTimestampWord(view, last, 1);
  }
}

/** What a run says besides that its space goes on. */
function newsOf(
  { slab, holdsMembers }: LogGroup,
  run: number,
  space: SpaceState,
): RunNews | undefined {
  const { view, runs } = slab;
  const row = run * RUN_FIELDS;
  const epoch = readEpoch(view, runs[row + RUN_LAST]!);
  const known = space.facts.history.at(-1)?.epoch ?? 0;
  // Not the epoch that this node acts under: what it fills itself up with may be of a later one.
  if (epoch === known && !holdsMembers) return undefined;
  const [offset, first, count] = [RUN_OFFSET, RUN_FIRST, RUN_COUNT].map((f) => runs[row + f]!);
  const begins =
    epoch === known ? NO_BEGINS : epochStarts(space, view, offset!, first!, count!, known);
  const sets = holdsMembers ? membersRows(slab, offset!, first!, count!) : NO_SETS;
  return begins.length === 0 && sets.length === 0 ? undefined : { run, begins, sets };
}

/** The epochs that begin inside a run, above the one that is known. */
function epochStarts(
  space: SpaceState,
  view: DataView,
  offset: number,
  first: Sequence,
  count: number,
  last: Epoch,
): readonly EpochStart[] {
  let known = last;
  const { epoch: current } = space.facts;
  const found: EpochStart[] = [];
  let at = offset;
  for (let n = 0; n < count; n++) {
    const epoch = readEpoch(view, at);
    if (epoch > known) {
      // An older one comes from a later primary: whose it was, that one's history tells.
      const primaryNodeId = epoch === current ? space.primaryId : UNKNOWN_OWNER;
      const directoryId = epoch === current ? space.facts.directoryId : undefined;
      found.push({ epoch, startSequence: first + n, primaryNodeId, directoryId });
      known = epoch;
    }
    at += ENTRY_HEADER_BYTES + readPayloadSize(view, at);
  }
  return found;
}

/** What the entries of a run say about who counts: each was looked at before it was staged. */
function membersRows(
  { bytes, view }: Slab,
  offset: number,
  first: Sequence,
  count: number,
): readonly MembersRow[] {
  const found: MembersRow[] = [];
  let at = offset;
  for (let n = 0; n < count; n++) {
    const start = at + ENTRY_HEADER_BYTES;
    const end = start + readPayloadSize(view, at);
    if (readType(view, at) === MEMBERS_ENTRY) {
      const members = decodeMembers(bytes.subarray(start, end));
      found.push({ epoch: readEpoch(view, at), sequence: first + n, ...members });
    }
    at = end;
  }
  return found;
}

/**
 * The group is durable: its runs and, unless it was given up before, its slab are published.
 * @param ends gets the last sequence of each run
 */
export function publishGroup(
  group: LogGroup,
  memory: NodeMemory,
  segments: Segments,
  spaces: SpaceTable,
  nowMs: number,
  ends: RunEnds,
): void {
  const { slab, aside, previousEnd, startLsn: start, bytes, runs, entries } = group;
  const { rows, times } = spaces;
  const table = aside?.runs ?? slab.runs;
  const tips = aside?.tips ?? TIPS;
  if (!aside) readTips(group, TIPS);
  const rowsMax = rowsEach(spaces.bySlot.length);
  const indexing = new Indexing(start, segments.at(start)?.index, aside ? undefined : slab);
  let told = 0;
  for (let run = 0; run < runs; run++) {
    const row = run * RUN_FIELDS;
    // Whole numbers, said so: a double would be made an object where it is handed on.
    const slot = table[row + RUN_SLOT]! | 0;
    const first = table[row + RUN_FIRST]!;
    const count = table[row + RUN_COUNT]! | 0;
    const offset = table[row + RUN_OFFSET]! | 0;
    const size = table[row + RUN_BYTES]! | 0;
    const last = first + count - 1;
    const tip = TIP_WORDS * run;
    const epoch = tips[tip]!;
    let news = aside?.news[told]?.run === run ? aside.news[told++] : undefined;
    const isQuiet = !news && !group.holdsMembers && rows.isQuiet(slot, epoch);
    // Nothing of the space is looked at but its rows: of many, its objects are in no cache.
    const space = isQuiet ? undefined : spaces.bySlot[slot]!;
    const before = space?.facts.position;
    rows.published(slot, last, epoch, tips[tip + 1]!, tips[tip + 2]!, tips[tip + 3]!);
    indexing.add(slot, first, count, offset, size);
    memory.setDurable(slot, last);
    if (rows.isShipped(slot)) times[slot]!.add(first, last, size, nowMs, rowsMax);
    ends.add(slot, last);
    if (!space) continue;
    if (!aside) news = newsOf(group, run, space);
    if (news) {
      // The first entry of an epoch that this node leads: as a rule it stands alone.
      if (news.begins.length > 0 && count === 1) noteTurn(space, before!, start + offset);
      takeNews(space, news);
    }
    tell(space, aside ? undefined : slab.bytes.subarray(offset, offset + size), first, last);
    if (isIdle(space, epoch)) rows.quiet(slot, epoch);
  }
  if (!aside) memory.publishSlab(slab.index, { previousEnd, start, bytes, entries, runs });
}

/** Whoever waits for entries of the space. @param bytes of them, where a slab has them still */
function tell(
  space: SpaceState,
  bytes: Uint8Array | undefined,
  first: Sequence,
  last: Sequence,
): void {
  const { stagedOwn } = space;
  while (stagedOwn.length > 0 && stagedOwn[0]! <= last) stagedOwn.shift();
  if (space.durableWaits.size > 0) wakeDurableWaits(space, last);
  for (const consumer of space.consumers) consumer.run(bytes, first, last - first + 1);
}

/** Nobody waits for its entries, and those of this epoch say nothing new. */
function isIdle({ facts, stagedOwn, durableWaits, consumers }: SpaceState, epoch: Epoch): boolean {
  const waiting = stagedOwn.length + durableWaits.size + consumers.length;
  return waiting === 0 && facts.history.at(-1)?.epoch === epoch;
}

function noteTurn(space: SpaceState, before: Position, lsn: Lsn): void {
  const { role, timestamp } = space.facts;
  if (role === 'primary') space.turn = { before, lsn, timestamp, mark: space.truth.mark };
}

function takeNews({ facts, toldHistory }: SpaceState, { begins, sets }: RunNews): void {
  for (const begin of begins) {
    // Two groups of one fdatasync may both have seen the epoch begin.
    if (begin.epoch > (facts.history.at(-1)?.epoch ?? 0)) facts.history.push(begin);
  }
  for (const row of sets) addMembersRow(facts.sets, row);
  if (begins.length > 0) nameOwners(facts.history, toldHistory);
  trimHistory(facts.history);
}

/** Adds the runs of one group to the index of its segment. */
class Indexing {
  readonly #start: Lsn;
  readonly #index: SegmentIndex | undefined;
  /** That of the slab which still holds the bytes, as far as its marks have been passed. */
  readonly #marks: Float64Array | undefined;
  #at = 0;

  constructor(start: Lsn, index: SegmentIndex | undefined, slab: Slab | undefined) {
    this.#start = start;
    this.#index = index;
    this.#marks = slab?.marks;
  }

  /** A long run in parts, so that an entry in the middle is found without reading all before it. */
  add(slot: Slot, first: Sequence, count: number, offset: number, size: number): void {
    let [begin, begun] = [0, 0];
    while (this.#marks) {
      const at = this.#marks[this.#at]! - offset;
      // None is left, or it is of a run behind this one.
      if (!(at > 0 && at < size)) break;
      const n = this.#marks[this.#at + MARK_COUNT]!;
      this.#at += MARK_FIELDS;
      // Where a batch is full: too early.
      if (size <= INDEX_EVERY_BYTES || at - begin < INDEX_PART_BYTES) continue;
      const lsn = this.#start + offset + begin;
      this.#index?.add(slot, first + begun, n - begun, lsn, at - begin);
      [begin, begun] = [at, n];
    }
    const lsn = this.#start + offset + begin;
    this.#index?.add(slot, first + begun, count - begun, lsn, size - begin);
  }
}
