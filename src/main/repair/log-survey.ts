/**
 * Reads a data directory as it stands, opening nothing for writing and taking no lock: every live
 * segment in order, around whatever is bad, and what is wrong with it. For `inspect` and `verify`.
 */

import { type EngramError, failure } from '../../shared/errors.js';
import { ENTRY_HEADER_BYTES, TRAILER_BYTES } from '../../shared/limits.js';
import { readPayloadSize, readSequence, readSpaceId } from '../../shared/log/entry.js';
import { NODE_SPACE_ID, type NodeRecord } from '../../shared/log/node-record.js';
import { decideEnd, type Evidence, segmentName, segmentStart } from '../../shared/log/segment.js';
import type { State } from '../../shared/log/state.js';
import type { Lsn } from '../../shared/position.js';
import { findSalt, readNodeFile } from '../recovery/node-file.js';
import { newestState } from '../recovery/recovery.js';
import { type Disk, type DiskFile, openThere } from '../segments/disk.js';
import { EMPTY, headOf, isZero, type SegmentHead, searchBehind } from '../segments/head.js';
import { type BadPlace, type Extent, type Visit, walkOver, walkSegment } from '../segments/walk.js';
import { KnownRewinds } from './known-rewinds.js';

/** `rot`: acknowledged bytes are not what was written. `warning`: strange, but harmless. */
export interface Finding {
  readonly level: 'rot' | 'warning';
  readonly file: string;
  /** LSN of the first byte, or offset in a file that is no segment of ours. */
  readonly at: number;
  /** Behind the last byte. */
  readonly end: number;
  readonly what: string;
  /** The space, where one is named. */
  readonly space: string | undefined;
}

/** So many are told one by one; all are counted. */
const FINDINGS_MAX = 100;
/** A live writer may be in the middle of a group: a bad place is read again once. */
const READ_AGAIN_MS = 200;
/** A log that goes on being rewound while it is walked is not walked for ever. */
const WALKS_MAX = 4;

/** Findings of one kind in one file come as one, with the first place (FAULTS row 81). */
export class Findings {
  readonly list: (Finding & { readonly count: number })[] = [];
  rot = 0;
  warnings = 0;

  add(finding: Finding): void {
    if (finding.level === 'rot') this.rot++;
    else this.warnings++;
    const { file, what, space } = finding;
    const i = this.list.findIndex((f) => f.file === file && f.what === what && f.space === space);
    const known = this.list[i];
    if (known) {
      const end = Math.max(known.end, finding.end);
      this.list[i] = { ...known, count: known.count + 1, end };
    } else if (this.list.length < FINDINGS_MAX) {
      this.list.push({ ...finding, count: 1 });
    }
  }

  /** What one file had is told behind what stands here. */
  addAll(other: Findings): void {
    this.rot += other.rot;
    this.warnings += other.warnings;
    this.list.push(...other.list.slice(0, FINDINGS_MAX - this.list.length));
  }
}

/**
 * Whether the newest state still counts the segment, if it ever did. A file becomes a spare only
 * when the newest state lists it no more: what was read of one that is still live was not recycled.
 */
async function isLive(disk: Disk, dir: string, start: Lsn): Promise<boolean> {
  const state = await newestState(disk, dir);
  return !state || start >= state.lsn || state.segments.some((s) => s.start === start);
}

export interface SurveyedSegment extends Extent {
  readonly file: string;
  /** Where its entries end. */
  readonly end: Lsn;
  readonly isLast: boolean;
  /** All that was written is there. */
  readonly isWhole: boolean;
}

/** What a survey hands out. */
export interface Surveyor {
  /** Gets each good entry that counts, in LSN order; of the node's own space, too. */
  readonly visit: Visit;
  /** Told of an entry that a rewind has taken back. */
  readonly voided?: (id: string) => void;
  /** Told of each segment behind its last entry; undefined: of one that was freed. */
  readonly left?: (segment: SurveyedSegment | undefined) => Promise<void>;
  /** Told of each node record that can be read. */
  readonly record?: (record: NodeRecord, lsn: Lsn) => void;
}

export interface Survey {
  readonly salt: number;
  readonly state: State | undefined;
  readonly segments: readonly SurveyedSegment[];
}

/** The salt of a directory, from node.json or from the log itself. Throws EngramDirectory. */
async function saltOfDirectory(disk: Disk, dir: string, findings: Findings): Promise<number> {
  const names = await disk.list(dir);
  const segments = names.filter((name) => segmentStart(name) !== undefined);
  if (segments.length === 0 && !names.includes('node.json')) {
    throw failure('Configuration', `${dir} holds no log: neither segments nor node.json`);
  }
  try {
    return (await readNodeFile(disk, dir)).logSalt;
  } catch (error) {
    if ((error as EngramError).code !== 'CorruptionDetected') throw error;
    const salt = await findSalt(disk, dir, segments);
    const isOurs = names.some((name) => name === 'node.json' || name.startsWith('state-'));
    // Nothing of ours is there, and no header that would tell: Engram leaves empty files, too.
    if (salt === undefined && !isOurs) throw failure('EngramDirectory', `${dir} has no node.json`);
    if (salt === undefined) throw error;
    const what = 'lost or damaged; it is made again when a node opens';
    const level = names.includes('node.json') ? 'rot' : 'warning';
    findings.add({ level, file: 'node.json', at: 0, end: 0, what, space: undefined });
    return salt;
  }
}

interface Live {
  readonly start: Lsn;
  readonly size: number;
  /** Where the state's list, or the next segment's first entry, says that it ends. */
  readonly end: Lsn | undefined;
}

/**
 * Walks every live segment; once more where it met rewinds that it did not know.
 * @param begin gives a fresh surveyor and fresh findings, for each walk
 * @throws EngramDirectory, Configuration (no log), CorruptionDetected (no salt), UnsupportedVersion
 */
export async function surveyLog(
  disk: Disk,
  dir: string,
  begin: () => { readonly surveyor: Surveyor; readonly findings: Findings },
): Promise<Survey> {
  const rewinds = new KnownRewinds();
  for (let walks = 1; ; walks++) {
    const { surveyor, findings } = begin();
    const survey = await walkLog(disk, dir, findings, surveyor, rewinds);
    if (!rewinds.isMore || walks === WALKS_MAX) return survey;
  }
}

async function walkLog(
  disk: Disk,
  dir: string,
  findings: Findings,
  surveyor: Surveyor,
  rewinds: KnownRewinds,
): Promise<Survey> {
  const salt = await saltOfDirectory(disk, dir, findings);
  const state = await newestState(disk, dir);
  rewinds.take(state);
  const visit = visitOf(surveyor, rewinds);
  const { left = async () => undefined } = surveyor;
  const live = await liveSegments(disk, dir, salt, state, findings);
  const segments: SurveyedSegment[] = [];
  for (const [i, segment] of live.entries()) {
    const { start, size } = segment;
    const file = segmentName(start);
    const isLast = i === live.length - 1;
    const own = new Findings();
    const end = await withFile(disk, dir, file, (opened) =>
      isLast
        ? surveyLast(opened, segment, salt, state, own, visit)
        : surveySealed(disk, dir, opened, segment, salt, own, visit),
    );
    if (end === undefined) {
      await gone(disk, dir, segment, findings);
      await left(undefined);
    } else if (own.list.length === 0 || (await isLive(disk, dir, start))) {
      findings.addAll(own);
      const surveyed = { file, start, size, end, isLast, isWhole: own.rot === 0 };
      segments.push(surveyed);
      await left(surveyed);
    } else {
      await left(undefined);
    }
  }
  return { salt, state, segments };
}

function visitOf(surveyor: Surveyor, rewinds: KnownRewinds): Visit {
  return (bytes, view, at, lsn) => {
    const id = readSpaceId(view, at);
    if (id === NODE_SPACE_ID) {
      const start = at + ENTRY_HEADER_BYTES;
      const record = rewinds.record(bytes.subarray(start, start + readPayloadSize(view, at)), lsn);
      if (record) surveyor.record?.(record, lsn);
    } else if (rewinds.isVoided(id, readSequence(view, at), lsn)) {
      surveyor.voided?.(id);
      return;
    }
    surveyor.visit(bytes, view, at, lsn);
  };
}

/** @returns undefined when the file is not there */
async function withFile<T>(
  disk: Disk,
  dir: string,
  name: string,
  work: (file: DiskFile) => Promise<T>,
): Promise<T | undefined> {
  const file = await openThere(disk, dir, name);
  if (!file) return undefined;
  try {
    return await work(file);
  } finally {
    await file.close();
  }
}

async function gone(disk: Disk, dir: string, segment: Live, findings: Findings): Promise<void> {
  const state = await newestState(disk, dir);
  if (!state?.segments.some((s) => s.start === segment.start)) return;
  const { start, size } = segment;
  const what = 'listed as live, and absent';
  const file = segmentName(start);
  findings.add({ level: 'rot', file, at: start, end: start + size, what, space: undefined });
}

/** The segments that are the log: listed by the state, or behind it up to the last entry. */
async function liveSegments(
  disk: Disk,
  dir: string,
  salt: number,
  state: State | undefined,
  findings: Findings,
): Promise<Live[]> {
  const found: Live[] = [];
  for (const name of await disk.list(dir)) {
    const start = segmentStart(name);
    if (start === undefined) continue;
    const listed = state?.segments.find((s) => s.start === start);
    if (state && !listed && start < state.lsn) {
      const what = 'a freed segment that is still there';
      findings.add({ level: 'warning', file: name, at: start, end: start, what, space: undefined });
      continue;
    }
    const size = await withFile(disk, dir, name, (file) => file.size());
    if (size === undefined && !listed) continue;
    if (listed && size !== undefined && size < listed.size) {
      const what = 'shorter than it was made';
      const end = start + listed.size;
      findings.add({ level: 'rot', file: name, at: start + size, end, what, space: undefined });
    }
    found.push({ start, size: listed?.size ?? size!, end: listed?.end });
  }
  for (const { start, size } of state?.segments ?? []) {
    if (!found.some((s) => s.start === start))
      await gone(disk, dir, { start, size, end: 0 }, findings);
  }
  return await trimEmpty(disk, dir, salt, found, state?.durableLsn ?? 0);
}

/**
 * Segments made ahead of need hold nothing yet; the others learn their end from the next one.
 * @param acknowledged the log reaches so far, by the state
 */
async function trimEmpty(
  disk: Disk,
  dir: string,
  salt: number,
  all: Live[],
  acknowledged: Lsn,
): Promise<Live[]> {
  const heads: SegmentHead[] = [];
  for (const segment of all) {
    const name = segmentName(segment.start);
    heads.push((await withFile(disk, dir, name, (file) => headOf(file, segment, salt))) ?? EMPTY);
  }
  const last = all.findLastIndex(({ start, end }, i) => {
    const head = heads[i]!;
    return head.isThere || head.isTouched || end !== undefined || start < acknowledged || i === 0;
  });
  return all.slice(0, last + 1).map((segment, i) => {
    const next = i < last ? heads.slice(i + 1).find((head) => head.isThere) : undefined;
    return { ...segment, end: furthest(segment, segment.end, next?.previousEnd) };
  });
}

/** The later of what is told, where that lies in the segment: a list may be older than a file. */
function furthest(segment: Extent, ...told: (Lsn | undefined)[]): Lsn | undefined {
  const { start, size } = segment;
  const ends = told.filter((end) => end !== undefined && end <= start + size) as Lsn[];
  return ends.length > 0 ? Math.max(start, ...ends) : undefined;
}

/** Where a segment ends by what is on disk now: it may have been sealed since it was listed. */
async function endNow(
  disk: Disk,
  dir: string,
  segment: Live,
  salt: number,
): Promise<Lsn | undefined> {
  const state = await newestState(disk, dir);
  const listed = state?.segments.find((s) => s.start === segment.start)?.end;
  const start = segment.start + segment.size;
  const head = await withFile(disk, dir, segmentName(start), async (file) =>
    headOf(file, { start, size: await file.size() }, salt),
  );
  return furthest(segment, segment.end, listed, head?.previousEnd);
}

async function surveySealed(
  disk: Disk,
  dir: string,
  file: DiskFile,
  segment: Live,
  salt: number,
  findings: Findings,
  visit: Visit,
): Promise<Lsn> {
  const { start } = segment;
  const segmentEnd = start + segment.size;
  const bad = badPlaces(findings, segment);
  let x = await walkSegment(file, segment, start, salt, visit);
  const told = x === segment.end ? x : await endNow(disk, dir, segment, salt);
  const { lastEnd } = await evidenceBehind(file, segment, x, salt);
  const limit = Math.min(Math.max(told ?? 0, lastEnd ?? 0), segmentEnd);
  if (x < limit) x = await walkOver(file, segment, x, limit, limit, salt, visit, bad);
  // Nothing says where it ends: then where zeros follow an entry.
  if (told !== undefined || x === segmentEnd) return x;
  if (x === start || !(await isZero(file, segment, x))) {
    addPlace(findings, segment, x, segmentEnd, 'no good header', undefined);
  }
  return x;
}

async function evidenceBehind(
  file: DiskFile,
  segment: Extent,
  x: Lsn,
  salt: number,
): Promise<Evidence> {
  const evidence: Evidence = { durableLsn: 0, lastEnd: undefined };
  await searchBehind(file, segment, x, salt, evidence);
  return evidence;
}

function addPlace(
  findings: Findings,
  segment: Extent,
  at: Lsn,
  end: Lsn,
  what: string,
  space: string | undefined,
): void {
  findings.add({ level: 'rot', file: segmentName(segment.start), at, end, what, space });
}

/**
 * The last segment ends clean, torn (nothing acknowledged is lost) or is rotten before its end. A
 * writer may be in it: what was read first is older than what was found behind it. So a bad place
 * is one at which nothing good has come to stand when it is read again.
 */
async function surveyLast(
  file: DiskFile,
  segment: Live,
  salt: number,
  state: State | undefined,
  findings: Findings,
  visit: Visit,
): Promise<Lsn> {
  const segmentEnd = segment.start + segment.size;
  let x = await walkSegment(file, segment, segment.start, salt, visit);
  let evidence = await evidenceBehind(file, segment, x, salt);
  for (let isWaited = false; ; ) {
    const w = Math.max(evidence.durableLsn, state?.durableLsn ?? 0);
    const goodBehind = evidence.lastEnd !== undefined && evidence.lastEnd > x;
    const zerosAtX = await isZero(file, segment, x);
    const nextDurableLsn = undefined;
    const listedEnd = segment.end;
    const decision = decideEnd({ x, zerosAtX, w, goodBehind, nextDurableLsn, listedEnd });
    if (decision === 'clean') return x;
    if (!isWaited) await new Promise((resolve) => setTimeout(resolve, READ_AGAIN_MS));
    const bad = x;
    x = await walkSegment(file, segment, bad, salt, visit);
    isWaited = x === bad;
    if (x > bad) {
      // All that was seen behind has become good: it was being written.
      if (x >= Math.max(w, evidence.lastEnd ?? 0)) return x;
      evidence = await evidenceBehind(file, segment, x, salt);
      continue;
    }
    if (decision === 'torn') {
      const end = Math.min(evidence.lastEnd ?? x + TRAILER_BYTES, segmentEnd);
      const what = 'a torn tail: never acknowledged, cut when a node opens';
      const name = segmentName(segment.start);
      findings.add({ level: 'warning', file: name, at: x, end, what, space: undefined });
      return x;
    }
    const [limit, to] = goodBehind ? [Math.min(w, evidence.lastEnd!), segmentEnd] : [w, w];
    const around = [limit, Math.min(to, segmentEnd), salt] as const;
    x = await walkOver(file, segment, x, ...around, visit, badPlaces(findings, segment));
    if (x >= segmentEnd) return segmentEnd;
  }
}

function badPlaces(findings: Findings, segment: Extent): (place: BadPlace) => void {
  return ({ start, end, entry }) => {
    const what = entry ? 'payload does not fit its CRC' : 'no good header';
    addPlace(findings, segment, start, end, what, entry?.id);
  };
}
