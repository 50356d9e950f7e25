/**
 * What the log says about the node itself: entries of the node's own space (id 16 x 0xFF,
 * type 6, epoch 0, own sequence), never shipped, never shown to a host. They take effect in LSN
 * order and are durable with their group.
 *
 * Payload: kind u8, then the fields of the kind. Kind 6 (slot) belongs to the format; this release
 * writes none and refuses a log that holds one, so that no fact is passed over. Where slots stand
 * is in the state. A filler has sequence 0: it is no record.
 */

import { dialable } from '../address.js';
import { ByteReader, ByteWriter, Recent } from '../bytes.js';
import { failure } from '../errors.js';
import { MEMBERS_MAX } from '../limits.js';
import { type MembersRow, readMembersRows, writeMembersRows } from '../members/members.js';
import { readDirectory, writeDirectory } from '../members/rows.js';
import type { Epoch, Sequence } from '../position.js';
import {
  readSnapshotFacts,
  readSnapshotSets,
  readSnapshotWhole,
  type SnapshotFacts,
  type SnapshotWhole,
  writeSnapshotFacts,
  writeSnapshotSets,
  writeSnapshotWhole,
} from '../snapshot/facts.js';
import { readSequence } from './entry.js';
import type { Rewind } from './rewind.js';

export const NODE_SPACE_ID = 'f'.repeat(32);

export type Role = 'primary' | 'replica';

/** A node that takes part in a space: its id and where it listens. */
export interface Member {
  readonly nodeId: string;
  readonly host: string;
  readonly port: number;
}

export type NodeRecord =
  | {
      readonly kind: 'space';
      readonly id: string;
      readonly name: string;
      readonly role: Role;
      readonly epoch: Epoch;
      /** The name of the node that leads it. */
      readonly primary: string;
      readonly members: readonly Member[];
      /** The directory that leads it, 32 hex digits; undefined: nobody has said. */
      readonly directoryId?: string | undefined;
      /** Who counts, as of this node's own log. */
      readonly sets?: readonly MembersRow[] | undefined;
    }
  | { readonly kind: 'epoch-seen'; readonly id: string; readonly epoch: Epoch }
  /** No batch of a lower epoch is taken any more, and nobody else gets this epoch from here. */
  | {
      readonly kind: 'promise';
      readonly id: string;
      readonly epoch: Epoch;
      /** The node that may lead in it. */
      readonly candidate: string;
    }
  /** The space's log goes back to a position; what stands before this record behind it is void. */
  | ({ readonly kind: 'rewind'; readonly id: string } & Rewind)
  /** The host has returned from `rewound` for these entries. */
  | {
      readonly kind: 'rewound';
      readonly id: string;
      readonly from: Sequence;
      readonly to: Sequence;
    }
  | { readonly kind: 'applied'; readonly id: string; readonly sequence: Sequence }
  /** The host needs nothing below `sequence` on this node any more. */
  | { readonly kind: 'checkpoint'; readonly id: string; readonly sequence: Sequence }
  /** The host's apply callback is never given this entry. */
  | { readonly kind: 'skip'; readonly id: string; readonly sequence: Sequence }
  /** The host is given this snapshot from now on: again after a crash, until `base` stands. */
  | {
      readonly kind: 'begun';
      readonly id: string;
      readonly snapshot: SnapshotFacts;
      readonly whole: SnapshotWhole;
    }
  /** The space stands on this snapshot: what the log holds of it before is void. */
  | { readonly kind: 'base'; readonly id: string; readonly snapshot: SnapshotFacts }
  | { readonly kind: 'mark' }
  /** Says nothing: takes the room of what a repair could not bring back. */
  | { readonly kind: 'filler'; readonly bytes: number };

const SPACE = 1;
const EPOCH_SEEN = 2;
const REWIND = 3;
const BASE = 4;
const CHECKPOINT = 5;
const APPLIED = 7;
const MARK = 8;
const FILLER = 9;
const SKIP = 10;
const BEGUN = 16;
const PROMISE = 20;
const REWOUND = 21;

const MEMBERS = new Recent<readonly Member[]>();

/**
 * Appends members as u16 count, then (node id, host, port u16) each. Throws Configuration for more
 * than can be read again.
 */
export function writeMembers(w: ByteWriter, members: readonly Member[]): void {
  w.recent(MEMBERS, members, writeAll);
}

function writeAll(w: ByteWriter, members: readonly Member[]): void {
  if (members.length > MEMBERS_MAX) {
    const found = `${members.length} members of a space, at most ${MEMBERS_MAX}`;
    throw failure('Configuration', found, { details: { option: 'replicas' } });
  }
  w.u16(members.length);
  for (const m of members) w.text(m.nodeId).text(m.host).u16(m.port);
}

export function sameMembers(a: readonly Member[], b: readonly Member[]): boolean {
  if (a === b) return true;
  return a.length === b.length && a.every((member, i) => isSameMember(member, b[i]!));
}

function isSameMember(a: Member, b: Member): boolean {
  return a.nodeId === b.nodeId && a.host === b.host && a.port === b.port;
}

/** Throws ProtocolViolation for more than can be. */
export function readMembers(r: ByteReader): readonly Member[] {
  return r.recent(MEMBERS, () => readAll(r));
}

function readAll(r: ByteReader): readonly Member[] {
  const count = r.u16();
  if (count > MEMBERS_MAX) throw failure('ProtocolViolation', `a space with ${count} members`);
  const members: Member[] = [];
  for (let i = 0; i < count; i++) {
    const nodeId = r.text();
    // An older release told 0.0.0.0 as any other address: nobody knows where that node listens.
    const at = dialable({ host: r.text(), port: r.u16() }) ?? { host: '', port: 0 };
    members.push({ nodeId, ...at });
  }
  return members;
}

type SpaceRecord = Extract<NodeRecord, { kind: 'space' }>;

export function encodeNodeRecord(record: NodeRecord): Uint8Array {
  const w = new ByteWriter();
  switch (record.kind) {
    case 'space':
      w.u8(SPACE)
        .id(record.id)
        .text(record.name)
        .u8(record.role === 'primary' ? 1 : 0);
      w.u32(record.epoch).text(record.primary);
      writeMembers(w, record.members);
      writeDirectory(w, record.directoryId);
      writeMembersRows(w, record.sets ?? []);
      break;
    case 'epoch-seen':
      w.u8(EPOCH_SEEN).id(record.id).u32(record.epoch);
      break;
    case 'promise':
      w.u8(PROMISE).id(record.id).u32(record.epoch).text(record.candidate);
      break;
    case 'rewind': {
      const { position } = record;
      w.u8(REWIND).id(record.id).u32(position.epoch).u64(position.sequence);
      w.u32(position.headerCrc).big(record.timestamp).u64(record.to).text(record.quarantine);
      break;
    }
    case 'rewound':
      w.u8(REWOUND).id(record.id).u64(record.from).u64(record.to);
      break;
    case 'applied':
      w.u8(APPLIED).id(record.id).u64(record.sequence);
      break;
    case 'checkpoint':
      w.u8(CHECKPOINT).id(record.id).u64(record.sequence);
      break;
    case 'skip':
      w.u8(SKIP).id(record.id).u64(record.sequence);
      break;
    case 'begun':
      w.u8(BEGUN).id(record.id);
      writeSnapshotFacts(w, record.snapshot);
      writeSnapshotWhole(w, record.whole);
      writeSnapshotSets(w, record.snapshot);
      break;
    case 'base':
      w.u8(BASE).id(record.id);
      writeSnapshotFacts(w, record.snapshot);
      writeSnapshotSets(w, record.snapshot);
      break;
    case 'mark':
      w.u8(MARK);
      break;
    case 'filler':
      w.u8(FILLER).raw(new Uint8Array(record.bytes - 1));
      break;
  }
  return w.bytes();
}

/** Of an entry of the node's space: it takes room, and has no sequence. */
export function isFiller(view: DataView, at: number): boolean {
  return readSequence(view, at) === 0;
}

/** Throws UnsupportedVersion for a kind that we do not know, else CorruptionDetected. */
export function decodeNodeRecord(payload: Uint8Array): NodeRecord {
  const r = new ByteReader(payload, 'CorruptionDetected');
  const kind = r.u8();
  const record = decodeKind(kind, r);
  r.end();
  return record;
}

function decodeKind(kind: number, r: ByteReader): NodeRecord {
  switch (kind) {
    case SPACE:
      return {
        kind: 'space',
        id: r.id(),
        name: r.text(),
        role: r.u8() === 1 ? 'primary' : 'replica',
        epoch: r.u32(),
        primary: r.text(),
        members: readMembers(r),
        // Releases before it ended here.
        ...(r.left > 0 && readSets(r)),
      };
    case EPOCH_SEEN:
      return { kind: 'epoch-seen', id: r.id(), epoch: r.u32() };
    case PROMISE:
      return { kind: 'promise', id: r.id(), epoch: r.u32(), candidate: r.text() };
    case REWIND:
      return {
        kind: 'rewind',
        id: r.id(),
        position: { epoch: r.u32(), sequence: r.u64(), headerCrc: r.u32() },
        timestamp: r.big(),
        to: r.u64(),
        quarantine: r.text(),
      };
    case REWOUND:
      return { kind: 'rewound', id: r.id(), from: r.u64(), to: r.u64() };
    case APPLIED:
      return { kind: 'applied', id: r.id(), sequence: r.u64() };
    case CHECKPOINT:
      return { kind: 'checkpoint', id: r.id(), sequence: r.u64() };
    case SKIP:
      return { kind: 'skip', id: r.id(), sequence: r.u64() };
    case BEGUN:
      return readBegun(r);
    case BASE: {
      const id = r.id();
      return { kind: 'base', id, snapshot: withSets(r, readSnapshotFacts(r)) };
    }
    case MARK:
      return { kind: 'mark' };
    case FILLER:
      return { kind: 'filler', bytes: 1 + r.raw(r.left).length };
    default:
      throw failure('UnsupportedVersion', `node record of kind ${kind} in the log`);
  }
}

function readSets(r: ByteReader): Pick<SpaceRecord, 'directoryId' | 'sets'> {
  return { directoryId: readDirectory(r), sets: readMembersRows(r, 'CorruptionDetected') };
}

function readBegun(r: ByteReader): NodeRecord {
  const id = r.id();
  const snapshot = readSnapshotFacts(r);
  const whole = readSnapshotWhole(r);
  return { kind: 'begun', id, snapshot: withSets(r, snapshot), whole };
}

/** Releases before them ended where the record does. */
function withSets(r: ByteReader, snapshot: SnapshotFacts): SnapshotFacts {
  return r.left > 0 ? readSnapshotSets(r, snapshot, 'CorruptionDetected') : snapshot;
}
