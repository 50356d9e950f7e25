/**
 * Opening a log: newest valid state, then the entries behind it, around whatever is damaged, then
 * the decision where the log ends (shared/log/segment.ts), then a tail that is durable before the
 * first new write. Idempotent: a crash in here leaves what the next opening handles the same way.
 */
import path from 'node:path';
import { type EngramError, failure } from '../../shared/errors.js';
import { SPACES_A_TURN, TRAILER_BYTES } from '../../shared/limits.js';
import {
  decideEnd,
  type End,
  type EndFacts,
  type Evidence,
  segmentName,
} from '../../shared/log/segment.js';
import type { SpaceFacts } from '../../shared/log/space-facts.js';
import { type Hole, type State, type StateOwner, StateReader } from '../../shared/log/state.js';
import type { Lsn, Sequence } from '../../shared/position.js';
import { nextTurn } from '../runtime/turns.js';
import { type Disk, type DiskFile, readSmallFile } from '../segments/disk.js';
import { EMPTY, headOf, isZero, type SegmentHead, searchBehind } from '../segments/head.js';
import { keepCopy, settleTail } from '../segments/log-end.js';
import type { Segment } from '../segments/segments.js';
import { type BadPlace, walkOver, walkSegment } from '../segments/walk.js';
import { type LogDirectory, readDirectory } from './log-directory.js';
import { corrupt, holesOutside, Replay } from './replay.js';

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
  /** Whose it is, as a state says that says all else here, too; undefined: none does. */
  readonly stated: StateOwner | undefined;
  readonly torn: TornTail | undefined;
  readonly holes: readonly Hole[];
  /** Segments before the state's LSN that are not there: which entries they held is not known. */
  readonly missing: readonly Hole[];
  /** Holes met now, not known to the state. */
  readonly isDamageNew: boolean;
  /** undefined for a new directory. */
  readonly report: RecoveryReport | undefined;
}

/** A log that reads otherwise each time is read so often. */
const ATTEMPTS = 3;

/**
 * Recovers the log in `dir`.
 * @param strictTail a torn tail throws, instead of being cut: nothing is touched (rule A)
 * @param isHanded the host was handed what the node led, too: it has applied nothing by itself
 * Throws CorruptionDetected, UnsupportedVersion, DiskFull, Io.
 */
export async function recover(
  disk: Disk,
  dir: string,
  salt: number,
  segmentBytes: number,
  strictTail = false,
  isHanded = false,
): Promise<Recovered> {
  for (let attempt = 1; ; attempt++) {
    const recovered = await readLog(disk, dir, salt, segmentBytes, strictTail, isHanded);
    if (recovered) return recovered;
    if (attempt < ATTEMPTS) continue;
    throw failure('Io', `the log in ${dir} was read ${ATTEMPTS} times, each time otherwise`);
  }
}

/** @returns undefined where entries were read once, and not again: all is to be read anew */
async function readLog(
  disk: Disk,
  dir: string,
  salt: number,
  segmentBytes: number,
  strictTail: boolean,
  isHanded: boolean,
): Promise<Recovered | undefined> {
  const { state, isWhole } = await readStates(disk, dir);
  const found = await readDirectory(disk, dir, state, segmentBytes);
  const { segments, spares, leftovers } = found;
  const replay = new Replay(state, isHanded);
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
      stated: undefined,
    };
    const report = undefined;
    return { ...fresh, segments, spares, leftovers, stateGeneration, isDamageNew: false, report };
  }
  const known = replay.holes.length;
  for (const hole of found.missing) replay.missing(hole, state?.lsn ?? 0);
  const tail = await new Scan(disk, dir, salt, segments, replay, state, strictTail).run();
  if (!tail) return undefined;
  replay.finish();
  const isSame = isWhole && replay.holes.length === known && saysAll(state!, found, tail);
  return {
    ...tail,
    stated: isSame ? state : undefined,
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

/** Nothing stands behind the state, nothing is to be removed, and the log is as it lists it. */
function saysAll(state: State, { segments, leftovers, missing }: LogDirectory, tail: Tail) {
  const { end, torn, empty } = tail;
  const isAtEnd = state.lsn === end && state.durableLsn === end && !torn;
  const last = segments.at(-1)!;
  // The next one is made ahead, and stays.
  const next = segmentName(last.start + last.size);
  const isClean = leftovers.length + missing.length === 0 && empty.every((name) => name === next);
  const isListed = ({ start, size, end: last }: Segment, at: number): boolean => {
    const listed = state.segments[at];
    return listed?.start === start && listed.size === size && listed.end === last;
  };
  const isSame = segments.length === state.segments.length && segments.every(isListed);
  // One that holds nothing yet is made anew.
  return isAtEnd && isClean && isSame && last.start < end;
}

/** The valid state of the higher generation, read in turns; undefined where neither is valid. */
export async function newestState(disk: Disk, dir: string): Promise<State | undefined> {
  return (await readStates(disk, dir)).state;
}

interface ReadStates {
  readonly state: State | undefined;
  /** Both files are there and valid, and of this release: where one is lost, the other one is. */
  readonly isWhole: boolean;
}

async function readStates(disk: Disk, dir: string): Promise<ReadStates> {
  const found: StateReader[] = [];
  let unreadable: unknown;
  for (const name of STATE_FILES) {
    const bytes = await readSmallFile(disk, dir, name, STATE_MAX_BYTES).catch((error) => {
      if ((error as EngramError).code !== 'Io') throw error;
      unreadable = error;
      return undefined;
    });
    const reader = bytes && (await unlessDamaged(async () => new StateReader(bytes)));
    if (reader) found.push(reader);
  }
  for (const reader of found.sort((a, b) => b.generation - a.generation)) {
    const state = await unlessDamaged(async () => {
      while (reader.rows(SPACES_A_TURN)) await nextTurn();
      return reader.finish();
    });
    if (!state) continue;
    const isWhole = found.length === STATE_FILES.length && found.every((one) => one.isCurrent);
    return { state, isWhole: isWhole && reader === found[0] };
  }
  // It may be that the disk is away for a moment, and that both are whole.
  if (unreadable) throw unreadable;
  return { state: undefined, isWhole: false };
}

/** The other generation, or the whole log, says the same; a newer release's is not ours. */
async function unlessDamaged<T>(work: () => Promise<T>): Promise<T | undefined> {
  try {
    return await work();
  } catch (error) {
    if ((error as EngramError).code !== 'CorruptionDetected') throw error;
    return undefined;
  }
}

/** What of the holes lies where no segment is: missing, or freed since, which nobody lacks. */
function uncovered(holes: readonly Hole[], segments: readonly Segment[]): Hole[] {
  let left = [...holes];
  for (const { start, size } of segments) left = holesOutside(left, start, start + size);
  return left;
}

type Tail = Pick<Recovered, 'end' | 'empty' | 'torn' | 'report'>;

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

  async run(): Promise<Tail | undefined> {
    const segments = this.#segments;
    const from = this.#state?.lsn ?? 0;
    const first = segments.findIndex((s) => s.start + s.size >= from);
    if (first < 0) throw corrupt(`the state begins at LSN ${from}, which no segment holds`);
    const heads = await this.#heads(first);
    const acknowledged = this.#state?.durableLsn ?? 0;
    // The last one that ever held something: by what stands in it, or by the state.
    const last = segments.findLastIndex((segment, i) => {
      const head = heads[i];
      return head?.isThere || head?.isTouched || segment.start < acknowledged || i === first;
    });
    for (let i = first; ; i++) {
      const segment = segments[i]!;
      const name = path.join(this.#dir, segmentName(segment.start));
      // What is not written on may have sectors that cannot be read.
      const file = await this.#disk.open(name, i === last ? 'write' : 'read');
      try {
        const start = Math.max(from, segment.start);
        if (i === last) return await this.#last(file, i, start);
        const next = heads.slice(i + 1).find((head) => head?.isThere || head?.isTouched);
        await this.#sealed(file, segment, start, next ?? EMPTY);
      } finally {
        await file.close();
      }
    }
  }

  /** By index; those of segments before the first one that is read are left out. */
  async #heads(first: number): Promise<(SegmentHead | undefined)[]> {
    const heads: (SegmentHead | undefined)[] = Array.from({ length: first });
    for (const segment of this.#segments.slice(first)) {
      const name = path.join(this.#dir, segmentName(segment.start));
      const file = await this.#disk.open(name, 'read');
      try {
        heads.push(await headOf(file, segment, this.#salt));
      } finally {
        await file.close();
      }
    }
    return heads;
  }

  #visit = (bytes: Uint8Array, view: DataView, at: number, lsn: Lsn): void => {
    this.#replay.entry(bytes, view, at, lsn);
  };

  /**
   * A segment with another one behind it: it ends where the next one's first entry says, or where
   * the list does. The list may be older than the file, and what is told by a later group may be,
   * too: good entries behind count.
   */
  async #sealed(file: DiskFile, segment: Segment, from: Lsn, next: SegmentHead): Promise<void> {
    const { start, size } = segment;
    const segmentEnd = start + size;
    const listed = segment.end;
    if (listed !== undefined && listed > segmentEnd) {
      throw corrupt(`${segmentName(start)} would end at LSN ${listed}, outside of it`);
    }
    // Behind this one: then one that is missing, or wholly lost, stood between.
    const told = next.previousEnd !== undefined && next.previousEnd <= segmentEnd;
    const known = told ? Math.max(listed ?? 0, next.previousEnd!) : listed;
    const bad = (place: BadPlace): void => this.#replay.bad(place);
    let x = await walkSegment(file, segment, from, this.#salt, this.#visit);
    const evidence: Evidence = { durableLsn: 0, lastEnd: undefined };
    await searchBehind(file, segment, x, this.#salt, evidence);
    const limit = Math.min(Math.max(known ?? 0, evidence.lastEnd ?? 0), segmentEnd);
    if (x < limit) x = await walkOver(file, segment, x, limit, limit, this.#salt, this.#visit, bad);
    const isCertain = told && next.isFirst && x === Math.max(next.previousEnd!, start);
    const isNothing = x === start && known === undefined;
    if (!isCertain && x < segmentEnd && (isNothing || !(await isZero(file, segment, x)))) {
      bad({ start: x, end: segmentEnd, entry: undefined });
    }
    // Before its own head: nothing has ever stood in it.
    segment.end = x === start && told ? Math.min(next.previousEnd!, start) : x;
  }

  /** The last segment: clean, torn or rotten, by the table at `decideEnd`. */
  async #last(file: DiskFile, index: number, from: Lsn): Promise<Tail | undefined> {
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
  ): Promise<Tail | undefined> {
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
    await settleTail(this.#disk, this.#dir, file, segment, w, x);
    // Pages that never reached the disk leave the cache when it likes: read, and gone when they
    // were to be written again (row 104). What is durable now is what counts.
    const settled = Math.min(Math.max(w, segment.start), x);
    const again = await walkSegment(file, segment, settled, this.#salt, () => undefined);
    if (again < x) return undefined;
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
}
