/**
 * `engram-wal inspect`: what a data directory holds, ours or Engram's own: segments, spaces, their
 * sequences and epochs, and on demand entries. Read-only; the directory may be in use.
 */
import path from 'node:path';
import { type EngramError, failure } from '../../shared/errors.js';
import { ENTRY_HEADER_BYTES } from '../../shared/limits.js';
import { isEngramLogName, readEngramLog } from '../../shared/log/engram-log.js';
import {
  readEpoch,
  readPayloadSize,
  readSequence,
  readSpaceId,
  readTimestamp,
  readType,
} from '../../shared/log/entry.js';
import { NODE_SPACE_ID, type NodeRecord } from '../../shared/log/node-record.js';
import type { State } from '../../shared/log/state.js';
import { idOf } from '../../shared/names.js';
import { byName } from '../../shared/natural-order.js';
import type { Epoch, Lsn, Sequence } from '../../shared/position.js';
import { Findings, type Surveyor, surveyLog } from '../repair/log-survey.js';
import { readWhole } from '../repair/verify.js';
import type { Disk } from '../segments/disk.js';

export interface InspectOptions {
  /** Entries of this space are listed. */
  readonly space?: string | undefined;
  /** From this sequence on. Default: the first. */
  readonly from?: Sequence | undefined;
  /** So many at most. Default: 20. */
  readonly limit?: number | undefined;
}

export interface InspectedSegment {
  readonly file: string;
  readonly start: Lsn;
  readonly end: Lsn;
  readonly size: number;
}

export interface InspectedSpace {
  readonly name: string;
  readonly id: string;
  readonly role: string | undefined;
  readonly entries: number;
  readonly firstSequence: Sequence;
  readonly lastSequence: Sequence;
  readonly epochs: Epoch[];
  /** Of payloads. */
  readonly bytes: number;
}

export interface InspectedEntry {
  readonly sequence: Sequence;
  readonly epoch: Epoch;
  readonly type: number;
  /** ISO 8601; the nanoseconds are in `timestampNs`. */
  readonly time: string;
  readonly timestampNs: string;
  readonly bytes: number;
  /** The first bytes, as text where they are printable ASCII, else as hex. */
  readonly preview: string;
}

export interface Inspected {
  readonly kind: 'engram-wal' | 'engram';
  readonly segments: readonly InspectedSegment[];
  readonly spaces: readonly InspectedSpace[];
  /** Where a space was asked for. */
  readonly entries: readonly InspectedEntry[] | undefined;
  readonly findings: Findings['list'];
}

const PREVIEW_BYTES = 32;
const DEFAULT_LIMIT = 20;
/** What Engram's reserved bytes leave as the space of its own entries. */
const ENGRAM_SPACE = '(engram)';

type RoleRecord = Extract<NodeRecord, { kind: 'space' }>;
type MutableSpace = { -readonly [K in keyof InspectedSpace]: InspectedSpace[K] };

class Collector implements Surveyor {
  readonly spaces = new Map<string, MutableSpace>();
  readonly entries: InspectedEntry[] = [];
  readonly #wantedId: string | undefined;
  readonly #from: Sequence;
  readonly #limit: number;
  readonly #roles = new Map<string, { readonly record: RoleRecord; readonly lsn: Lsn }>();

  constructor(options: InspectOptions, wantedId: string | undefined) {
    this.#wantedId = wantedId;
    this.#from = options.from ?? 1;
    this.#limit = options.limit ?? DEFAULT_LIMIT;
  }

  visit = (bytes: Uint8Array, view: DataView, at: number): void => {
    const id = readSpaceId(view, at);
    if (id === NODE_SPACE_ID) return;
    const start = at + ENTRY_HEADER_BYTES;
    const size = readPayloadSize(view, at);
    this.entry(id, () => bytes.subarray(start, start + size), {
      sequence: readSequence(view, at),
      epoch: readEpoch(view, at),
      type: readType(view, at),
      timestampNs: String(readTimestamp(view, at)),
      bytes: size,
    });
  };

  record = (record: NodeRecord, lsn: Lsn): void => {
    if (record.kind === 'space') this.#roles.set(record.id, { record, lsn });
  };

  /** Names and roles: of the state, or of a record that is newer. */
  tell(state: State | undefined): void {
    for (const [id, { record }] of this.#roles) {
      const space = this.space(id);
      space.name = record.name;
      space.role = record.role;
    }
    for (const { facts, lsn } of state?.spaces ?? []) {
      const space = this.space(facts.id);
      space.name = facts.name;
      if ((this.#roles.get(facts.id)?.lsn ?? 0) < lsn) space.role = facts.role;
      space.firstSequence = Math.max(space.firstSequence, facts.first);
      space.lastSequence ||= facts.position.sequence;
    }
  }

  space(id: string): MutableSpace {
    let space = this.spaces.get(id);
    if (!space) {
      space = {
        name: id,
        id,
        role: undefined,
        entries: 0,
        firstSequence: 1,
        lastSequence: 0,
        epochs: [],
        bytes: 0,
      };
      this.spaces.set(id, space);
    }
    return space;
  }

  entry(
    id: string,
    payload: () => Uint8Array,
    entry: Omit<InspectedEntry, 'preview' | 'time'>,
  ): void {
    const space = this.space(id);
    const first = space.entries === 0 ? entry.sequence : space.firstSequence;
    space.entries++;
    space.bytes += entry.bytes;
    space.lastSequence = Math.max(space.lastSequence, entry.sequence);
    space.firstSequence = Math.min(first, entry.sequence);
    if (!space.epochs.includes(entry.epoch)) space.epochs.push(entry.epoch);
    const isWanted = id === this.#wantedId && entry.sequence >= this.#from;
    if (!isWanted || this.entries.length >= this.#limit) return;
    const time = timeOf(BigInt(entry.timestampNs));
    this.entries.push({ ...entry, time, preview: previewOf(payload()) });
  }
}

/**
 * Looks into a directory. Throws Configuration (no log there), SpaceUnknown, CorruptionDetected
 * (nothing can be told without the salt), UnsupportedVersion, Io.
 */
export async function inspectLog(
  disk: Disk,
  dir: string,
  options: InspectOptions,
): Promise<Inspected> {
  const wantedId = options.space === undefined ? undefined : idOf(options.space);
  let collector = new Collector(options, wantedId);
  let findings = new Findings();
  const begin = (): { surveyor: Surveyor; findings: Findings } => {
    findings = new Findings();
    collector = new Collector(options, wantedId);
    return { surveyor: collector, findings };
  };
  try {
    const survey = await surveyLog(disk, dir, begin);
    collector.tell(survey.state);
    // Where neither state nor record tells its name, the question does.
    const wanted = wantedId === undefined ? undefined : collector.spaces.get(wantedId);
    if (wanted) wanted.name = options.space!;
    const segments = survey.segments.map(({ file, start, end, size }) => ({
      file,
      start,
      end,
      size,
    }));
    return finish('engram-wal', segments, collector, findings, options.space);
  } catch (error) {
    if ((error as EngramError).code !== 'EngramDirectory') throw error;
    return await inspectEngram(disk, dir, options);
  }
}

function finish(
  kind: Inspected['kind'],
  segments: InspectedSegment[],
  collector: Collector,
  findings: Findings,
  space: string | undefined,
): Inspected {
  const spaces = [...collector.spaces.values()].sort((a, b) => byName(a.name, b.name));
  if (space !== undefined && !spaces.some((s) => s.name === space)) {
    throw failure('SpaceUnknown', `no entry of ${space} is in this log`);
  }
  const entries = space === undefined ? undefined : collector.entries;
  return { kind, segments, spaces, entries, findings: findings.list };
}

async function inspectEngram(disk: Disk, dir: string, options: InspectOptions): Promise<Inspected> {
  const collector = new Collector(options, options.space);
  const segments: InspectedSegment[] = [];
  const files = [];
  for (const name of (await disk.list(dir)).filter(isEngramLogName)) {
    const bytes = await readWhole(disk, path.join(dir, name));
    files.push({ name, bytes });
    segments.push({ file: name, start: 0, end: bytes.length, size: bytes.length });
  }
  for (const { header, payload } of readEngramLog(files).entries) {
    const isNamed = !/^0+$/.test(header.spaceId);
    collector.entry(isNamed ? header.spaceId : ENGRAM_SPACE, () => payload, {
      sequence: Number(header.sequence),
      epoch: header.epoch,
      type: header.type,
      timestampNs: String(header.timestamp),
      bytes: payload.length,
    });
  }
  return finish('engram', segments, collector, new Findings(), options.space);
}

function timeOf(ns: bigint): string {
  const ms = Number(ns / 1_000_000n);
  return ms <= 8.64e15 ? new Date(ms).toISOString() : '(beyond dates)';
}

function previewOf(payload: Uint8Array): string {
  const head = Buffer.from(payload.subarray(0, PREVIEW_BYTES));
  const rest = payload.length > PREVIEW_BYTES ? '...' : '';
  const isText = head.every((byte) => byte >= 0x20 && byte < 0x7f);
  return isText ? head.toString('latin1') + rest : `0x${head.toString('hex')}${rest}`;
}
