/** What becomes known of a group's runs when they are durable: positions, index, lag, consumers. */

import { nameOwners, UNKNOWN_OWNER } from '../../../shared/lead/epoch.js';
import { ENTRY_HEADER_BYTES } from '../../../shared/limits.js';
import { rowsEach } from '../../../shared/link/durable-times.js';
import {
  readEpoch,
  readHeaderCrc,
  readPayloadSize,
  readTimestamp,
  readType,
} from '../../../shared/log/entry.js';
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
import type { Epoch, EpochStart, Sequence } from '../../../shared/position.js';
import type { Segments } from '../../segments/segments.js';
import { type SpaceState, type SpaceTable, wakeDurableWaits } from '../space-table.js';
import type { LogGroup, RunSummary } from './open-group.js';

const NONE: readonly EpochStart[] = [];
const NO_SETS: readonly MembersRow[] = [];

/** Reads what a sealed group holds. */
export function summarise(group: LogGroup, spaces: SpaceTable): RunSummary[] {
  const { slab, runs, startLsn, holdsMembers } = group;
  const found: RunSummary[] = [];
  for (let r = 0; r < runs; r++) {
    const row = r * RUN_FIELDS;
    const space = spaces.bySlot[slab.runs[row + RUN_SLOT]!]!;
    const first = slab.runs[row + RUN_FIRST]!;
    const count = slab.runs[row + RUN_COUNT]!;
    const offset = slab.runs[row + RUN_OFFSET]!;
    const last = slab.runs[row + RUN_LAST]!;
    const { view } = slab;
    found.push({
      space,
      first,
      count,
      lsn: startLsn + offset,
      offset,
      size: slab.runs[row + RUN_BYTES]!,
      position: {
        epoch: readEpoch(view, last),
        sequence: first + count - 1,
        headerCrc: readHeaderCrc(view, last),
      },
      timestamp: readTimestamp(view, last),
      begins: epochStarts(space, view, offset, first, count, readEpoch(view, last)),
      sets: holdsMembers ? membersRows(slab, offset, first, count) : NO_SETS,
    });
  }
  return found;
}

/** The epochs that begin inside a run: none where the last known one still holds. */
function epochStarts(
  space: SpaceState,
  view: DataView,
  offset: number,
  first: Sequence,
  count: number,
  lastEpoch: Epoch,
): readonly EpochStart[] {
  let known = space.facts.history.at(-1)?.epoch ?? 0;
  const { epoch: current } = space.facts;
  // Not the epoch that this node acts under: what it fills itself up with may be of a later one.
  if (lastEpoch === known) return NONE;
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
 * @returns the spaces that it holds entries of
 */
export function publishGroup(
  group: LogGroup,
  memory: NodeMemory,
  segments: Segments,
  spaces: SpaceTable,
  nowMs: number,
): SpaceState[] {
  const { slab, aside, previousEnd, startLsn: start, bytes, runs, entries } = group;
  const found = aside ?? summarise(group, spaces);
  const rowsMax = rowsEach(spaces.bySlot.length);
  const marks: Marks | undefined = aside ? undefined : { slab, at: 0 };
  for (const run of found) {
    const { space, first, position, size } = run;
    if (space.replicas.length > 0) space.times.add(first, position.sequence, size, nowMs, rowsMax);
    else space.times.startAt(position.sequence);
    publishRun(run, marks, memory, segments);
  }
  if (!aside) memory.publishSlab(slab.index, { previousEnd, start, bytes, entries, runs });
  return found.map((run) => run.space);
}

/** Those of a slab that belong to its runs from here on. */
interface Marks {
  readonly slab: Slab;
  at: number;
}

/** The run is durable: says so everywhere. @param marks of the slab that still holds its bytes */
function publishRun(
  run: RunSummary,
  marks: Marks | undefined,
  memory: NodeMemory,
  segments: Segments,
): void {
  const { space, first, count, position } = run;
  const { facts } = space;
  for (const begin of run.begins) {
    // Two groups of one fdatasync may both have seen the epoch begin.
    if (begin.epoch > (facts.history.at(-1)?.epoch ?? 0)) facts.history.push(begin);
  }
  for (const row of run.sets) addMembersRow(facts.sets, row);
  if (run.begins.length > 0) nameOwners(facts.history, space.toldHistory);
  trimHistory(facts.history);
  facts.position = position;
  facts.timestamp = run.timestamp;
  while (space.stagedOwn.length > 0 && space.stagedOwn[0]! <= position.sequence) {
    space.stagedOwn.shift();
  }
  indexRun(run, marks, segments);
  memory.setDurable(space.slot, position.sequence);
  if (space.durableWaits.size > 0) wakeDurableWaits(space, position.sequence);
  for (const consumer of space.consumers) {
    consumer.run(marks?.slab.bytes.subarray(run.offset, run.offset + run.size), first, count);
  }
}

/** A long run in parts, so that an entry in the middle is found without reading all before it. */
function indexRun(run: RunSummary, marks: Marks | undefined, segments: Segments): void {
  const { space, first, count, lsn, offset, size } = run;
  let begin = 0;
  let begun = 0;
  while (marks) {
    const at = marks.slab.marks[marks.at]! - offset;
    // None is left, or it is of a run behind this one.
    if (!(at > 0 && at < size)) break;
    const n = marks.slab.marks[marks.at + 1]!;
    segments.addToIndex(space.slot, first + begun, n - begun, lsn + begin, at - begin);
    [begin, begun] = [at, n];
    marks.at += 2;
  }
  segments.addToIndex(space.slot, first + begun, count - begun, lsn + begin, size - begin);
}
