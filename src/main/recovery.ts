/**
 * Opening a log: newest valid state, then the entries behind it, around whatever is damaged, then
 * the decision where the log ends (shared/segment.ts), then a tail that is durable before the
 * first new write. Idempotent: a crash in here leaves what the next opening handles the same way.
 */
import path from 'node:path';
import type { EngramError } from '../shared/errors.js';
import { ENTRY_HEADER_BYTES, TRAILER_BYTES } from '../shared/limits.js';
import type { Lsn, Sequence } from '../shared/position.js';
import {
  decideEnd,
  type End,
  type EndFacts,
  type Evidence,
  indexStart,
  look,
  segmentName,
  segmentStart,
} from '../shared/segment.js';
import { decodeState, type Hole, type SpaceFacts, type State } from '../shared/state.js';
import { type Disk, type DiskFile, readSmallFile } from './disk.js';
import { corrupt, holesOutside, Replay } from './replay.js';
import { EMPTY, headOf, type SegmentHead, searchBehind } from './segment-head.js';
import { walkAround, walkOver, walkSegment } from './segment-walk.js';
import { isSpareName, newSegment, type Segment } from './segments.js';
import { keepCopy, settleTail } from './tail.js';

export const STATE_FILES = ['state-0', 'state-1'] as const;
const STATE_MAX_BYTES = 512 * 1024 * 1024;

/** What a torn tail was: for the event, the log line, the metric. */
export interface TornTail {
  readonly lsn: Lsn;
  /** From the cut to the end of the last good entry behind it, or 64 where there is none. */
  readonly bytes: number;
  /** File that keeps good entries from behind the cut. */
  readonly quarantine: string | undefined;
}

/** What was decided about the end of the log, and on what evidence (FAULTS: rules R, T, A). */
export interface RecoveryReport {
  readonly decision: Exclude<End, 'rot'>;
  /** LSN from which the log was read: that of the newest state. */
  readonly from: Lsn;
  readonly entries: number;
  /** The decision's own facts: X, W, what stands at and behind X. */
  readonly evidence: EndFacts;
  /** Damaged places that are known: these were read around. */
  readonly holes: readonly Hole[];
}

export interface Recovered {
  readonly spaces: readonly SpaceFacts[];
  readonly nodeSequence: Sequence;
  readonly segments: Segment[];
  readonly spares: string[];
  /** Freed before the last close, or being freed: no longer part of the log. */
  readonly leftovers: readonly Segment[];
  /** Where the next entry goes; all before it is durable. */
  readonly end: Lsn;
  /** Files of segments without an entry behind the end: to be removed after the next state. */
  readonly empty: readonly string[];
  readonly stateGeneration: number;
  readonly torn: TornTail | undefined;
  readonly holes: readonly Hole[];
  /** Segments before the state's LSN that are not there: which entries they held is not known. */
  readonly missing: readonly Hole[];
  /** Holes met now, not known to the state. */
  readonly isDamageNew: boolean;
  /** undefined for a new directory. */
  readonly report: RecoveryReport | undefined;
}

interface Directory {
  readonly segments: Segment[];
  readonly spares: string[];
  readonly leftovers: Segment[];
  /** Where segments that should be there are not, or not whole. */
  readonly missing: Hole[];
}

/**
 * Recovers the log in `dir`.
 * @param strictTail a torn tail throws, instead of being cut: nothing is touched (rule A)
 * Throws CorruptionDetected, UnsupportedVersion, DiskFull, Io.
 */
export async function recover(
  disk: Disk,
  dir: string,
  salt: number,
  segmentBytes: number,
  strictTail = false,
): Promise<Recovered> {
  const state = await newestState(disk, dir);
  const found = await readDirectory(disk, dir, state, segmentBytes);
  const { segments, spares, leftovers } = found;
  const replay = new Replay(state);
  const stateGeneration = state?.generation ?? 0;
  if (segments.length === 0) {
    if (state) throw corrupt(`a state names ${state.segments.length} segments, none is there`);
    const fresh = {
      spaces: [],
      nodeSequence: 0,
      end: 0,
      empty: [],
      torn: undefined,
      missing: [],
      holes: [],
    };
    const report = undefined;
    return { ...fresh, segments, spares, leftovers, stateGeneration, isDamageNew: false, report };
  }
  const known = replay.holes.length;
  for (const hole of found.missing) replay.missing(hole, state?.lsn ?? 0);
  const tail = await new Scan(disk, dir, salt, segments, replay, state, strictTail).run();
  replay.finish();
  return {
    ...tail,
    spaces: [...replay.spaces.values()],
    nodeSequence: replay.nodeSequence,
    segments,
    spares,
    leftovers,
    stateGeneration,
    // Those that the state knows as holes, too: a crash may have come before it knew whose.
    missing: uncovered(replay.holes, segments).filter((hole) => hole.start < (state?.lsn ?? 0)),
    holes: replay.holes,
    isDamageNew: replay.holes.length > known,
  };
}

/** The valid state of the higher generation; undefined where neither is valid. */
export async function newestState(disk: Disk, dir: string): Promise<State | undefined> {
  let newest: State | undefined;
  for (const name of STATE_FILES) {
    try {
      const bytes = await readSmallFile(disk, dir, name, STATE_MAX_BYTES);
      if (!bytes) continue;
      const state = decodeState(bytes);
      if (!newest || state.generation > newest.generation) newest = state;
    } catch (error) {
      // The other generation, or the whole log, says the same; a newer release's is not ours.
      if ((error as EngramError).code !== 'CorruptionDetected') throw error;
    }
  }
  return newest;
}

/** Which files are the log: what the state lists, and what was begun behind it. */
async function readDirectory(
  disk: Disk,
  dir: string,
  state: State | undefined,
  segmentBytes: number,
): Promise<Directory> {
  const segments: Segment[] = [];
  const spares: string[] = [];
  const leftovers: Segment[] = [];
  const names = await disk.list(dir);
  for (const name of names) {
    const start = segmentStart(name);
    if (start === undefined) {
      const isSpare = isSpareName(name);
      if (isSpare && (await sizeOf(disk, path.join(dir, name))) === segmentBytes) spares.push(name);
      continue;
    }
    const size = await sizeOf(disk, path.join(dir, name));
    const listed = state?.segments.find((s) => s.start === start);
    // Cut short, with the next one where its own end was.
    const isShort = size < segmentBytes && names.includes(segmentName(start + segmentBytes));
    const whole = listed?.size ?? (isShort ? segmentBytes : size);
    const segment = newSegment(start, whole, listed?.end);
    // Nothing that a state still lists is ever removed by it (DESIGN 4, State).
    if (state && !listed && start < state.lsn) leftovers.push({ ...segment, size });
    else segments.push(segment);
  }
  await removeStrayIndexes(disk, dir, names);
  const missing = holesBetween(segments, state);
  return { segments, spares, leftovers, missing };
}

/** An index without its segment is of no use. */
async function removeStrayIndexes(disk: Disk, dir: string, names: string[]): Promise<void> {
  for (const name of names) {
    const start = indexStart(name);
    if (start === undefined || names.includes(segmentName(start))) continue;
    await disk.remove(path.join(dir, name));
  }
}

function holesBetween(segments: readonly Segment[], state: State | undefined): Hole[] {
  const holes: Hole[] = [];
  const first = segments[0];
  if (first && !state && first.start !== 0) {
    throw corrupt(`no state, and the log begins at LSN ${first.start} instead of 0`);
  }
  for (const { start, size, end } of state?.segments ?? []) {
    if (segments.some((s) => s.start === start)) continue;
    if (end === undefined) throw corrupt(`${segmentName(start)}, the last segment, is missing`);
    holes.push({ start, end: start + size });
  }
  const lastListed = state?.segments.at(-1)?.start ?? 0;
  for (let i = 1; i < segments.length; i++) {
    const start = segments[i - 1]!.start + segments[i - 1]!.size;
    const end = segments[i]!.start;
    // Before the last listed one the list alone says what must be there.
    if (start !== end && end > lastListed) holes.push({ start, end });
  }
  if (!state && holes[0]) throw corrupt(`no state, and the log misses LSN ${holes[0].start} on`);
  return holes;
}

/** What of the holes lies where no segment is: missing, or freed since, which nobody lacks. */
function uncovered(holes: readonly Hole[], segments: readonly Segment[]): Hole[] {
  let left = [...holes];
  for (const { start, size } of segments) left = holesOutside(left, start, start + size);
  return left;
}

async function sizeOf(disk: Disk, file: string): Promise<number> {
  const open = await disk.open(file, 'read');
  try {
    return await open.size();
  } finally {
    await open.close();
  }
}

/** One reading of the log from the state on. */
class Scan {
  readonly #disk: Disk;
  readonly #dir: string;
  readonly #salt: number;
  readonly #segments: Segment[];
  readonly #replay: Replay;
  readonly #state: State | undefined;
  readonly #strictTail: boolean;

  constructor(
    disk: Disk,
    dir: string,
    salt: number,
    segments: Segment[],
    replay: Replay,
    state: State | undefined,
    strictTail: boolean,
  ) {
    this.#strictTail = strictTail;
    this.#disk = disk;
    this.#dir = dir;
    this.#salt = salt;
    this.#segments = segments;
    this.#replay = replay;
    this.#state = state;
  }

  async run(): Promise<Pick<Recovered, 'end' | 'empty' | 'torn' | 'report'>> {
    const segments = this.#segments;
    const from = this.#state?.lsn ?? 0;
    for (const [i, segment] of segments.entries()) {
      if (segment.start + segment.size < from) continue;
      const later = await this.#laterThan(i);
      const name = path.join(this.#dir, segmentName(segment.start));
      const file = await this.#disk.open(name, 'write');
      try {
        const start = Math.max(from, segment.start);
        if (later.isThere) await this.#sealed(file, segment, start, later);
        else return await this.#last(file, i, start);
      } finally {
        await file.close();
      }
    }
    throw corrupt(`the state begins at LSN ${from}, which no segment holds`);
  }

  #visit = (bytes: Uint8Array, view: DataView, at: number, lsn: Lsn): void => {
    this.#replay.entry(bytes, view, at, lsn);
  };

  /** A segment with another one behind it: it ends where the list or the next one says. */
  async #sealed(file: DiskFile, segment: Segment, from: Lsn, later: SegmentHead): Promise<void> {
    const { start, size } = segment;
    const end = segment.end ?? later.previousEnd;
    const to = end ?? start + size;
    if (to < start || to > start + size) {
      throw corrupt(`${segmentName(start)} would end at LSN ${to}, outside of it`);
    }
    await walkAround(file, segment, from, to, this.#salt, this.#visit, (place) =>
      this.#replay.bad(place),
    );
    segment.end = to;
    if (end === undefined || to + ENTRY_HEADER_BYTES > start + size) return;
    const head = new Uint8Array(ENTRY_HEADER_BYTES);
    await file.read(head, to - start);
    const found = look(head, new DataView(head.buffer), 0, to, start + size, this.#salt);
    if (found === 'bad-header') return;
    throw corrupt(`an entry at LSN ${to}, behind the end of ${segmentName(start)}`);
  }

  /** The last segment: clean, torn or rotten, by the table at `decideEnd`. */
  async #last(
    file: DiskFile,
    index: number,
    from: Lsn,
  ): Promise<Pick<Recovered, 'end' | 'empty' | 'torn' | 'report'>> {
    const segment = this.#segments[index]!;
    const listedEnd = segment.end;
    const evidence: Evidence = { durableLsn: 0, lastEnd: undefined };
    let x = await walkSegment(file, segment, from, this.#salt, this.#visit);
    await searchBehind(file, segment, x, this.#salt, evidence);
    const w = Math.max(evidence.durableLsn, this.#state?.durableLsn ?? 0);
    for (;;) {
      const goodBehind = evidence.lastEnd !== undefined && evidence.lastEnd > x;
      const zerosAtX = await isZero(file, segment, x);
      const facts = { x, zerosAtX, w, goodBehind, nextDurableLsn: undefined, listedEnd };
      const decision = decideEnd(facts);
      if (decision !== 'rot') return await this.#finish(file, index, decision, facts, evidence);
      // Nothing good behind: what is known to have been acknowledged ends at W.
      const segmentEnd = segment.start + segment.size;
      const [limit, to] = goodBehind ? [Math.min(w, evidence.lastEnd!), segmentEnd] : [w, w];
      const around = [limit, Math.min(to, segmentEnd), this.#salt] as const;
      x = await walkOver(file, segment, x, ...around, this.#visit, (place) =>
        this.#replay.bad(place),
      );
      if (x >= segmentEnd && x < w) {
        throw corrupt(`the log was acknowledged up to LSN ${w}; its last segment ends at ${x}`);
      }
    }
  }

  async #finish(
    file: DiskFile,
    index: number,
    decision: Exclude<End, 'rot'>,
    facts: EndFacts,
    evidence: Evidence,
  ): Promise<Pick<Recovered, 'end' | 'empty' | 'torn' | 'report'>> {
    const { x, w, goodBehind } = facts;
    const segments = this.#segments;
    const segment = segments[index]!;
    if (decision === 'torn' && x === 0 && !this.#state) {
      throw corrupt('no good entry and no state, but bytes that are not zero: another salt?');
    }
    if (decision === 'torn' && this.#strictTail) {
      // Rule A: damage to the very last acknowledged group looks the same.
      throw corrupt(`strictTail: a torn tail at LSN ${x}, acknowledged up to ${w} for certain`);
    }
    const behind = Math.min(evidence.lastEnd ?? x, segment.start + segment.size);
    let quarantine: string | undefined;
    if (goodBehind) {
      quarantine = await keepCopy(this.#disk, this.#dir, file, segment, x, behind);
    }
    await settleTail(file, segment, w, x);
    // A state may list the empty ones behind: they stay until one that does not is durable.
    const empty = segments.splice(index + 1).map((s) => segmentName(s.start));
    segment.end = undefined;
    const bytes = goodBehind ? behind - x : TRAILER_BYTES;
    // Padding never counts: where the segment's head itself was torn, the log ends before it.
    const before = x === segment.start ? segments[index - 1]?.end : undefined;
    return {
      end: before ?? x,
      empty,
      torn: decision === 'torn' ? { lsn: x, bytes, quarantine } : undefined,
      report: {
        decision,
        from: this.#state?.lsn ?? 0,
        entries: this.#replay.entries,
        evidence: facts,
        holes: this.#replay.holes,
      },
    };
  }

  async #laterThan(index: number): Promise<SegmentHead> {
    for (const segment of this.#segments.slice(index + 1)) {
      const name = path.join(this.#dir, segmentName(segment.start));
      const file = await this.#disk.open(name, 'read');
      try {
        // One good head is all that a clean end needs; the next round scans the rest.
        const head = await headOf(file, segment, this.#salt);
        if (head.isThere) return head;
      } finally {
        await file.close();
      }
    }
    return EMPTY;
  }
}

async function isZero(file: DiskFile, segment: Segment, x: Lsn): Promise<boolean> {
  const head = new Uint8Array(Math.min(TRAILER_BYTES, segment.start + segment.size - x));
  await file.read(head, x - segment.start);
  return head.every((byte) => byte === 0);
}
