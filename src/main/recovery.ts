/**
 * Opening a log: newest valid state, then the entries behind it, then the decision where the log
 * ends (shared/segment.ts), then a tail that is durable before the first new write. Idempotent:
 * a crash in here leaves what the next opening handles in the same way.
 */
import path from 'node:path';
import {
  readDurableLsn,
  readEpoch,
  readHeaderCrc,
  readPayloadSize,
  readSequence,
  readSpaceId,
  readTimestamp,
} from '../shared/entry.js';
import { type EngramError, failure } from '../shared/errors.js';
import { ENTRY_HEADER_BYTES, READ_CHUNK_BYTES, TRAILER_BYTES } from '../shared/limits.js';
import { decodeNodeRecord, NODE_SPACE_ID } from '../shared/node-record.js';
import type { Lsn, Sequence } from '../shared/position.js';
import {
  decideEnd,
  type Evidence,
  gatherEvidence,
  look,
  segmentName,
  segmentStart,
} from '../shared/segment.js';
import { SegmentIndex } from '../shared/segment-index.js';
import { decodeState, newSpaceFacts, type SpaceFacts, type State } from '../shared/state.js';
import { type Disk, type DiskFile, readSmallFile } from './disk.js';
import { idOf } from './names.js';
import { isSpareName, type Segment } from './segments.js';

export const STATE_FILES = ['state-0', 'state-1'] as const;
const STATE_MAX_BYTES = 512 * 1024 * 1024;
const QUARANTINE = 'quarantine';
const ZEROS = new Uint8Array(1024 * 1024);

/** What a torn tail was: for the event, the log line, the metric. */
export interface TornTail {
  readonly lsn: Lsn;
  /** From the cut to the end of the last good entry behind it, or 64 where there is none. */
  readonly bytes: number;
  /** File that keeps good entries from behind the cut. */
  readonly quarantine: string | undefined;
}

export interface Recovered {
  readonly spaces: readonly SpaceFacts[];
  readonly nodeSequence: Sequence;
  readonly segments: Segment[];
  readonly spares: string[];
  /** Where the next entry goes; all before it is durable. */
  readonly end: Lsn;
  /** Files of segments without an entry behind the end: to be removed after the next state. */
  readonly empty: readonly string[];
  readonly stateGeneration: number;
  readonly torn: TornTail | undefined;
}

/** What `finishTail` leaves. */
type Tail = Pick<Recovered, 'end' | 'empty' | 'torn'>;

interface Directory {
  readonly segments: Segment[];
  readonly spares: string[];
}

/** Recovers the log in `dir`. Throws CorruptionDetected (rot), UnsupportedVersion, Io. */
export async function recover(
  disk: Disk,
  dir: string,
  salt: number,
  segmentBytes: number,
): Promise<Recovered> {
  const state = await newestState(disk, dir);
  const { segments, spares } = await readDirectory(disk, dir, state, segmentBytes);
  const replay = new Replay(state);
  if (segments.length === 0) {
    if (state) throw corrupt(`a state names ${state.segments.length} segments, none is there`);
    return {
      spaces: [],
      nodeSequence: 0,
      segments,
      spares,
      end: 0,
      empty: [],
      stateGeneration: 0,
      torn: undefined,
    };
  }
  const { end, torn, empty } = await scanLog(disk, dir, salt, segments, replay, state);
  return {
    spaces: [...replay.spaces.values()],
    nodeSequence: replay.nodeSequence,
    segments,
    spares,
    end,
    empty,
    stateGeneration: state?.generation ?? 0,
    torn,
  };
}

function corrupt(found: string, cause?: unknown): EngramError {
  return failure('CorruptionDetected', found, cause === undefined ? {} : { cause });
}

/** The valid state of the higher generation; undefined where neither is valid. */
export async function newestState(disk: Disk, dir: string): Promise<State | undefined> {
  let newest: State | undefined;
  for (const name of STATE_FILES) {
    const bytes = await readSmallFile(disk, dir, name, STATE_MAX_BYTES);
    if (!bytes) continue;
    try {
      const state = decodeState(bytes);
      if (!newest || state.generation > newest.generation) newest = state;
    } catch (error) {
      // The other generation, or the whole log, says the same; a newer release's is not ours.
      if ((error as EngramError).code !== 'CorruptionDetected') throw error;
    }
  }
  return newest;
}

async function readDirectory(
  disk: Disk,
  dir: string,
  state: State | undefined,
  segmentBytes: number,
): Promise<Directory> {
  const segments: Segment[] = [];
  const spares: string[] = [];
  const names = await disk.list(dir);
  for (const name of names) {
    const start = segmentStart(name);
    if (start === undefined && !isSpareName(name)) continue;
    const size = await sizeOf(disk, path.join(dir, name));
    if (start === undefined) {
      if (size === segmentBytes) spares.push(name);
    } else {
      const listed = state?.segments.find((s) => s.start === start);
      segments.push({ start, size, end: listed?.end, index: undefined });
    }
  }
  for (const listed of state?.segments ?? []) {
    if (!segments.some((s) => s.start === listed.start && s.size === listed.size)) {
      throw corrupt(`${segmentName(listed.start)} is listed in the state, but not whole or absent`);
    }
  }
  const first = segments[0];
  if (first && !state && first.start !== 0) {
    throw corrupt(`no state, and the log begins at LSN ${first.start} instead of 0`);
  }
  for (let i = 1; i < segments.length; i++) {
    const expected = segments[i - 1]!.start + segments[i - 1]!.size;
    if (segments[i]!.start !== expected) {
      throw corrupt(`${segmentName(expected)} is missing in the middle of the log`);
    }
  }
  return { segments, spares };
}

async function sizeOf(disk: Disk, file: string): Promise<number> {
  const open = await disk.open(file, 'read');
  try {
    return await open.size();
  } finally {
    await open.close();
  }
}

/** Takes entries in LSN order and keeps what they say about spaces. */
class Replay {
  readonly spaces = new Map<string, SpaceFacts>();
  nodeSequence: Sequence;
  readonly #rowLsn = new Map<string, Lsn>();
  readonly #nodeLsn: Lsn;

  constructor(state: State | undefined) {
    this.nodeSequence = state?.nodeSequence ?? 0;
    this.#nodeLsn = state?.lsn ?? 0;
    for (const row of state?.spaces ?? []) {
      this.spaces.set(row.facts.id, row.facts);
      this.#rowLsn.set(row.facts.id, row.lsn);
    }
  }

  entry(bytes: Uint8Array, view: DataView, at: number, lsn: Lsn): void {
    const id = readSpaceId(view, at);
    if (id === NODE_SPACE_ID) this.#record(bytes, view, at, lsn);
    else if (lsn >= (this.#rowLsn.get(id) ?? 0)) this.#spaceEntry(id, view, at, lsn);
  }

  #spaceEntry(id: string, view: DataView, at: number, lsn: Lsn): void {
    const facts = this.spaces.get(id);
    const sequence = readSequence(view, at);
    if (!facts) throw corrupt(`entry at LSN ${lsn} of a space ${id} that no record registers`);
    if (sequence !== facts.position.sequence + 1) {
      const after = facts.position.sequence;
      throw corrupt(`entry ${sequence} of ${facts.name} at LSN ${lsn} follows entry ${after}`);
    }
    const epoch = readEpoch(view, at);
    if (epoch > (facts.history.at(-1)?.epoch ?? 0)) {
      const primaryNodeId = idOf(facts.primary);
      facts.history.push({ epoch, startSequence: sequence, primaryNodeId });
    }
    facts.position = { epoch, sequence, headerCrc: readHeaderCrc(view, at) };
    facts.timestamp = readTimestamp(view, at);
  }

  #record(bytes: Uint8Array, view: DataView, at: number, lsn: Lsn): void {
    const sequence = readSequence(view, at);
    // The state's node sequence may run ahead of its LSN: rows are taken while entries come.
    if (sequence > this.nodeSequence) {
      if (sequence !== this.nodeSequence + 1 && lsn >= this.#nodeLsn) {
        throw corrupt(`node record ${sequence} at LSN ${lsn} follows ${this.nodeSequence}`);
      }
      this.nodeSequence = sequence;
    }
    const start = at + ENTRY_HEADER_BYTES;
    const record = decodeNodeRecord(bytes.subarray(start, start + readPayloadSize(view, at)));
    if (record.kind === 'mark') return;
    if (lsn < (this.#rowLsn.get(record.id) ?? 0)) return;
    applyRecord(this.spaces, record);
  }
}

/** What a durable node record means for the facts of the space it names. */
export function applyRecord(
  spaces: Map<string, SpaceFacts>,
  record: Exclude<ReturnType<typeof decodeNodeRecord>, { kind: 'mark' }>,
): void {
  let facts = spaces.get(record.id);
  if (!facts) {
    facts = newSpaceFacts(record.id, record.kind === 'space' ? record.name : '');
    spaces.set(record.id, facts);
  }
  switch (record.kind) {
    case 'space':
      facts.name = record.name;
      facts.role = record.role;
      facts.epoch = record.epoch;
      facts.epochSeen = Math.max(facts.epochSeen, record.epoch);
      facts.primary = record.primary;
      facts.members = record.members;
      break;
    case 'epoch-seen':
      facts.epochSeen = Math.max(facts.epochSeen, record.epoch);
      break;
    case 'applied':
      facts.applied = Math.max(facts.applied, record.sequence);
      break;
  }
}

/**
 * Walks one segment from `from`, until `visit` returns false.
 * @returns X, the first byte that is no part of a good entry, or where the visit ended
 */
export async function walkSegment(
  file: DiskFile,
  segment: { readonly start: Lsn; readonly size: number },
  from: Lsn,
  salt: number,
  visit: (bytes: Uint8Array, view: DataView, at: number, lsn: Lsn) => unknown,
): Promise<Lsn> {
  const segmentEnd = segment.start + segment.size;
  let chunk = READ_CHUNK_BYTES;
  let lsn = from;
  for (;;) {
    const bytes = new Uint8Array(Math.min(chunk, segmentEnd - lsn));
    const got = bytes.subarray(0, await file.read(bytes, lsn - segment.start));
    const view = new DataView(got.buffer, 0, got.length);
    let at = 0;
    let found = look(got, view, at, lsn, segmentEnd, salt);
    while (found === 'entry') {
      if (visit(got, view, at, lsn + at) === false) return lsn + at;
      at += ENTRY_HEADER_BYTES + readPayloadSize(view, at);
      found = look(got, view, at, lsn + at, segmentEnd, salt);
    }
    lsn += at;
    if (found !== 'short') return lsn;
    if (at === 0) {
      // One entry is longer than the window; it was bounded by the segment already.
      if (chunk >= segment.size) return lsn;
      chunk = Math.min(segment.size, 4 * chunk);
    }
  }
}

async function scanLog(
  disk: Disk,
  dir: string,
  salt: number,
  segments: Segment[],
  replay: Replay,
  state: State | undefined,
): Promise<Tail> {
  const from = state?.lsn ?? 0;
  const first = segments.findIndex((s) => from >= s.start && from <= s.start + s.size);
  if (first < 0) throw corrupt(`the state begins at LSN ${from}, which no segment holds`);
  for (let i = first; i < segments.length; i++) {
    const segment = segments[i]!;
    const file = await disk.open(path.join(dir, segmentName(segment.start)), 'write');
    try {
      const start = Math.max(from, segment.start);
      const x = await walkSegment(file, segment, start, salt, (bytes, view, at, lsn) => {
        replay.entry(bytes, view, at, lsn);
      });
      const later = await laterSegments(disk, dir, salt, segments.slice(i + 1));
      const evidence: Evidence = { durableLsn: 0, lastEnd: undefined };
      if (later.firstDurableLsn === undefined) {
        await searchBehind(file, segment, x, salt, evidence);
      }
      const listedEnd = state?.segments.find((s) => s.start === segment.start)?.end;
      const w = Math.max(evidence.durableLsn, later.w, state?.durableLsn ?? 0);
      const zerosAtX = await isZero(file, segment, x);
      const goodBehind = evidence.lastEnd !== undefined;
      const nextDurableLsn = later.firstDurableLsn;
      const end = decideEnd({ x, zerosAtX, w, goodBehind, nextDurableLsn, listedEnd });
      if (end === 'rot') {
        throw corrupt(
          `rot at LSN ${x} in ${segmentName(segment.start)}: acknowledged up to ${w}, ` +
            `good entries behind: ${goodBehind}, next segment from ${nextDurableLsn ?? 'none'}`,
        );
      }
      if (nextDurableLsn !== undefined) {
        segment.end = x;
        continue;
      }
      return await finishTail(disk, dir, segments, i, file, x, w, end === 'torn', evidence);
    } finally {
      await file.close();
    }
  }
  throw corrupt('a log whose last segment is empty');
}

/** What the segments behind this one show: their first entry, and W. */
async function laterSegments(
  disk: Disk,
  dir: string,
  salt: number,
  segments: readonly Segment[],
): Promise<{ firstDurableLsn: Lsn | undefined; w: Lsn }> {
  let w = 0;
  let firstDurableLsn: Lsn | undefined;
  for (const segment of segments) {
    const file = await disk.open(path.join(dir, segmentName(segment.start)), 'read');
    try {
      const head = new Uint8Array(ENTRY_HEADER_BYTES);
      await file.read(head, 0);
      const view = new DataView(head.buffer);
      const end = segment.start + segment.size;
      const found = look(head, view, 0, segment.start, end, salt);
      if (found === 'entry' || found === 'short' || found === 'bad-payload') {
        // One good head is all that a clean end needs; the next round scans the rest.
        firstDurableLsn = readDurableLsn(view, 0, segment.start);
        return { firstDurableLsn, w: Math.max(w, firstDurableLsn) };
      }
      const evidence: Evidence = { durableLsn: 0, lastEnd: undefined };
      await searchBehind(file, segment, segment.start, salt, evidence);
      if (evidence.lastEnd !== undefined) {
        return { firstDurableLsn: evidence.durableLsn, w: Math.max(w, evidence.durableLsn) };
      }
      w = Math.max(w, evidence.durableLsn);
    } finally {
      await file.close();
    }
  }
  return { firstDurableLsn, w };
}

async function searchBehind(
  file: DiskFile,
  segment: Segment,
  x: Lsn,
  salt: number,
  evidence: Evidence,
): Promise<void> {
  const end = segment.start + segment.size;
  const window = new Uint8Array(READ_CHUNK_BYTES);
  for (let lsn = x; lsn + ENTRY_HEADER_BYTES <= end; lsn += window.length - ENTRY_HEADER_BYTES) {
    const got = window.subarray(0, await file.read(window, lsn - segment.start));
    gatherEvidence(evidence, got, new DataView(got.buffer, 0, got.length), lsn, salt);
    if (got.length < window.length) return;
  }
}

async function isZero(file: DiskFile, segment: Segment, x: Lsn): Promise<boolean> {
  const head = new Uint8Array(Math.min(TRAILER_BYTES, segment.start + segment.size - x));
  await file.read(head, x - segment.start);
  return head.every((byte) => byte === 0);
}

/**
 * Makes the end of the log fit to be written on: good headers behind X to quarantine, the bytes
 * from W to X written again (a page that failed to reach the disk may look clean in the cache),
 * zeros from X to the segment's end, all durable. The empty segments behind are named only: a
 * state may list them, so they stay until one that does not is durable.
 */
async function finishTail(
  disk: Disk,
  dir: string,
  segments: Segment[],
  last: number,
  file: DiskFile,
  x: Lsn,
  w: Lsn,
  isTorn: boolean,
  evidence: Evidence,
): Promise<Tail> {
  const segment = segments[last]!;
  const segmentEnd = segment.start + segment.size;
  let quarantine: string | undefined;
  if (evidence.lastEnd !== undefined) {
    quarantine = await keepCopy(
      disk,
      dir,
      file,
      segment,
      x,
      Math.min(evidence.lastEnd, segmentEnd),
    );
  }
  for (let lsn = Math.max(w, segment.start); lsn < x; lsn += ZEROS.length) {
    const bytes = new Uint8Array(Math.min(ZEROS.length, x - lsn));
    await file.read(bytes, lsn - segment.start);
    await file.write(bytes, lsn - segment.start);
  }
  for (let lsn = x; lsn < segmentEnd; lsn += ZEROS.length) {
    await file.write(ZEROS.subarray(0, segmentEnd - lsn), lsn - segment.start);
  }
  await file.syncAll();
  const empty = segments.splice(last + 1).map((s) => segmentName(s.start));
  segment.end = undefined;
  const bytes = (evidence.lastEnd ?? x + TRAILER_BYTES) - x;
  // Padding never counts: where the segment's head itself was torn, the log ends before it.
  const before = x === segment.start ? segments[last - 1]?.end : undefined;
  return { end: before ?? x, empty, torn: isTorn ? { lsn: x, bytes, quarantine } : undefined };
}

async function keepCopy(
  disk: Disk,
  dir: string,
  file: DiskFile,
  segment: Segment,
  from: Lsn,
  to: Lsn,
): Promise<string> {
  const folder = path.join(dir, QUARANTINE);
  await disk.makeDir(folder);
  // An earlier tear at the same place keeps its own copy.
  const tear = `torn-${from.toString(16).padStart(16, '0')}`;
  const earlier = (await disk.list(folder)).filter((file) => file.startsWith(tear)).length;
  const name = path.join(folder, `${tear}-${earlier + 1}.bin`);
  const copy = await disk.open(name, 'create');
  try {
    await copy.truncate(0);
    const bytes = new Uint8Array(READ_CHUNK_BYTES);
    for (let lsn = from; lsn < to; lsn += bytes.length) {
      const want = bytes.subarray(0, Math.min(bytes.length, to - lsn));
      const got = await file.read(want, lsn - segment.start);
      await copy.write(want.subarray(0, got), lsn - from);
    }
    await copy.syncAll();
  } finally {
    await copy.close();
  }
  await disk.syncDir(folder);
  await disk.syncDir(dir);
  return name;
}

/** Scans a sealed segment and builds its index. `slotOf` maps a space id to its slot. */
export async function buildIndex(
  disk: Disk,
  dir: string,
  salt: number,
  segment: Segment,
  slotOf: (id: string) => number | undefined,
): Promise<SegmentIndex> {
  const index = new SegmentIndex();
  const file = await disk.open(path.join(dir, segmentName(segment.start)), 'read');
  try {
    await walkSegment(file, segment, segment.start, salt, (_bytes, view, at, lsn) => {
      const slot = slotOf(readSpaceId(view, at));
      const bytes = ENTRY_HEADER_BYTES + readPayloadSize(view, at);
      if (slot !== undefined) index.add(slot, readSequence(view, at), 1, lsn, bytes);
    });
  } finally {
    await file.close();
  }
  return index;
}
