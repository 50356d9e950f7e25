/**
 * What a primary's shipper (which dials) and a replica (which listens) say to each other.
 * docs/PROTOCOL.md shows each frame as a byte table; wire/frame.ts has what they are wrapped in.
 */

import { ByteReader, type ByteRoom, ByteWriter } from '../bytes.js';
import { crc32c } from '../crc.js';
import { failure } from '../errors.js';
import { POSITION_ANSWERS, type PositionAnswer, VERDICTS, type Verdict } from '../lead/epoch.js';
import { FRAME_HEADER_BYTES } from '../limits.js';
import { type Member, readMembers, writeMembers } from '../log/node-record.js';
import { type MembersRow, readMembersRows, writeMembersRows } from '../members/members.js';
import { rowBytes } from '../members/rows.js';
import type { Epoch, Position, Sequence } from '../position.js';
import { APPEND_CODECS, type AppendFrame } from './append-frames.js';
import { PROOF_BYTES } from './auth.js';
import {
  BATCHES,
  type FrameCodec,
  type FrameCodecs,
  oneOf,
  partsBySize,
  readRows,
  writeFrameHeader,
} from './frame.js';
import { PEER_CODECS, type PeerFrame } from './peer-frames.js';
import { ROLE_CODECS, type RoleFrame } from './role-frames.js';
import { SNAPSHOT_CODECS, type SnapshotFrame } from './snapshot-frames.js';

const HELLO_MAGIC = 0x4c574745;
/** Of at most 33 bytes each: half of what every frame holds. */
const ROWS_PER_FRAME = 1_000;

/** Names a space on one connection: the dialler's slot number. */
export type Handle = number;

export interface Hello {
  readonly minVersion: number;
  readonly maxVersion: number;
  readonly clusterId: string;
  readonly nodeId: string;
  /** Whom the dialler expects at this address. */
  readonly peerId: string;
  /** Random per process start. */
  readonly incarnation: bigint;
  readonly features: number;
  readonly maxFrameBytes: number;
  readonly maxEntryBytes: number;
  /** See wire/auth.ts and wire/greeting.ts. */
  readonly auth?: Uint8Array | undefined;
}

export interface Welcome {
  readonly version: number;
  readonly clusterId: string;
  readonly nodeId: string;
  readonly incarnation: bigint;
  readonly features: number;
  readonly maxFrameBytes: number;
  readonly maxEntryBytes: number;
  readonly auth?: Uint8Array | undefined;
}

export interface SpaceRow {
  readonly handle: Handle;
  readonly id: string;
  readonly epoch: Epoch;
  readonly name: string;
  readonly members: readonly Member[];
  /** Who counts, by the primary's log, the newest last; empty in version 1. */
  readonly sets: readonly MembersRow[];
}

export interface PositionRow {
  readonly handle: Handle;
  readonly answer: PositionAnswer;
  readonly epochSeen: Epoch;
  readonly position: Position;
  readonly applied: Sequence;
}

export interface VerdictRow {
  readonly handle: Handle;
  readonly verdict: Verdict;
  /** The first sequence that will be sent. */
  readonly next: Sequence;
}

/**
 * Rows of an ack, one behind the other: there is one for each space that a commit was of, so none
 * of them is an object.
 */
export const ACK_FIELDS = 4;
export const ACK_HANDLE = 0;
export const ACK_EPOCH = 1;
export const ACK_FLUSHED = 2;
export const ACK_APPLIED = 3;
/** Of a row in a frame. */
const ACK_BYTES = 24;

/** From a primary: what is durable there. From a replica: what it has received. */
export interface HeartbeatRow {
  readonly handle: Handle;
  readonly sequence: Sequence;
}

export type StreamFrame =
  | { readonly kind: 'hello'; readonly hello: Hello }
  | { readonly kind: 'welcome'; readonly welcome: Welcome }
  | { readonly kind: 'spaces'; readonly rows: readonly SpaceRow[] }
  | { readonly kind: 'positions'; readonly rows: readonly PositionRow[] }
  | { readonly kind: 'verdicts'; readonly rows: readonly VerdictRow[] }
  /** `body`: batches, each behind its length as u32, header included. */
  | { readonly kind: 'batches'; readonly body: Uint8Array }
  /** `rows`: ACK_FIELDS each. */
  | { readonly kind: 'acks'; readonly timestampMs: number; readonly rows: Float64Array }
  | {
      readonly kind: 'heartbeat';
      /** For so long the sender's main thread has not moved; 0 while it does (row 75). */
      readonly stalledMs: number;
      readonly rows: readonly HeartbeatRow[];
    }
  /**
   * From a primary that speaks version 2, once a second and only what has moved: its host needs
   * nothing below, so a replica that follows it does not, either.
   */
  | { readonly kind: 'checkpoints'; readonly rows: readonly HeartbeatRow[] }
  | {
      readonly kind: 'nack';
      readonly handle: Handle;
      readonly epoch: Epoch;
      readonly expected: Sequence;
    }
  | { readonly kind: 'ask'; readonly id: string; readonly name: string }
  | {
      readonly kind: 'answer';
      readonly id: string;
      readonly known: boolean;
      readonly epoch: Epoch;
      readonly primary: string;
    }
  | {
      readonly kind: 'bye';
      /** Trying again soon will not help. */
      readonly fatal: boolean;
      readonly code: string;
      readonly message: string;
    }
  /** Is the node at the other end of this connection alive? Answered at once. */
  | { readonly kind: 'ping' }
  | { readonly kind: 'pong' }
  /** The dialler has the key (wire/auth.ts): answers a welcome that has proved so. */
  | { readonly kind: 'proof'; readonly proof: Uint8Array };

export type Frame = StreamFrame | PeerFrame | AppendFrame | SnapshotFrame | RoleFrame;

/** Batches are built in place by the shipper, and read where they lie. */
export type PlainFrame = Exclude<Frame, { kind: 'batches' }>;

const STREAM_CODECS: FrameCodecs<Exclude<StreamFrame, { kind: 'batches' }>> = {
  hello: {
    code: 1,
    write: (w, { hello: h }) => {
      w.u32(HELLO_MAGIC).u16(h.minVersion).u16(h.maxVersion);
      w.text(h.clusterId).text(h.nodeId).text(h.peerId).big(h.incarnation);
      w.u32(h.features).u32(h.maxFrameBytes).u32(h.maxEntryBytes);
      writeAuth(w, h.auth);
    },
    read: (r) => ({ kind: 'hello', hello: readHello(r) }),
  },
  welcome: {
    code: 2,
    write: (w, { welcome: h }) => {
      w.u32(HELLO_MAGIC).u16(h.version).text(h.clusterId).text(h.nodeId).big(h.incarnation);
      w.u32(h.features).u32(h.maxFrameBytes).u32(h.maxEntryBytes);
      writeAuth(w, h.auth);
    },
    read: (r) => ({ kind: 'welcome', welcome: readWelcome(r) }),
  },
  spaces: {
    code: 3,
    write: (w, { rows }) => {
      for (const r of rows) {
        w.u32(r.handle).id(r.id).u32(r.epoch).text(r.name);
        writeMembers(w, r.members);
      }
    },
    read: (r) => ({ kind: 'spaces', rows: readRows(r, readSpaceRow) }),
    since2: {
      code: 41,
      write: (w, { rows }) => {
        for (const r of rows) {
          w.u32(r.handle).id(r.id).u32(r.epoch).text(r.name);
          writeMembers(w, r.members);
          writeMembersRows(w, r.sets);
        }
      },
      read: (r) => ({
        kind: 'spaces',
        rows: readRows(r, (x) => ({
          ...readSpaceRow(x),
          sets: readMembersRows(x, 'ProtocolViolation'),
        })),
      }),
    },
  },
  positions: {
    code: 4,
    write: (w, { rows }) => {
      for (const r of rows) {
        w.u32(r.handle)
          .u8(POSITION_ANSWERS.indexOf(r.answer))
          .u32(r.epochSeen)
          .u32(r.position.epoch);
        w.u64(r.position.sequence).u32(r.position.headerCrc).u64(r.applied);
      }
    },
    read: (r) => ({ kind: 'positions', rows: readRows(r, readPositionRow) }),
  },
  verdicts: {
    code: 5,
    write: (w, { rows }) => {
      for (const r of rows) w.u32(r.handle).u8(VERDICTS.indexOf(r.verdict)).u64(r.next);
    },
    read: (r) => ({ kind: 'verdicts', rows: readRows(r, readVerdictRow) }),
  },
  acks: {
    code: 7,
    size: ({ rows }) => 8 + (rows.length / ACK_FIELDS) * ACK_BYTES,
    write: (w, { timestampMs, rows }) => {
      w.u64(timestampMs);
      for (let at = 0; at < rows.length; at += ACK_FIELDS) {
        w.u32(rows[at + ACK_HANDLE]!).u32(rows[at + ACK_EPOCH]!);
        w.u64(rows[at + ACK_FLUSHED]!).u64(rows[at + ACK_APPLIED]!);
      }
    },
    read: (r) => ({ kind: 'acks', timestampMs: r.u64(), rows: readAckRows(r) }),
  },
  heartbeat: {
    code: 8,
    write: (w, { stalledMs, rows }) => {
      w.u32(stalledMs);
      for (const r of rows) w.u32(r.handle).u64(r.sequence);
    },
    read: (r) => ({
      kind: 'heartbeat',
      stalledMs: r.u32(),
      rows: readRows(r, readHeartbeatRow),
    }),
  },
  checkpoints: {
    code: 15,
    write: (w, { rows }) => {
      for (const r of rows) w.u32(r.handle).u64(r.sequence);
    },
    read: (r) => ({ kind: 'checkpoints', rows: readRows(r, readHeartbeatRow) }),
  },
  nack: {
    code: 9,
    write: (w, f) => w.u32(f.handle).u32(f.epoch).u64(f.expected),
    read: (r) => ({ kind: 'nack', handle: r.u32(), epoch: r.u32(), expected: r.u64() }),
  },
  ask: {
    code: 10,
    write: (w, f) => w.id(f.id).text(f.name),
    read: (r) => ({ kind: 'ask', id: r.id(), name: r.text() }),
  },
  answer: {
    code: 11,
    write: (w, f) => {
      w.id(f.id).u8(Number(f.known)).u32(f.epoch).text(f.primary);
    },
    read: (r) => ({
      kind: 'answer',
      id: r.id(),
      known: r.u8() === 1,
      epoch: r.u32(),
      primary: r.text(),
    }),
  },
  bye: {
    code: 12,
    write: (w, f) => {
      w.u8(Number(f.fatal)).text(f.code).text(f.message);
    },
    read: (r) => ({ kind: 'bye', fatal: r.u8() === 1, code: r.text(), message: r.text() }),
  },
  ping: { code: 13, write: () => undefined, read: () => ({ kind: 'ping' }) },
  pong: { code: 14, write: () => undefined, read: () => ({ kind: 'pong' }) },
  proof: {
    code: 40,
    write: (w, { proof }) => w.raw(proof),
    read: (r) => ({ kind: 'proof', proof: r.raw(PROOF_BYTES).slice() }),
  },
};

/** Every kind of frame but batches. Each file of frames adds its codecs here. */
const CODECS: FrameCodecs<PlainFrame> = {
  ...STREAM_CODECS,
  ...PEER_CODECS,
  ...APPEND_CODECS,
  ...SNAPSHOT_CODECS,
  ...ROLE_CODECS,
};

const BY_CODE = new Map<number, FrameCodec<PlainFrame>>();
for (const codec of Object.values(CODECS) as FrameCodec<PlainFrame>[]) {
  for (const layout of codec.since2 ? [codec, codec.since2] : [codec]) {
    const { code } = layout;
    if (code === BATCHES || BY_CODE.has(code)) throw new Error(`kind ${code} twice`);
    BY_CODE.set(code, layout);
  }
}

/** The kind byte of each kind of frame, as version 1 has it. */
export const FRAME_KINDS: Readonly<Record<Frame['kind'], number>> = {
  batches: BATCHES,
  ...(Object.fromEntries(Object.entries(CODECS).map(([kind, { code }]) => [kind, code])) as Record<
    PlainFrame['kind'],
    number
  >),
};

/**
 * A whole frame, header included.
 * @param version that was agreed on: what only version 2 tells goes to who speaks it
 * @param room where one of known size is written, and left to once it is sent
 */
export function encodeFrame(frame: PlainFrame, version = 1, room?: ByteRoom): Uint8Array {
  const known = CODECS[frame.kind] as FrameCodec<PlainFrame>;
  const size = known.size?.(frame);
  const w = new ByteWriter(size === undefined ? size : roomFor(FRAME_HEADER_BYTES + size, room));
  w.u32(0).u32(0).u32(0).u32(0);
  const codec = (version > 1 && known.since2) || known;
  codec.write(w, frame);
  const bytes = w.bytes();
  const body = bytes.subarray(FRAME_HEADER_BYTES);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  writeFrameHeader(view, 0, codec.code, body.length, crc32c(body));
  return bytes;
}

function roomFor(bytes: number, room: ByteRoom | undefined): Uint8Array {
  return room ? room.take(bytes) : new Uint8Array(bytes);
}

/** Decodes the body of a frame. Throws ProtocolViolation; allocates by what is there only. */
export function decodeFrame(kind: number, body: Uint8Array): Frame {
  if (kind === BATCHES) return { kind: 'batches', body };
  const codec = BY_CODE.get(kind);
  if (!codec) throw failure('ProtocolViolation', `a frame of unknown kind ${kind}`);
  const r = new ByteReader(body, 'ProtocolViolation');
  const frame = codec.read(r);
  r.end();
  return frame;
}

/** Rows of a fixed size in parts that any frame holds. */
export function inFrames<T>(rows: readonly T[]): T[][] {
  const parts: T[][] = [];
  for (let i = 0; i < rows.length; i += ROWS_PER_FRAME) {
    parts.push(rows.slice(i, i + ROWS_PER_FRAME));
  }
  return parts;
}

/** The same for rows of acks. */
export function acksInFrames(rows: Float64Array): Float64Array[] {
  const parts: Float64Array[] = [];
  const most = ACK_FIELDS * ROWS_PER_FRAME;
  for (let i = 0; i < rows.length; i += most) parts.push(rows.subarray(i, i + most));
  return parts;
}

/** Introductions in parts that any frame holds, the longest names and members included. */
export function spacesInFrames(rows: readonly SpaceRow[]): SpaceRow[][] {
  return partsBySize(rows, (row) => {
    let bytes = 48 + 3 * row.name.length;
    for (const set of row.sets) bytes += rowBytes(set);
    for (const m of row.members) bytes += 4 + 3 * (m.nodeId.length + m.host.length);
    return bytes;
  });
}

function writeAuth(w: ByteWriter, auth: Uint8Array | undefined): void {
  w.u16(auth?.length ?? 0);
  if (auth) w.raw(auth);
}

function readAuth(r: ByteReader): Uint8Array | undefined {
  const length = r.u16();
  // The frame's buffer is used again.
  return length > 0 ? r.raw(length).slice() : undefined;
}

function readHello(r: ByteReader): Hello {
  if (r.u32() !== HELLO_MAGIC) throw failure('ProtocolViolation', 'a hello without its magic');
  return {
    minVersion: r.u16(),
    maxVersion: r.u16(),
    clusterId: r.text(),
    nodeId: r.text(),
    peerId: r.text(),
    incarnation: r.big(),
    features: r.u32(),
    maxFrameBytes: r.u32(),
    maxEntryBytes: r.u32(),
    auth: readAuth(r),
  };
}

function readWelcome(r: ByteReader): Welcome {
  if (r.u32() !== HELLO_MAGIC) throw failure('ProtocolViolation', 'a welcome without its magic');
  return {
    version: r.u16(),
    clusterId: r.text(),
    nodeId: r.text(),
    incarnation: r.big(),
    features: r.u32(),
    maxFrameBytes: r.u32(),
    maxEntryBytes: r.u32(),
    auth: readAuth(r),
  };
}

function readSpaceRow(r: ByteReader): SpaceRow {
  return {
    handle: r.u32(),
    id: r.id(),
    epoch: r.u32(),
    name: r.text(),
    members: readMembers(r),
    sets: [],
  };
}

function readPositionRow(r: ByteReader): PositionRow {
  return {
    handle: r.u32(),
    answer: oneOf(POSITION_ANSWERS, r.u8()),
    epochSeen: r.u32(),
    position: { epoch: r.u32(), sequence: r.u64(), headerCrc: r.u32() },
    applied: r.u64(),
  };
}

function readVerdictRow(r: ByteReader): VerdictRow {
  return { handle: r.u32(), verdict: oneOf(VERDICTS, r.u8()), next: r.u64() };
}

function readHeartbeatRow(r: ByteReader): HeartbeatRow {
  return { handle: r.u32(), sequence: r.u64() };
}

/** What is no whole row is left over, and refused for that. */
function readAckRows(r: ByteReader): Float64Array {
  const rows = new Float64Array(ACK_FIELDS * Math.floor(r.left / ACK_BYTES));
  for (let at = 0; at < rows.length; at += ACK_FIELDS) {
    rows[at + ACK_HANDLE] = r.u32();
    rows[at + ACK_EPOCH] = r.u32();
    rows[at + ACK_FLUSHED] = r.u64();
    rows[at + ACK_APPLIED] = r.u64();
  }
  return rows;
}
