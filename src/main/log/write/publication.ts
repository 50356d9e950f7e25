/** What becomes known of a group's runs when they are durable: positions, index, lag, consumers. */

import { nameOwners, UNKNOWN_OWNER } from '../../../shared/lead/epoch.js';
import { ENTRY_HEADER_BYTES, GROUP_MAX_RUNS } from '../../../shared/limits.js';
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
import type { Epoch, EpochStart, Lsn, Sequence, Slot } from '../../../shared/position.js';
import type { Segments } from '../../segments/segments.js';
import { type SpaceState, type SpaceTable, wakeDurableWaits } from '../space-table.js';
import { type LogGroup, type RunNews, type RunTable, Tips } from './open-group.js';

const NO_BEGINS: readonly EpochStart[] = [];
const NO_SETS: readonly MembersRow[] = [];
const NO_NEWS: readonly RunNews[] = [];

/** Where the tips of a group are read that is published at once: one group at a time. */
const TIPS = new Tips(GROUP_MAX_RUNS);

/** What a sealed group holds, for when its slab is given up before it is durable. */
export function setAside(group: LogGroup, spaces: SpaceTable): RunTable {
  const tips = new Tips(group.runs);
  const news = readTips(group, spaces, tips);
  return { runs: group.slab.runs.slice(0, RUN_FIELDS * group.runs), tips, news };
}

/** One pass over the last entries of all runs. @returns what they say besides */
function readTips(group: LogGroup, spaces: SpaceTable, tips: Tips): readonly RunNews[] {
  const { slab, holdsMembers } = group;
  const { view, runs } = slab;
  let news: RunNews[] | undefined;
  for (let run = 0; run < group.runs; run++) {
    const row = run * RUN_FIELDS;
    const last = runs[row + RUN_LAST]!;
    const epoch = readEpoch(view, last);
    tips.set(
      run,
      epoch,
      readHeaderCrc(view, last),
      readTimestampWord(view, last, 0),
      readTimestampWord(view, last, 1),
    );
    const space = spaces.bySlot[runs[row + RUN_SLOT]!]!;
    const { history } = space.facts;
    const known = history.length > 0 ? history[history.length - 1]!.epoch : 0;
    // Not the epoch that this node acts under: what it fills itself up with may be of a later one.
    if (epoch === known && !holdsMembers) continue;
    const [offset, first, count] = [RUN_OFFSET, RUN_FIRST, RUN_COUNT].map((f) => runs[row + f]!);
    const begins =
      epoch === known ? NO_BEGINS : epochStarts(space, view, offset!, first!, count!, known);
    const sets = holdsMembers ? membersRows(slab, offset!, first!, count!) : NO_SETS;
    if (begins.length === 0 && sets.length === 0) continue;
    news ??= [];
    news.push({ run, begins, sets });
  }
  return news ?? NO_NEWS;
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
 * @param touched gets the spaces that it holds entries of
 */
export function publishGroup(
  group: LogGroup,
  memory: NodeMemory,
  segments: Segments,
  spaces: SpaceTable,
  nowMs: number,
  touched: SpaceState[],
): void {
  const { slab, aside, previousEnd, startLsn: start, bytes, runs, entries } = group;
  const table = aside?.runs ?? slab.runs;
  const tips = aside?.tips ?? TIPS;
  const news = aside?.news ?? readTips(group, spaces, TIPS);
  const rowsMax = rowsEach(spaces.bySlot.length);
  const indexing = new Indexing(start, segments.at(start)?.index, aside ? undefined : slab);
  let told = 0;
  for (let run = 0; run < runs; run++) {
    const row = run * RUN_FIELDS;
    const space = spaces.bySlot[table[row + RUN_SLOT]!]!;
    const first = table[row + RUN_FIRST]!;
    const count = table[row + RUN_COUNT]!;
    const offset = table[row + RUN_OFFSET]!;
    const size = table[row + RUN_BYTES]!;
    const last = first + count - 1;
    touched.push(space);
    if (space.replicas.length > 0) space.times.add(first, last, size, nowMs, rowsMax);
    else space.times.startAt(last);
    if (told < news.length && news[told]!.run === run) {
      // The first entry of an epoch that this node leads: as a rule it stands alone.
      if (news[told]!.begins.length > 0 && count === 1) {
        noteTurn(space, start + offset, tips.timestamp(run));
      }
      takeNews(space, news[told++]!);
    }
    space.facts.position = tips.position(run, last);
    space.facts.timestamp = tips.timestamp(run);
    const { stagedOwn } = space;
    while (stagedOwn.length > 0 && stagedOwn[0]! <= last) stagedOwn.shift();
    indexing.add(space.slot, first, count, offset, size);
    memory.setDurable(space.slot, last);
    if (space.durableWaits.size > 0) wakeDurableWaits(space, last);
    for (const consumer of space.consumers) {
      consumer.run(aside ? undefined : slab.bytes.subarray(offset, offset + size), first, count);
    }
  }
  if (!aside) memory.publishSlab(slab.index, { previousEnd, start, bytes, entries, runs });
}

function noteTurn(space: SpaceState, lsn: Lsn, timestamp: bigint): void {
  const { position: before, role } = space.facts;
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
      const n = this.#marks[this.#at + 1]!;
      const lsn = this.#start + offset + begin;
      this.#index?.add(slot, first + begun, n - begun, lsn, at - begin);
      [begin, begun] = [at, n];
      this.#at += 2;
    }
    const lsn = this.#start + offset + begin;
    this.#index?.add(slot, first + begun, count - begun, lsn, size - begin);
  }
}
