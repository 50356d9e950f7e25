/**
 * One batch on the wire: a 64-byte header, then entries of one space as they stand in the log, or
 * what they were compressed to.
 *
 *    0   2  version          1
 *    2  16  primary_node_id
 *   18  16  space_id
 *   34   8  start_sequence
 *   42   4  entry_count      > 0
 *   46   8  total_size       bytes of the entries, uncompressed
 *   54   1  compression      0 none, 1 zstd, 2 lz4; the hello offers them, the welcome takes one
 *   55   4  batch_crc        CRC32C of the header with this field zero, then the bytes as sent
 *   59   4  epoch            the sender's current epoch of this space: its right to write
 *   63   1  flags            zero
 */

import { hexOf, idWord } from '../bytes.js';
import { crc32c } from '../crc.js';
import { type EngramError, failure } from '../errors.js';
import { BATCH_HEADER_BYTES, BATCH_MAX_ENTRIES, ENTRY_HEADER_BYTES } from '../limits.js';
import {
  isGoodHeader,
  isGoodPayload,
  readEpoch,
  readPayloadSize,
  readSequence,
  readSpaceIdWord,
  readType,
} from '../log/entry.js';
import { decodeMembers, MEMBERS_ENTRY } from '../members/members.js';
import type { Epoch, Sequence } from '../position.js';
import { CompressionCode, isAgreed } from './compression.js';

export const BATCH_VERSION = 1;

const PRIMARY = 2;
const SPACE = 18;
const START = 34;
const COUNT = 42;
const SIZE = 46;
const COMPRESSION = 54;
const CRC = 55;
const EPOCH = 59;
const FLAGS = 63;

const ZERO_CRC = new Uint8Array(4);

export interface BatchHeader {
  /** 16 bytes, lower-case hex. */
  readonly primaryNodeId: string;
  /** 16 bytes, lower-case hex. */
  readonly spaceId: string;
  readonly startSequence: Sequence;
  readonly entryCount: number;
  /** Bytes of the entries, uncompressed. */
  readonly totalSize: number;
  readonly epoch: Epoch;
}

/** The bytes that stand behind a batch's header. */
export interface BatchBody {
  /** 0: the entries themselves. */
  readonly compression: number;
  readonly sentSize: number;
}

/** What a receiver takes. */
export interface BatchTerms {
  /** Features on which both ends have agreed. */
  readonly features: number;
  /** The most that the entries of one batch may be once they are uncompressed. */
  readonly maxBytes: number;
}

const UNCOMPRESSED: BatchTerms = { features: 0, maxBytes: 0 };

/**
 * Writes the header at `offset` and computes batch_crc over it and the bytes that already stand
 * behind it: the entries, or what `body` names.
 */
export function encodeBatchHeader(
  bytes: Uint8Array,
  view: DataView,
  offset: number,
  header: BatchHeader,
  body: BatchBody = { compression: CompressionCode.none, sentSize: header.totalSize },
): void {
  view.setUint16(offset, BATCH_VERSION, true);
  for (let i = 0; i < 4; i++) {
    view.setUint32(offset + PRIMARY + 4 * i, idWord(header.primaryNodeId, i), true);
    view.setUint32(offset + SPACE + 4 * i, idWord(header.spaceId, i), true);
  }
  view.setBigUint64(offset + START, BigInt(header.startSequence), true);
  view.setUint32(offset + COUNT, header.entryCount, true);
  view.setBigUint64(offset + SIZE, BigInt(header.totalSize), true);
  view.setUint8(offset + COMPRESSION, body.compression);
  view.setUint32(offset + CRC, 0, true);
  view.setUint32(offset + EPOCH, header.epoch, true);
  view.setUint8(offset + FLAGS, 0);
  const end = offset + BATCH_HEADER_BYTES + body.sentSize;
  view.setUint32(offset + CRC, crc32c(bytes.subarray(offset, end)), true);
}

/**
 * Reads and checks the batch that fills `[offset, end)`: version, sizes, counts, batch_crc. Without
 * `terms` it must be uncompressed.
 * Throws UnsupportedVersion, EmptyBatch, InvalidBatchSize, TruncatedBatch or ChecksumMismatch.
 */
export function decodeBatch(
  bytes: Uint8Array,
  view: DataView,
  offset: number,
  end: number,
  terms: BatchTerms = UNCOMPRESSED,
): BatchHeader & BatchBody {
  if (end - offset < BATCH_HEADER_BYTES) {
    throw failure('TruncatedBatch', `${end - offset} bytes where a 64-byte batch header stands`);
  }
  const version = view.getUint16(offset, true);
  if (version !== BATCH_VERSION) {
    throw failure('UnsupportedVersion', `batch version ${version}, known: ${BATCH_VERSION}`);
  }
  const compression = view.getUint8(offset + COMPRESSION);
  if (!isAgreed(compression, terms.features) || view.getUint8(offset + FLAGS) !== 0) {
    throw failure('UnsupportedVersion', 'a batch with a compression or flag nobody negotiated');
  }
  const sentSize = end - offset - BATCH_HEADER_BYTES;
  const totalSize = readTotalSize(view, offset, sentSize, compression, terms.maxBytes);
  const entryCount = view.getUint32(offset + COUNT, true);
  if (entryCount === 0) throw failure('EmptyBatch', 'a batch of 0 entries');
  if (entryCount > BATCH_MAX_ENTRIES || entryCount * ENTRY_HEADER_BYTES > totalSize) {
    throw failure('InvalidBatchSize', `${entryCount} entries in ${totalSize} bytes`);
  }
  const startSequence = Number(view.getBigUint64(offset + START, true));
  if (startSequence < 1 || !Number.isSafeInteger(startSequence + entryCount)) {
    throw failure('InvalidBatchSize', `a batch that begins at entry ${startSequence}`);
  }
  const stored = view.getUint32(offset + CRC, true);
  const head = crc32c(bytes.subarray(offset, offset + CRC));
  const computed = crc32c(bytes.subarray(offset + CRC + 4, end), crc32c(ZERO_CRC, head));
  if (stored !== computed) {
    throw failure('ChecksumMismatch', `batch_crc ${hex(stored)}, computed ${hex(computed)}`);
  }
  return {
    primaryNodeId: hexOf(view, offset + PRIMARY, 16),
    spaceId: hexOf(view, offset + SPACE, 16),
    startSequence,
    entryCount,
    totalSize,
    epoch: view.getUint32(offset + EPOCH, true),
    compression,
    sentSize,
  };
}

/** Bytes of the entries; what is compressed has become smaller, and never beyond the cap. */
function readTotalSize(
  view: DataView,
  offset: number,
  sentSize: number,
  compression: number,
  maxBytes: number,
): number {
  const size = view.getBigUint64(offset + SIZE, true);
  if (compression === CompressionCode.none) {
    if (size > BigInt(sentSize)) {
      throw failure('TruncatedBatch', `${sentSize} bytes of entries, announced ${size}`);
    }
    if (size < BigInt(sentSize)) {
      throw failure('InvalidBatchSize', `${sentSize} bytes of entries, announced ${size}`);
    }
  } else if (size <= BigInt(sentSize) || size > BigInt(maxBytes)) {
    throw failure('InvalidBatchSize', `${sentSize} bytes become ${size}, cap ${maxBytes}`);
  }
  return Number(size);
}

/** Checks every entry of a decoded, uncompressed batch. `offset` is the batch header's. */
export function checkBatchEntries(
  bytes: Uint8Array,
  view: DataView,
  offset: number,
  batch: BatchHeader,
  maxEntryBytes: number,
): void {
  checkEntries(bytes, view, offset + BATCH_HEADER_BYTES, batch, maxEntryBytes);
}

/**
 * Checks every entry of a decoded batch: header_crc, payload_crc, space, continuity, epochs that
 * never fall nor exceed the batch's, summed size. They begin at `start`.
 * Throws TruncatedEntry, ChecksumMismatch or InvalidBatchSize.
 */
export function checkEntries(
  bytes: Uint8Array,
  view: DataView,
  start: number,
  batch: BatchHeader,
  maxEntryBytes: number,
): void {
  let at = start;
  const end = at + batch.totalSize;
  const id0 = idWord(batch.spaceId, 0);
  const id1 = idWord(batch.spaceId, 1);
  const id2 = idWord(batch.spaceId, 2);
  const id3 = idWord(batch.spaceId, 3);
  let epoch = 0;
  for (let n = 0; n < batch.entryCount; n++) {
    const sequence = batch.startSequence + n;
    if (at + ENTRY_HEADER_BYTES > end) throw truncated(sequence);
    if (!isGoodHeader(view, at)) throw damaged('header', sequence);
    const size = readPayloadSize(view, at);
    if (size > maxEntryBytes) throw invalid(`entry ${sequence} has ${size} bytes of payload`);
    if (at + ENTRY_HEADER_BYTES + size > end) throw truncated(sequence);
    if (!isGoodPayload(bytes, view, at)) throw damaged('payload', sequence);
    if (readSequence(view, at) !== sequence) {
      throw invalid(`entry ${readSequence(view, at)} where ${sequence} follows`);
    }
    if (
      readSpaceIdWord(view, at, 0) !== id0 ||
      readSpaceIdWord(view, at, 1) !== id1 ||
      readSpaceIdWord(view, at, 2) !== id2 ||
      readSpaceIdWord(view, at, 3) !== id3
    ) {
      throw invalid(`entry ${sequence} belongs to another space`);
    }
    if (readType(view, at) === MEMBERS_ENTRY) {
      const from = at + ENTRY_HEADER_BYTES;
      decodeMembers(bytes.subarray(from, from + size), 'ProtocolViolation');
    }
    const entryEpoch = readEpoch(view, at);
    if (entryEpoch < epoch || entryEpoch > batch.epoch) {
      throw invalid(`entry ${sequence} of epoch ${entryEpoch} in a batch of ${batch.epoch}`);
    }
    epoch = entryEpoch;
    at += ENTRY_HEADER_BYTES + size;
  }
  if (at !== end) throw invalid(`${end - at} bytes behind the last entry`);
}

function truncated(sequence: Sequence): EngramError {
  return failure('TruncatedEntry', `the batch ends inside entry ${sequence}`);
}

function damaged(part: string, sequence: Sequence): EngramError {
  return failure('ChecksumMismatch', `the ${part} of entry ${sequence} does not fit its CRC`);
}

function invalid(found: string): EngramError {
  return failure('InvalidBatchSize', found);
}

function hex(crc: number): string {
  return crc.toString(16).padStart(8, '0');
}
