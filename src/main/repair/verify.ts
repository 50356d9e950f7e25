/**
 * `engram-wal verify`: every entry, every sequence, every index and state of a data directory, ours
 * or Engram's own. Read-only; the directory may be in use.
 */
import path from 'node:path';
import { type EngramError, failure } from '../../shared/errors.js';
import { ENTRY_HEADER_BYTES, SEGMENT_MAX_BYTES } from '../../shared/limits.js';
import { type EngramFinding, isEngramLogName, readEngramLog } from '../../shared/log/engram-log.js';
import { readEpoch, readPayloadSize, readSequence, readSpaceId } from '../../shared/log/entry.js';
import { decodeIndex, isOldIndex } from '../../shared/log/index-format.js';
import { isFiller, NODE_SPACE_ID, type NodeRecord } from '../../shared/log/node-record.js';
import { indexName } from '../../shared/log/segment.js';
import { decodeState, type State } from '../../shared/log/state.js';
import type { Epoch, Lsn, Sequence, Slot } from '../../shared/position.js';
import { newestState, STATE_FILES } from '../recovery/recovery.js';
import { type Disk, readSmallFile } from '../segments/disk.js';
import {
  Findings,
  type Survey,
  type SurveyedSegment,
  type Surveyor,
  surveyLog,
} from './log-survey.js';
import { SeenEntries } from './seen-entries.js';

export interface Verified {
  readonly kind: 'engram-wal' | 'engram';
  readonly entries: number;
  /** Of payloads. */
  readonly bytes: number;
  readonly spaces: number;
  readonly segments: number;
  readonly findings: Findings['list'];
  /** Acknowledged bytes that are not what was written; more than `findings` lists, maybe. */
  readonly rot: number;
  readonly warnings: number;
}

/** Gaps in sequences that are remembered until the state has told which were freed. */
const GAPS_MAX = 100_000;

/** One space while its entries go by. */
interface Track {
  readonly slot: Slot;
  last: Sequence;
  epoch: Epoch;
}

/**
 * Verifies the directory. Throws Configuration (no log there), CorruptionDetected (nothing can be
 * told without the salt), UnsupportedVersion, Io.
 */
export async function verifyLog(disk: Disk, dir: string): Promise<Verified> {
  try {
    return await verifyOwn(disk, dir);
  } catch (error) {
    if ((error as EngramError).code !== 'EngramDirectory') throw error;
    return await verifyEngram(disk, dir);
  }
}

async function verifyOwn(disk: Disk, dir: string): Promise<Verified> {
  let check = new Check(disk, dir);
  const survey = await surveyLog(disk, dir, () => {
    check = new Check(disk, dir);
    return { surveyor: check, findings: check.findings };
  });
  return await check.finish(survey);
}

class Check implements Surveyor {
  readonly findings = new Findings();
  readonly #disk: Disk;
  readonly #dir: string;
  readonly #tracks = new Map<string, Track>();
  readonly #ids: string[] = [];
  #gaps: { id: string; from: Sequence; to: Sequence; lsn: Lsn }[] = [];
  /** Where a rewind, or a snapshot, has ended a space: a state before it knows of a later end. */
  readonly #ends: { readonly id: string; readonly last: Sequence; readonly lsn: Lsn }[] = [];
  #entries = 0;
  #bytes = 0;
  /** In the segment that is being walked. */
  #seen = new SeenEntries();

  constructor(disk: Disk, dir: string) {
    this.#disk = disk;
    this.#dir = dir;
  }

  async finish({ state, segments }: Survey): Promise<Verified> {
    await this.#states();
    // What was freed while we read is missing by right.
    this.#continuity(state, await newestState(this.#disk, this.#dir));
    const { rot, warnings, list } = this.findings;
    return {
      kind: 'engram-wal',
      entries: this.#entries,
      bytes: this.#bytes,
      spaces: [...this.#tracks.keys()].filter((id) => id !== NODE_SPACE_ID).length,
      segments: segments.length,
      findings: list.map((f) => ({ ...f, space: nameOf(f.space, state) })),
      rot,
      warnings,
    };
  }

  async #states(): Promise<void> {
    for (const file of STATE_FILES) {
      const bytes = await readSmallFile(this.#disk, this.#dir, file, SEGMENT_MAX_BYTES);
      if (!bytes) continue;
      try {
        decodeState(bytes);
      } catch (error) {
        if ((error as EngramError).code !== 'CorruptionDetected') throw error;
        this.#rot(
          file,
          0,
          bytes.length,
          'a damaged state; the other generation is used',
          undefined,
        );
      }
    }
  }

  #rot(file: string, at: number, end: number, what: string, space: string | undefined): void {
    this.findings.add({ level: 'rot', file, at, end, what, space });
  }

  #track(id: string): Track {
    let track = this.#tracks.get(id);
    if (!track) {
      track = { slot: this.#ids.push(id), last: 0, epoch: 0 };
      this.#tracks.set(id, track);
    }
    return track;
  }

  voided = (id: string): void => this.#seen.void(this.#track(id).slot);

  record = (record: NodeRecord, lsn: Lsn): void => {
    if (record.kind === 'rewind') {
      this.#ends.push({ id: record.id, last: record.position.sequence, lsn });
    }
    if (record.kind !== 'base') return;
    // The space stands on a snapshot: what the log holds of it before is void.
    const { epoch, sequence } = record.snapshot.position;
    this.#ends.push({ id: record.id, last: sequence, lsn });
    const track = this.#track(record.id);
    track.last = sequence;
    track.epoch = epoch;
    this.#gaps = this.#gaps.filter((gap) => gap.id !== record.id);
  };

  visit = (_: Uint8Array, view: DataView, at: number, lsn: Lsn): void => {
    const id = readSpaceId(view, at);
    const sequence = readSequence(view, at);
    if (id === NODE_SPACE_ID && isFiller(view, at)) return;
    const epoch = readEpoch(view, at);
    const track = this.#track(id);
    if (id !== NODE_SPACE_ID) {
      this.#entries++;
      this.#bytes += readPayloadSize(view, at);
    }
    if (sequence <= track.last || epoch < track.epoch) {
      const what = `entry ${sequence} of epoch ${epoch} behind ${track.last} of ${track.epoch}`;
      this.#rot('', lsn, lsn + ENTRY_HEADER_BYTES, what, id);
    } else if (sequence !== track.last + 1 && this.#gaps.length < GAPS_MAX) {
      this.#gaps.push({ id, from: track.last + 1, to: sequence - 1, lsn });
    }
    track.last = Math.max(track.last, sequence);
    track.epoch = Math.max(track.epoch, epoch);
    this.#seen.add(track.slot, sequence, lsn);
  };

  /** Sequences that are missing: freed, or rot. */
  #continuity(state: State | undefined, newest: State | undefined): void {
    const firsts = new Map<string, Sequence>();
    for (const { facts } of newest?.spaces ?? []) firsts.set(facts.id, facts.first);
    const missing = new Map<string, { entries: number; from: Sequence; lsn: Lsn }>();
    const miss = (id: string, from: Sequence, to: Sequence, lsn: Lsn): void => {
      const known = missing.get(id);
      if (known) known.entries += to - from + 1;
      else missing.set(id, { entries: to - from + 1, from, lsn });
    };
    for (const { id, from, to, lsn } of this.#gaps) {
      // Node records before the state are in it.
      if (id === NODE_SPACE_ID && lsn < (state?.lsn ?? 0)) continue;
      if (id === NODE_SPACE_ID && to <= (newest?.nodeSequence ?? 0)) continue;
      if (to >= (firsts.get(id) ?? 1)) miss(id, from, to, lsn);
    }
    const ends = new Map<string, Sequence>();
    for (const { facts } of state?.spaces ?? []) ends.set(facts.id, facts.position.sequence);
    for (const { id, last, lsn } of this.#ends) {
      const end = ends.get(id);
      if (end !== undefined && lsn >= state!.lsn) ends.set(id, Math.min(end, last));
    }
    for (const [id, end] of ends) {
      const last = this.#tracks.get(id)?.last ?? 0;
      if (last >= end || end < (firsts.get(id) ?? 1)) continue;
      miss(id, last + 1, end, state!.lsn);
    }
    // One line a space, however many there are.
    for (const [id, { entries, from, lsn }] of missing) {
      this.#rot('', lsn, lsn, `${entries} entries are missing, the first is ${from}`, id);
    }
  }

  /** The index of a segment that was just walked says what was seen in it. */
  left = async (segment: SurveyedSegment | undefined): Promise<void> => {
    const seen = this.#seen;
    this.#seen = new SeenEntries();
    if (!segment || segment.isLast) return;
    const file = indexName(segment.start);
    const bytes = await readSmallFile(this.#disk, this.#dir, file, SEGMENT_MAX_BYTES);
    if (!bytes || isOldIndex(bytes)) return;
    try {
      const slotOf = (id: string): Slot | undefined => this.#tracks.get(id)?.slot;
      const index = decodeIndex(bytes, segment.start, segment.end, slotOf);
      if (!segment.isWhole || seen.fits(index)) return;
      const what = 'an index that does not say what its segment holds';
      this.#rot(file, 0, bytes.length, what, undefined);
    } catch (error) {
      if ((error as EngramError).code !== 'CorruptionDetected') throw error;
      this.#rot(file, 0, bytes.length, 'a damaged index; it is built again', undefined);
    }
  };
}

function nameOf(id: string | undefined, state: State | undefined): string | undefined {
  if (id === undefined) return undefined;
  if (id === NODE_SPACE_ID) return '(node records)';
  return state?.spaces.find((row) => row.facts.id === id)?.facts.name ?? id;
}

// --- Engram's own directories ------------------------------------------------------------------

async function verifyEngram(disk: Disk, dir: string): Promise<Verified> {
  const findings = new Findings();
  let entries = 0;
  let bytes = 0;
  const files = [];
  for (const name of (await disk.list(dir)).filter(isEngramLogName)) {
    files.push({ name, bytes: await readWhole(disk, path.join(dir, name)) });
  }
  const log = readEngramLog(files);
  for (const entry of log.entries) {
    entries++;
    bytes += entry.payload.length;
  }
  for (const finding of log.findings) {
    const [level, what] = tell(finding);
    const length = 'bytes' in finding ? finding.bytes : ENTRY_HEADER_BYTES;
    const { file, offset } = finding;
    findings.add({ level, file, at: offset, end: offset + length, what, space: undefined });
  }
  const { rot, warnings, list } = findings;
  const segments = files.length;
  return { kind: 'engram', entries, bytes, spaces: 1, segments, findings: list, rot, warnings };
}

/** Cut short, or zeros: nothing that was whole is lost. Strange numbers and types are kept. */
function tell(finding: EngramFinding): ['rot' | 'warning', string] {
  switch (finding.kind) {
    case 'torn':
      return ['warning', `a torn ${finding.part} at the end`];
    case 'zeros':
      return ['warning', 'zeros behind the last entry'];
    case 'damaged':
      return ['rot', finding.part === 'header' ? 'header does not fit its CRC' : 'garbage'];
    case 'bad-payload':
      return ['rot', 'payload does not fit its CRC'];
    case 'duplicate':
      return ['warning', 'a sequence that was given twice'];
    case 'gap':
      return ['warning', 'sequences that are left out'];
    case 'unknown-type':
      return ['warning', 'an entry type that Engram does not name'];
  }
}

/** A whole file, up to the size that a segment may have. */
export async function readWhole(disk: Disk, name: string): Promise<Uint8Array> {
  const file = await disk.open(name, 'read');
  try {
    const size = await file.size();
    if (size > SEGMENT_MAX_BYTES)
      throw failure('Io', `${name} has ${size} bytes: too many to read`);
    const bytes = new Uint8Array(size);
    return bytes.subarray(0, await file.read(bytes, 0));
  } finally {
    await file.close();
  }
}
