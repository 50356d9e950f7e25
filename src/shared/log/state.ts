/**
 * State: the same facts that node records and entries give, for all spaces, each row as of an
 * LSN of its own. It lets recovery begin near the end of the log. It holds only what an
 * fdatasync has covered; replay skips what stands below a row's LSN.
 *
 * File: magic "EGWS", format u32, generation u64, lsn u64 (replay begins here), durable u64,
 * node sequence u64, spaces u32, segments u32, holes u32, node id, cluster id, directory id (16
 * bytes; zeros: none yet), the format in which the directory was made u8, then the rows, then
 * CRC32C of all before it. Format 1 has neither of the last two; a row of format 3 ends with the
 * directories of its epochs and the sets of its members.
 */

import { ByteReader, ByteWriter, Recent } from '../bytes.js';
import { crc32c } from '../crc.js';
import { failure } from '../errors.js';
import { readMembersRows, rowsKept, writeMembersRows } from '../members/members.js';
import {
  readDirectory,
  withDirectories,
  writeDirectories,
  writeDirectory,
  writeId,
} from '../members/rows.js';
import type { EpochStart, Lsn, Sequence } from '../position.js';
import {
  readSnapshotFacts,
  readSnapshotSets,
  readSnapshotWhole,
  writeSnapshotFacts,
  writeSnapshotSets,
  writeSnapshotWhole,
} from '../snapshot/facts.js';
import { type NodeRecord, readMembers, writeMembers } from './node-record.js';
import { type DamagedRange, newSpaceFacts, type SpaceFacts, trimHistory } from './space-facts.js';

const MAGIC = 0x53574745;
const FORMAT = 3;
/** In the place of a role: a replica, in a copied directory. */
const COPIED = 2;
const NO_DIRECTORY = '0'.repeat(32);
/** Ids and names of nodes: the same few in all rows. */
const NODES = new Recent<string>();
const EPOCHS = new Recent<EpochStart>();
const OWNERS = new Recent<string>();

/** Bits of a damaged range's flags byte. */
const ACCEPTED = 1;
const DOUBTS = [undefined, 'record', 'end'] as const;

/** Bytes of the log that are not what was written. */
export interface Hole {
  readonly start: Lsn;
  /** Where the next good entry begins, or the log ends. */
  readonly end: Lsn;
}

export interface SegmentFacts {
  readonly start: Lsn;
  readonly size: number;
  /** Where its last entry ends; undefined for the one that is being written. */
  end: Lsn | undefined;
}

export interface SpaceRow {
  readonly lsn: Lsn;
  readonly facts: SpaceFacts;
}

/** Whose directory it is; node.json says the same. */
export interface StateOwner {
  readonly nodeId: string;
  readonly clusterId: string;
  /** 32 hex digits; undefined where a release wrote it that knew of none. */
  readonly directoryId: string | undefined;
  /** The format of node.json in which the directory was made. */
  readonly madeAs: number;
}

export interface State extends StateOwner {
  readonly generation: number;
  /** Everything below is in the rows. */
  readonly lsn: Lsn;
  /** The durable end when the last row was taken. */
  readonly durableLsn: Lsn;
  readonly nodeSequence: Sequence;
  readonly spaces: readonly SpaceRow[];
  readonly segments: readonly SegmentFacts[];
  readonly holes: readonly Hole[];
}

/** The node record that makes the role in these facts durable. */
export function roleRecord(facts: SpaceFacts): NodeRecord {
  const { id, name, role, epoch, primary, members, directoryId, sets } = facts;
  return { kind: 'space', id, name, role, epoch, primary, members, directoryId, sets };
}

/** Writes a state in pieces, so that its caller can let other work in between. */
export class StateWriter {
  readonly #w: ByteWriter;
  #spaces = 0;

  /** @param bytes to begin with; what is written may stand in others */
  constructor(generation: number, lsn: Lsn, own: StateOwner, bytes?: Uint8Array) {
    this.#w = new ByteWriter(bytes);
    this.#w.u32(MAGIC).u32(FORMAT).u64(generation).u64(lsn);
    this.#w.u64(0).u64(0).u32(0).u32(0).u32(0);
    this.#w.text(own.nodeId).text(own.clusterId);
    this.#w.id(own.directoryId ?? NO_DIRECTORY).u8(own.madeAs);
  }

  space(row: SpaceRow): void {
    this.#spaces++;
    const f = row.facts;
    const w = this.#w;
    w.u64(row.lsn)
      .id(f.id)
      .text(f.name)
      .u8(f.copied ? COPIED : f.role === 'primary' ? 1 : 0);
    w.u32(f.epoch).u32(f.epochSeen);
    writeNode(w, f.primary);
    writeMembers(w, f.members);
    // Of a space that is written to it is made where it is asked for.
    const { position } = f;
    w.u32(position.epoch).u64(position.sequence).u32(position.headerCrc);
    w.big(f.timestamp).u64(f.applied).u16(f.history.length);
    for (const row of f.history) writeEpoch(w, row);
    w.u64(f.first).u64(f.checkpoint).u16(f.slots.size);
    for (const [nodeId, slot] of f.slots) {
      writeNode(w, nodeId);
      w.u64(slot.flushed)
        .u8(slot.lost ? 1 : 0)
        .u64(Math.max(0, Math.round(slot.idleMs)));
    }
    w.u16(f.skipped.length);
    for (const sequence of f.skipped) w.u64(sequence);
    w.u32(f.damage.length);
    for (const d of f.damage) {
      w.u64(d.from)
        .u64(d.to)
        .u64(d.lsn)
        .u8((d.accepted ? ACCEPTED : 0) + 2 * DOUBTS.indexOf(d.doubt));
    }
    w.u8(f.begun ? 1 : 0);
    if (f.begun) {
      writeSnapshotFacts(w, f.begun.snapshot);
      writeSnapshotWhole(w, f.begun.whole);
    }
    w.text(f.promisedTo).u32(f.voided.length);
    for (const v of f.voided) w.u64(v.lsn).u64(v.first);
    w.u16(f.rewinds.length);
    for (const r of f.rewinds) w.u64(r.from).u64(r.to).text(r.quarantine);
    writeDirectory(w, f.directoryId);
    for (const { directoryId } of f.slots.values()) writeDirectory(w, directoryId);
    writeDirectories(w, f.history);
    writeMembersRows(w, rowsKept(f.sets, f.first));
    if (f.begun) writeSnapshotSets(w, f.begun.snapshot);
  }

  /** @returns the file's bytes */
  finish(
    durableLsn: Lsn,
    nodeSequence: Sequence,
    segments: readonly SegmentFacts[],
    holes: readonly Hole[],
  ): Uint8Array {
    const w = this.#w;
    for (const s of segments)
      w.u64(s.start)
        .u32(s.size)
        .u64(s.end ?? 0);
    for (const hole of holes) w.u64(hole.start).u64(hole.end);
    const bytes = w.bytes();
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    view.setBigUint64(24, BigInt(durableLsn), true);
    view.setBigUint64(32, BigInt(nodeSequence), true);
    view.setUint32(40, this.#spaces, true);
    view.setUint32(44, segments.length, true);
    view.setUint32(48, holes.length, true);
    return w.u32(crc32c(bytes)).bytes();
  }
}

/**
 * Reads a state file, so many rows at a time. Rows are read as long as there are bytes: no count
 * is trusted. Throws CorruptionDetected when it is damaged (rows are looked at when they are read),
 * UnsupportedVersion when a newer release wrote it.
 */
export class StateReader {
  readonly generation: number;
  readonly #r: ByteReader;
  readonly #lsn: Lsn;
  readonly #durableLsn: Lsn;
  readonly #nodeSequence: Sequence;
  readonly #counts: { readonly spaces: number; readonly segments: number; readonly holes: number };
  readonly #own: StateOwner;
  readonly #format: number;
  readonly #spaces: SpaceRow[] = [];

  constructor(bytes: Uint8Array) {
    if (bytes.length < 56) throw failure('CorruptionDetected', `a state of ${bytes.length} bytes`);
    const body = bytes.subarray(0, bytes.length - 4);
    const stored = new ByteReader(bytes.subarray(bytes.length - 4), 'CorruptionDetected').u32();
    if (stored !== crc32c(body))
      throw failure('CorruptionDetected', 'a state whose CRC does not fit');
    const r = new ByteReader(body, 'CorruptionDetected');
    if (r.u32() !== MAGIC) throw failure('CorruptionDetected', 'a state without its magic');
    const format = r.u32();
    if (format < 1 || format > FORMAT) {
      const found = `state format ${format}, known: 1 to ${FORMAT}`;
      throw failure('UnsupportedVersion', found);
    }
    this.generation = r.u64();
    this.#lsn = r.u64();
    this.#durableLsn = r.u64();
    this.#nodeSequence = r.u64();
    this.#counts = { spaces: r.u32(), segments: r.u32(), holes: r.u32() };
    this.#own = readOwner(r, format);
    this.#r = r;
    this.#format = format;
  }

  /** As this release would write it. */
  get isCurrent(): boolean {
    return this.#format === FORMAT;
  }

  /** @returns whether there are more rows */
  rows(most: number): boolean {
    const { spaces } = this.#counts;
    const until = Math.min(spaces, this.#spaces.length + most);
    while (this.#spaces.length < until) this.#spaces.push(readRow(this.#r, this.#format));
    return until < spaces;
  }

  /** Once, when all rows are read. */
  finish(): State {
    const r = this.#r;
    const segments: SegmentFacts[] = [];
    for (let i = 0; i < this.#counts.segments; i++) {
      const start = r.u64();
      const size = r.u32();
      const end = r.u64();
      segments.push({ start, size, end: end === 0 ? undefined : end });
    }
    const holes: Hole[] = [];
    for (let i = 0; i < this.#counts.holes; i++) holes.push({ start: r.u64(), end: r.u64() });
    r.end();
    return {
      generation: this.generation,
      ...this.#own,
      lsn: this.#lsn,
      durableLsn: this.#durableLsn,
      nodeSequence: this.#nodeSequence,
      spaces: this.#spaces,
      segments,
      holes,
    };
  }
}

/** A whole state in one go. Throws as `StateReader`. */
export function decodeState(bytes: Uint8Array): State {
  const reader = new StateReader(bytes);
  reader.rows(Number.POSITIVE_INFINITY);
  return reader.finish();
}

function readOwner(r: ByteReader, format: number): StateOwner {
  const nodeId = r.text();
  const clusterId = r.text();
  const directory = format === 1 ? NO_DIRECTORY : r.id();
  const directoryId = directory === NO_DIRECTORY ? undefined : directory;
  return { nodeId, clusterId, directoryId, madeAs: format === 1 ? 1 : r.u8() };
}

function readRow(r: ByteReader, format: number): SpaceRow {
  const lsn = r.u64();
  const facts = newSpaceFacts(r.id(), r.text());
  const role = r.u8();
  facts.role = role === 1 ? 'primary' : 'replica';
  facts.copied = role === COPIED;
  facts.epoch = r.u32();
  facts.epochSeen = r.u32();
  facts.primary = readNode(r);
  facts.members = readMembers(r);
  facts.position = { epoch: r.u32(), sequence: r.u64(), headerCrc: r.u32() };
  facts.timestamp = r.big();
  facts.applied = r.u64();
  const rows = r.u16();
  for (let i = 0; i < rows; i++) {
    facts.history.push(r.recent(EPOCHS, () => readEpoch(r)));
  }
  facts.first = r.u64();
  facts.checkpoint = r.u64();
  const slots = r.u16();
  for (let i = 0; i < slots; i++) {
    const nodeId = readNode(r);
    const [flushed, lost, idleMs] = [r.u64(), r.u8() === 1, r.u64()];
    facts.slots.set(nodeId, { flushed, lost, idleMs, directoryId: undefined });
  }
  const skips = r.u16();
  for (let i = 0; i < skips; i++) facts.skipped.push(r.u64());
  const ranges = r.u32();
  for (let i = 0; i < ranges; i++) {
    facts.damage.push(readDamage(r));
  }
  if (r.u8() === 1) facts.begun = { snapshot: readSnapshotFacts(r), whole: readSnapshotWhole(r) };
  facts.promisedTo = r.text();
  const voided = r.u32();
  for (let i = 0; i < voided; i++) facts.voided.push({ lsn: r.u64(), first: r.u64() });
  const rewinds = r.u16();
  for (let i = 0; i < rewinds; i++) {
    facts.rewinds.push({ from: r.u64(), to: r.u64(), quarantine: r.text() });
  }
  if (format > 2) readSets(r, facts);
  trimHistory(facts.history);
  return { lsn, facts };
}

function writeEpoch(w: ByteWriter, { epoch, startSequence, primaryNodeId }: EpochStart): void {
  // Each space has rows of its own, by the same few nodes.
  w.u32(epoch).u64(startSequence);
  w.recent(OWNERS, primaryNodeId, writeId);
}

function readEpoch(r: ByteReader): EpochStart {
  return { epoch: r.u32(), startSequence: r.u64(), primaryNodeId: r.id() };
}

function writeNode(w: ByteWriter, nodeId: string): void {
  w.recent(NODES, nodeId, writeText);
}

function writeText(w: ByteWriter, text: string): void {
  w.text(text);
}

function readNode(r: ByteReader): string {
  return r.recent(NODES, () => r.text());
}

function readSets(r: ByteReader, facts: SpaceFacts): void {
  facts.directoryId = readDirectory(r);
  for (const slot of facts.slots.values()) slot.directoryId = readDirectory(r);
  facts.history = withDirectories(r, facts.history);
  facts.sets = readMembersRows(r, 'CorruptionDetected');
  const { begun } = facts;
  if (!begun) return;
  const snapshot = readSnapshotSets(r, begun.snapshot, 'CorruptionDetected');
  facts.begun = { ...begun, snapshot };
}

function readDamage(r: ByteReader): DamagedRange {
  const range = { from: r.u64(), to: r.u64(), lsn: r.u64() };
  const flags = r.u8();
  const doubt = DOUBTS[flags >> 1];
  if (flags >> 1 >= DOUBTS.length) throw failure('CorruptionDetected', `damage flags ${flags}`);
  const accepted = (flags & ACCEPTED) !== 0;
  return doubt ? { ...range, accepted, doubt } : { ...range, accepted };
}
