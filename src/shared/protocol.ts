/**
 * The frames between a primary's shipper (which dials) and a replica (which listens).
 * docs/PROTOCOL.md shows each as a byte table. Every frame: length u32 of the body, kind u8, 3
 * zero bytes, CRC32C of the body (0 for batches: each has its own), CRC32C of these 12 bytes, body.
 * All integers little-endian.
 */
import { ByteReader, ByteWriter } from './bytes.js';
import { crc32c, crc32cTable } from './crc.js';
import { failure } from './errors.js';
import { FRAME_HEADER_BYTES, FRAME_LEAST_BYTES } from './limits.js';
import { type Member, readMembers, writeMembers } from './node-record.js';
import type { Epoch, Position, Sequence } from './position.js';

const HELLO_MAGIC = 0x4c574745;
/** Of at most 33 bytes each: half of what every frame holds. */
const ROWS_PER_FRAME = 1_000;

export const FrameKind = {
  Hello: 1,
  Welcome: 2,
  Spaces: 3,
  Positions: 4,
  Verdicts: 5,
  Batches: 6,
  Acks: 7,
  Heartbeat: 8,
  Nack: 9,
  Ask: 10,
  Answer: 11,
  Bye: 12,
  Ping: 13,
  Pong: 14,
} as const;

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
}

export interface Welcome {
  readonly version: number;
  readonly clusterId: string;
  readonly nodeId: string;
  readonly incarnation: bigint;
  readonly features: number;
  readonly maxFrameBytes: number;
  readonly maxEntryBytes: number;
}

export interface SpaceRow {
  readonly handle: Handle;
  readonly id: string;
  readonly epoch: Epoch;
  readonly name: string;
  readonly members: readonly Member[];
}

/** `leads`: this node leads the space itself. `refused`: it cannot take the space. */
export type PositionAnswer = 'follows' | 'leads' | 'refused';

export interface PositionRow {
  readonly handle: Handle;
  readonly answer: PositionAnswer;
  readonly epochSeen: Epoch;
  readonly position: Position;
  readonly applied: Sequence;
}

export type Verdict = 'continue' | 'rewind' | 'snapshot' | 'fenced' | 'fork' | 'stale';

export interface VerdictRow {
  readonly handle: Handle;
  readonly verdict: Verdict;
  /** The first sequence that will be sent. */
  readonly next: Sequence;
}

export interface AckRow {
  readonly handle: Handle;
  readonly epoch: Epoch;
  readonly flushed: Sequence;
  readonly applied: Sequence;
}

/** From a primary: what is durable there. From a replica: what it has received. */
export interface HeartbeatRow {
  readonly handle: Handle;
  readonly sequence: Sequence;
}

export type Frame =
  | { readonly kind: 'hello'; readonly hello: Hello }
  | { readonly kind: 'welcome'; readonly welcome: Welcome }
  | { readonly kind: 'spaces'; readonly rows: readonly SpaceRow[] }
  | { readonly kind: 'positions'; readonly rows: readonly PositionRow[] }
  | { readonly kind: 'verdicts'; readonly rows: readonly VerdictRow[] }
  /** `body`: batches, each behind its length as u32, header included. */
  | { readonly kind: 'batches'; readonly body: Uint8Array }
  | { readonly kind: 'acks'; readonly timestampMs: number; readonly rows: readonly AckRow[] }
  | {
      readonly kind: 'heartbeat';
      /** For so long the sender's main thread has not moved; 0 while it does (row 75). */
      readonly stalledMs: number;
      readonly rows: readonly HeartbeatRow[];
    }
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
  | { readonly kind: 'pong' };

const ANSWERS: readonly PositionAnswer[] = ['follows', 'leads', 'refused'];
const VERDICTS: readonly Verdict[] = ['continue', 'rewind', 'snapshot', 'fenced', 'fork', 'stale'];

/** Writes a frame header for a body that the caller has put behind it. @param crc of the body */
export function writeFrameHeader(
  view: DataView,
  at: number,
  kind: number,
  length: number,
  crc: number,
): void {
  view.setUint32(at, length, true);
  view.setUint32(at + 4, kind, true);
  view.setUint32(at + 8, crc, true);
  view.setUint32(at + 12, crc32cTable(view, at, 12), true);
}

/** A whole frame, header included. Batches are built in place by the shipper instead. */
export function encodeFrame(frame: Exclude<Frame, { kind: 'batches' }>): Uint8Array {
  const w = new ByteWriter();
  w.u32(0).u32(0).u32(0).u32(0);
  switch (frame.kind) {
    case 'hello': {
      const h = frame.hello;
      w.u32(HELLO_MAGIC).u16(h.minVersion).u16(h.maxVersion);
      w.text(h.clusterId).text(h.nodeId).text(h.peerId).big(h.incarnation);
      w.u32(h.features).u32(h.maxFrameBytes).u32(h.maxEntryBytes).u16(0);
      break;
    }
    case 'welcome': {
      const h = frame.welcome;
      w.u32(HELLO_MAGIC).u16(h.version).text(h.clusterId).text(h.nodeId).big(h.incarnation);
      w.u32(h.features).u32(h.maxFrameBytes).u32(h.maxEntryBytes).u16(0);
      break;
    }
    case 'spaces':
      for (const r of frame.rows) {
        w.u32(r.handle).id(r.id).u32(r.epoch).text(r.name);
        writeMembers(w, r.members);
      }
      break;
    case 'positions':
      for (const r of frame.rows) {
        w.u32(r.handle).u8(ANSWERS.indexOf(r.answer)).u32(r.epochSeen).u32(r.position.epoch);
        w.u64(r.position.sequence).u32(r.position.headerCrc).u64(r.applied);
      }
      break;
    case 'verdicts':
      for (const r of frame.rows) w.u32(r.handle).u8(VERDICTS.indexOf(r.verdict)).u64(r.next);
      break;
    case 'acks':
      w.u64(frame.timestampMs);
      for (const r of frame.rows) w.u32(r.handle).u32(r.epoch).u64(r.flushed).u64(r.applied);
      break;
    case 'heartbeat':
      w.u32(frame.stalledMs);
      for (const r of frame.rows) w.u32(r.handle).u64(r.sequence);
      break;
    case 'nack':
      w.u32(frame.handle).u32(frame.epoch).u64(frame.expected);
      break;
    case 'ask':
      w.id(frame.id).text(frame.name);
      break;
    case 'answer':
      w.id(frame.id)
        .u8(frame.known ? 1 : 0)
        .u32(frame.epoch)
        .text(frame.primary);
      break;
    case 'bye':
      w.u8(frame.fatal ? 1 : 0)
        .text(frame.code)
        .text(frame.message);
      break;
    case 'ping':
    case 'pong':
      break;
  }
  const bytes = w.bytes();
  const body = bytes.subarray(FRAME_HEADER_BYTES);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  writeFrameHeader(view, 0, kindOf(frame), body.length, crc32c(body));
  return bytes;
}

/** Rows of a fixed size in parts that any frame holds. */
export function inFrames<T>(rows: readonly T[]): T[][] {
  const parts: T[][] = [];
  for (let i = 0; i < rows.length; i += ROWS_PER_FRAME) {
    parts.push(rows.slice(i, i + ROWS_PER_FRAME));
  }
  return parts;
}

/** Introductions in parts that any frame holds, the longest names and members included. */
export function spacesInFrames(rows: readonly SpaceRow[]): SpaceRow[][] {
  const parts: SpaceRow[][] = [];
  let left = 0;
  for (const row of rows) {
    let bytes = 40 + 3 * row.name.length;
    for (const m of row.members) bytes += 4 + 3 * (m.nodeId.length + m.host.length);
    if (bytes > left) {
      parts.push([]);
      left = FRAME_LEAST_BYTES;
    }
    parts[parts.length - 1]!.push(row);
    left -= bytes;
  }
  return parts;
}

function kindOf(frame: Frame): number {
  switch (frame.kind) {
    case 'hello':
      return FrameKind.Hello;
    case 'welcome':
      return FrameKind.Welcome;
    case 'spaces':
      return FrameKind.Spaces;
    case 'positions':
      return FrameKind.Positions;
    case 'verdicts':
      return FrameKind.Verdicts;
    case 'batches':
      return FrameKind.Batches;
    case 'acks':
      return FrameKind.Acks;
    case 'heartbeat':
      return FrameKind.Heartbeat;
    case 'nack':
      return FrameKind.Nack;
    case 'ask':
      return FrameKind.Ask;
    case 'answer':
      return FrameKind.Answer;
    case 'bye':
      return FrameKind.Bye;
    case 'ping':
      return FrameKind.Ping;
    case 'pong':
      return FrameKind.Pong;
  }
}

/** Decodes the body of a frame. Throws ProtocolViolation; allocates by what is there only. */
export function decodeFrame(kind: number, body: Uint8Array): Frame {
  if (kind === FrameKind.Batches) return { kind: 'batches', body };
  const r = new ByteReader(body, 'ProtocolViolation');
  const frame = decodeBody(kind, r);
  r.end();
  return frame;
}

function decodeBody(kind: number, r: ByteReader): Frame {
  switch (kind) {
    case FrameKind.Hello:
      return { kind: 'hello', hello: readHello(r) };
    case FrameKind.Welcome:
      return { kind: 'welcome', welcome: readWelcome(r) };
    case FrameKind.Spaces:
      return { kind: 'spaces', rows: rows(r, readSpaceRow) };
    case FrameKind.Positions:
      return { kind: 'positions', rows: rows(r, readPositionRow) };
    case FrameKind.Verdicts:
      return { kind: 'verdicts', rows: rows(r, readVerdictRow) };
    case FrameKind.Acks:
      return { kind: 'acks', timestampMs: r.u64(), rows: rows(r, readAckRow) };
    case FrameKind.Heartbeat:
      return {
        kind: 'heartbeat',
        stalledMs: r.u32(),
        rows: rows(r, (x) => ({ handle: x.u32(), sequence: x.u64() })),
      };
    case FrameKind.Nack:
      return { kind: 'nack', handle: r.u32(), epoch: r.u32(), expected: r.u64() };
    case FrameKind.Ask:
      return { kind: 'ask', id: r.id(), name: r.text() };
    case FrameKind.Answer:
      return {
        kind: 'answer',
        id: r.id(),
        known: r.u8() === 1,
        epoch: r.u32(),
        primary: r.text(),
      };
    case FrameKind.Bye:
      return { kind: 'bye', fatal: r.u8() === 1, code: r.text(), message: r.text() };
    case FrameKind.Ping:
      return { kind: 'ping' };
    case FrameKind.Pong:
      return { kind: 'pong' };
    default:
      throw failure('ProtocolViolation', `a frame of unknown kind ${kind}`);
  }
}

function rows<T>(r: ByteReader, read: (r: ByteReader) => T): T[] {
  const found: T[] = [];
  while (r.left > 0) found.push(read(r));
  return found;
}

function readHello(r: ByteReader): Hello {
  if (r.u32() !== HELLO_MAGIC) throw failure('ProtocolViolation', 'a hello without its magic');
  const hello = {
    minVersion: r.u16(),
    maxVersion: r.u16(),
    clusterId: r.text(),
    nodeId: r.text(),
    peerId: r.text(),
    incarnation: r.big(),
    features: r.u32(),
    maxFrameBytes: r.u32(),
    maxEntryBytes: r.u32(),
  };
  r.raw(r.u16());
  return hello;
}

function readWelcome(r: ByteReader): Welcome {
  if (r.u32() !== HELLO_MAGIC) throw failure('ProtocolViolation', 'a welcome without its magic');
  const welcome = {
    version: r.u16(),
    clusterId: r.text(),
    nodeId: r.text(),
    incarnation: r.big(),
    features: r.u32(),
    maxFrameBytes: r.u32(),
    maxEntryBytes: r.u32(),
  };
  r.raw(r.u16());
  return welcome;
}

function readSpaceRow(r: ByteReader): SpaceRow {
  return {
    handle: r.u32(),
    id: r.id(),
    epoch: r.u32(),
    name: r.text(),
    members: readMembers(r),
  };
}

function readPositionRow(r: ByteReader): PositionRow {
  return {
    handle: r.u32(),
    answer: oneOf(ANSWERS, r.u8()),
    epochSeen: r.u32(),
    position: { epoch: r.u32(), sequence: r.u64(), headerCrc: r.u32() },
    applied: r.u64(),
  };
}

function readVerdictRow(r: ByteReader): VerdictRow {
  return { handle: r.u32(), verdict: oneOf(VERDICTS, r.u8()), next: r.u64() };
}

function readAckRow(r: ByteReader): AckRow {
  return { handle: r.u32(), epoch: r.u32(), flushed: r.u64(), applied: r.u64() };
}

function oneOf<T>(values: readonly T[], index: number): T {
  const value = values[index];
  if (value === undefined) throw failure('ProtocolViolation', `a code ${index} nobody defined`);
  return value;
}

/** A frame as its header announces it. */
export interface FrameHead {
  readonly kind: number;
  readonly length: number;
  /** CRC32C of the body; batches have their own. */
  readonly crc: number;
}

/**
 * Reads a frame header. Throws ProtocolViolation when the length exceeds `cap` bytes, or the bytes
 * are no frame at all; ChecksumMismatch when a bit of it has changed on the way.
 */
export function readFrameHead(view: DataView, at: number, cap: number): FrameHead {
  const length = view.getUint32(at, true);
  const kind = view.getUint32(at + 4, true);
  if (crc32cTable(view, at, 12) !== view.getUint32(at + 12, true)) {
    if (kind === 0 || kind > 255) throw failure('ProtocolViolation', 'bytes that are no frame');
    throw failure('ChecksumMismatch', 'a frame whose header does not fit its CRC');
  }
  if (length > cap) throw failure('ProtocolViolation', `a frame of ${length} bytes, cap ${cap}`);
  return { kind, length, crc: view.getUint32(at + 8, true) };
}

/**
 * Brings a byte stream into frames in one buffer that never grows beyond what has arrived nor
 * beyond its cap.
 */
export class FrameAssembler {
  #bytes: Uint8Array;
  #view: DataView;
  #used = 0;
  #cap: number;

  constructor(cap: number) {
    this.#cap = cap;
    this.#bytes = new Uint8Array(FRAME_HEADER_BYTES + cap);
    this.#view = new DataView(this.#bytes.buffer);
  }

  /** From now on frames of up to `cap` bytes are taken. */
  setCap(cap: number): void {
    const bytes = new Uint8Array(FRAME_HEADER_BYTES + cap);
    bytes.set(this.#bytes.subarray(0, Math.min(this.#used, bytes.length)));
    this.#cap = cap;
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer);
  }

  /**
   * Takes `chunk` and hands over each whole frame. The body is valid only during the call.
   * `take` returns false to stop; the bytes not used up are returned, to be fed again.
   */
  feed(chunk: Uint8Array, take: (kind: number, body: Uint8Array) => boolean): Uint8Array {
    let rest = chunk;
    while (rest.length > 0) {
      const wanted = this.#wanted();
      const part = rest.subarray(0, wanted - this.#used);
      this.#bytes.set(part, this.#used);
      this.#used += part.length;
      rest = rest.subarray(part.length);
      if (this.#used < FRAME_HEADER_BYTES) break;
      const head = readFrameHead(this.#view, 0, this.#cap);
      const end = FRAME_HEADER_BYTES + head.length;
      if (this.#used < end) continue;
      this.#used = 0;
      const body = this.#bytes.subarray(FRAME_HEADER_BYTES, end);
      if (head.kind !== FrameKind.Batches && crc32c(body) !== head.crc) {
        throw failure('ChecksumMismatch', `a frame of kind ${head.kind} does not fit its CRC`);
      }
      if (!take(head.kind, body)) break;
    }
    return rest;
  }

  #wanted(): number {
    if (this.#used < FRAME_HEADER_BYTES) return FRAME_HEADER_BYTES;
    return FRAME_HEADER_BYTES + readFrameHead(this.#view, 0, this.#cap).length;
  }
}
