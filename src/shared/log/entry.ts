/**
 * One entry of the log: a 64-byte header and its payload, back to back, little-endian.
 *
 *    0   4  magic         0xDEADBEEF
 *    4   8  sequence      u64, per space, from 1
 *   12   8  timestamp     u64, ns since the Unix epoch
 *   20   4  entry_type
 *   24   4  payload_size  u32
 *   28   4  payload_crc   CRC32C of the payload, 0 for an empty one
 *   32   4  header_crc    CRC32C of [0,32) then [36,56)
 *   36  16  space_id
 *   52   4  epoch
 *   56   4  back          bytes from this entry back to the durable end when it was written
 *   60   4  place         binds header_crc, back and the LSN to this data directory
 *
 * [0,56) is Engram's format and travels between nodes; [56,64) is local to one node's log.
 * Nobody else touches these offsets.
 */
import { hexOf, idWord, type SpaceIdWords } from '../bytes.js';
import { crc32cHeader, crc32cJoined, crc32cRange, crc32cTable } from '../crc.js';
import { ENTRY_HEADER_BYTES } from '../limits.js';
import type { Epoch, Lsn, Sequence } from '../position.js';

export const ENTRY_MAGIC = 0xdeadbeef;

const SEQUENCE = 4;
const TIMESTAMP = 12;
const TYPE = 20;
const PAYLOAD_SIZE = 24;
const PAYLOAD_CRC = 28;
const HEADER_CRC = 32;
export const SPACE_ID = 36;
const EPOCH = 52;
const BACK = 56;
const PLACE = 60;

const TWO_32 = 2 ** 32;

/** What an entry is; 1000 and up are the host's own. */
export const EntryType = {
  EpisodeStore: 1,
  MemoryUpdate: 2,
  MemoryDelete: 3,
  Consolidation: 4,
  /** The first entry of an epoch after the first; written by a promotion only. */
  Checkpoint: 5,
  CompactionMarker: 6,
  /** The first type of the host's own, whatever it keeps: `const CREATED = EntryType.Host`. */
  Host: 1000,
} as const;

export const HOST_ENTRY_TYPE_MIN = EntryType.Host;

/** Whether `append` takes this type: 1-4, 6, and 1000 to 2^32-1 (DESIGN 4, Names). */
export function isAppendableType(type: number): boolean {
  if (type === EntryType.Checkpoint) return false;
  if (type >= 1 && type <= 6) return Number.isInteger(type);
  return Number.isInteger(type) && type >= HOST_ENTRY_TYPE_MIN && type < TWO_32;
}

/** Written by the library, never by a host: 5 and 7. */
export function isOfLibrary(type: number): boolean {
  return (type | 2) === 7;
}

/** Every field of a header, for reading by people and tools. */
export interface EntryHeader {
  readonly magic: number;
  readonly sequence: bigint;
  readonly timestamp: bigint;
  readonly type: number;
  readonly payloadSize: number;
  readonly payloadCrc: number;
  readonly headerCrc: number;
  /** 16 bytes, lower-case hex. */
  readonly spaceId: string;
  readonly epoch: Epoch;
  readonly back: number;
  readonly place: number;
}

/** Reads all fields of the header at `offset`; checks nothing. */
export function decodeHeader(view: DataView, offset: number): EntryHeader {
  return {
    magic: view.getUint32(offset, true),
    sequence: view.getBigUint64(offset + SEQUENCE, true),
    timestamp: view.getBigUint64(offset + TIMESTAMP, true),
    type: view.getUint32(offset + TYPE, true),
    payloadSize: view.getUint32(offset + PAYLOAD_SIZE, true),
    payloadCrc: view.getUint32(offset + PAYLOAD_CRC, true),
    headerCrc: view.getUint32(offset + HEADER_CRC, true),
    spaceId: readSpaceId(view, offset),
    epoch: view.getUint32(offset + EPOCH, true),
    back: view.getUint32(offset + BACK, true),
    place: view.getUint32(offset + PLACE, true),
  };
}

/** Writes all 64 bytes; the inverse of `decodeHeader`. */
export function encodeHeader(view: DataView, offset: number, header: EntryHeader): void {
  view.setUint32(offset, header.magic, true);
  view.setBigUint64(offset + SEQUENCE, header.sequence, true);
  view.setBigUint64(offset + TIMESTAMP, header.timestamp, true);
  view.setUint32(offset + TYPE, header.type, true);
  view.setUint32(offset + PAYLOAD_SIZE, header.payloadSize, true);
  view.setUint32(offset + PAYLOAD_CRC, header.payloadCrc, true);
  view.setUint32(offset + HEADER_CRC, header.headerCrc, true);
  for (let i = 0; i < 4; i++) {
    view.setUint32(offset + SPACE_ID + 4 * i, idWord(header.spaceId, i), true);
  }
  view.setUint32(offset + EPOCH, header.epoch, true);
  view.setUint32(offset + BACK, header.back, true);
  view.setUint32(offset + PLACE, header.place, true);
}

export function readSpaceId(view: DataView, offset: number): string {
  return hexOf(view, offset + SPACE_ID, 16);
}

/** The word `index` (0..3) of the space id, for comparing without making a string. */
export function readSpaceIdWord(view: DataView, offset: number, index: number): number {
  return view.getUint32(offset + SPACE_ID + 4 * index, true);
}

/** u64 as a number: exact up to 2^53, beyond that only known to be too large. */
function readU64(view: DataView, offset: number): number {
  return view.getUint32(offset + 4, true) * TWO_32 + view.getUint32(offset, true);
}

export function readSequence(view: DataView, offset: number): Sequence {
  return readU64(view, offset + SEQUENCE);
}

export function readTimestamp(view: DataView, offset: number): bigint {
  return view.getBigUint64(offset + TIMESTAMP, true);
}

/** Its low word (0), or its high one (1). */
export function readTimestampWord(view: DataView, offset: number, word: number): number {
  return view.getUint32(offset + TIMESTAMP + 4 * word, true);
}

export function readType(view: DataView, offset: number): number {
  return view.getUint32(offset + TYPE, true);
}

export function readPayloadSize(view: DataView, offset: number): number {
  return view.getUint32(offset + PAYLOAD_SIZE, true);
}

export function readPayloadCrc(view: DataView, offset: number): number {
  return view.getUint32(offset + PAYLOAD_CRC, true);
}

export function readHeaderCrc(view: DataView, offset: number): number {
  return view.getUint32(offset + HEADER_CRC, true);
}

export function readEpoch(view: DataView, offset: number): Epoch {
  return view.getUint32(offset + EPOCH, true);
}

/** The durable end when this entry was written (DESIGN 4: durable_lsn). */
export function readDurableLsn(view: DataView, offset: number, lsn: Lsn): Lsn {
  return lsn - view.getUint32(offset + BACK, true);
}

/** MurmurHash3's 32-bit finaliser. */
function fmix32(h: number): number {
  let x = h;
  x = Math.imul(x ^ (x >>> 16), 0x85ebca6b);
  x = Math.imul(x ^ (x >>> 13), 0xc2b2ae35);
  return (x ^ (x >>> 16)) >>> 0;
}

/** The stamp of DESIGN 4: mix(mix(mix(mix(salt, header_crc), LSN low), LSN high), back). */
export function placeOf(salt: number, headerCrc: number, lsn: Lsn, back: number): number {
  const high = Math.floor(lsn / TWO_32);
  return fmix32(fmix32(fmix32(fmix32(salt ^ headerCrc) ^ (lsn | 0)) ^ high) ^ back);
}

/** The inverse of fmix32: each of its steps can be undone. */
function unmix32(h: number): number {
  let x = h ^ (h >>> 16);
  x = Math.imul(x, 0x7ed1b41d);
  x = Math.imul(x ^ (x >>> 13) ^ (x >>> 26), 0xa5cb9243);
  return (x ^ (x >>> 16)) >>> 0;
}

/** The salt under which the stamp of a good header fits its place (DESIGN 4, node.json). */
export function saltOf(view: DataView, offset: number, lsn: Lsn): number {
  const back = view.getUint32(offset + BACK, true);
  const crc = view.getUint32(offset + HEADER_CRC, true);
  const high = Math.floor(lsn / TWO_32);
  const place = view.getUint32(offset + PLACE, true);
  return (unmix32(unmix32(unmix32(unmix32(place) ^ back) ^ high) ^ (lsn | 0)) ^ crc) >>> 0;
}

/** Magic and header_crc fit: the fields are what was written. Lengths are bounded elsewhere. */
export function isGoodHeader(view: DataView, offset: number): boolean {
  return (
    view.getUint32(offset, true) === ENTRY_MAGIC &&
    view.getUint32(offset + HEADER_CRC, true) === crc32cHeader(view, offset)
  );
}

/** The header stands where it was written: `place` fits salt, header_crc, LSN and back. */
export function isInPlace(view: DataView, offset: number, salt: number, lsn: Lsn): boolean {
  const crc = view.getUint32(offset + HEADER_CRC, true);
  const back = view.getUint32(offset + BACK, true);
  return view.getUint32(offset + PLACE, true) === placeOf(salt, crc, lsn, back);
}

/** The payload behind the header fits payload_crc. The caller knows that all of it is there. */
export function isGoodPayload(bytes: Uint8Array, view: DataView, offset: number): boolean {
  const size = view.getUint32(offset + PAYLOAD_SIZE, true);
  const found = size === 0 ? 0 : crc32cRange(bytes, view, offset + ENTRY_HEADER_BYTES, size);
  return found === view.getUint32(offset + PAYLOAD_CRC, true);
}

/**
 * CRC32C of all bytes of an entry, behind what `initial` is of: its header is summed, what its
 * payload sums up to stands there. Right only where payload_crc is. @returns u32
 */
export function sealedCrc(view: DataView, offset: number, initial: number): number {
  const head = crc32cTable(view, offset, ENTRY_HEADER_BYTES, initial);
  const payloadCrc = view.getUint32(offset + PAYLOAD_CRC, true);
  return crc32cJoined(head, payloadCrc, view.getUint32(offset + PAYLOAD_SIZE, true));
}

/**
 * The part of the header that the main thread knows when an entry is staged. CRCs, space id,
 * back and place are the sealer's (`sealLocal`).
 * @param timeLow, timeHigh the timestamp's words
 */
export function stageHeader(
  view: DataView,
  offset: number,
  sequence: Sequence,
  timeLow: number,
  timeHigh: number,
  type: number,
  payloadSize: number,
  epoch: Epoch,
): void {
  view.setUint32(offset, ENTRY_MAGIC, true);
  view.setUint32(offset + SEQUENCE, sequence, true);
  view.setUint32(offset + SEQUENCE + 4, sequence / TWO_32, true);
  view.setUint32(offset + TIMESTAMP, timeLow, true);
  view.setUint32(offset + TIMESTAMP + 4, timeHigh, true);
  view.setUint32(offset + TYPE, type, true);
  view.setUint32(offset + PAYLOAD_SIZE, payloadSize, true);
  view.setUint32(offset + EPOCH, epoch, true);
}

/**
 * What a thread of the host knows of its entry. The acknowledgement that it asks for stands where
 * the sequence will: main reads it before it stages the header.
 */
export function draftHeader(
  view: DataView,
  offset: number,
  type: number,
  payloadSize: number,
  replicas: number,
  timeoutMs: number,
): void {
  view.setUint32(offset + SEQUENCE, replicas, true);
  view.setUint32(offset + SEQUENCE + 4, timeoutMs, true);
  view.setUint32(offset + TYPE, type, true);
  view.setUint32(offset + PAYLOAD_SIZE, payloadSize, true);
}

/** Of a draft: so many replicas are to have it. */
export function readDraftReplicas(view: DataView, offset: number): number {
  return view.getUint32(offset + SEQUENCE, true);
}

/** Of a draft: the time for that; 0: no acknowledgement is asked for but the usual one. */
export function readDraftTimeoutMs(view: DataView, offset: number): number {
  return view.getUint32(offset + SEQUENCE + 4, true);
}

/** Whose entry it is: of what is sealed many at a time, before that. */
export function putSpaceId(view: DataView, offset: number, id: SpaceIdWords): void {
  view.setUint32(offset + SPACE_ID, id[0], true);
  view.setUint32(offset + SPACE_ID + 4, id[1], true);
  view.setUint32(offset + SPACE_ID + 8, id[2], true);
  view.setUint32(offset + SPACE_ID + 12, id[3], true);
}

/** Completes a staged header in place: space id, both CRCs, back and place. */
export function sealLocal(
  bytes: Uint8Array,
  view: DataView,
  offset: number,
  id: SpaceIdWords,
  salt: number,
  lsn: Lsn,
  back: number,
): void {
  const size = view.getUint32(offset + PAYLOAD_SIZE, true);
  const crc = size === 0 ? 0 : crc32cRange(bytes, view, offset + ENTRY_HEADER_BYTES, size);
  view.setUint32(offset + PAYLOAD_CRC, crc, true);
  putSpaceId(view, offset, id);
  view.setUint32(offset + HEADER_CRC, crc32cHeader(view, offset), true);
  stampPlace(view, offset, salt, lsn, back);
}

/** Writes back and place for an entry whose header_crc stands already (one that was received). */
export function stampPlace(
  view: DataView,
  offset: number,
  salt: number,
  lsn: Lsn,
  back: number,
): void {
  const headerCrc = view.getUint32(offset + HEADER_CRC, true);
  view.setUint32(offset + BACK, back, true);
  view.setUint32(offset + PLACE, placeOf(salt, headerCrc, lsn, back), true);
}

/** One entry as a host meets it. The payload is a view of memory that is never reused. */
export interface Entry {
  readonly sequence: Sequence;
  readonly epoch: Epoch;
  readonly type: number;
  /** Nanoseconds since the Unix epoch. */
  readonly timestamp: bigint;
  readonly payload: Uint8Array;
}

/** The entry at `offset` of memory that will not change any more. */
export function entryAt(bytes: Uint8Array, view: DataView, offset: number): Entry {
  const start = offset + ENTRY_HEADER_BYTES;
  return {
    sequence: readSequence(view, offset),
    epoch: readEpoch(view, offset),
    type: readType(view, offset),
    timestamp: readTimestamp(view, offset),
    payload: bytes.subarray(start, start + readPayloadSize(view, offset)),
  };
}
