/**
 * One batch on the wire: a 64-byte header, then entries as they stand in the log, or what they were
 * compressed to. They are of one space; or, where both ends have agreed on it, of several
 * (batches/mixed-batch.ts): then the header names none of them, for each entry does.
 *
 *    0   2  version          1
 *    2  16  primary_node_id
 *   18  16  space_id         zero in a mixed batch, as start_sequence and epoch are
 *   34   8  start_sequence
 *   42   4  entry_count      > 0
 *   46   8  total_size       bytes of the entries, uncompressed
 *   54   1  compression      0 none, 1 zstd, 2 lz4; the hello offers them, the welcome takes one
 *   55   4  batch_crc        CRC32C of the header with this field zero, then the bytes as sent
 *   59   4  epoch            the sender's current epoch of this space: its right to write
 *   63   1  flags            bit 0: mixed
 */

import { hexOfWords, idWords, type SpaceIdWords } from '../bytes.js';
import { crc32cJoined, crc32cRange, crc32cTable } from '../crc.js';
import { EngramError, failure } from '../errors.js';
import { areSmall, entriesKernel, type KernelOf } from '../kernel/entries.js';
import { BATCH_HEADER_BYTES, BATCH_MAX_ENTRIES, ENTRY_HEADER_BYTES } from '../limits.js';
import {
  isGoodHeader,
  isGoodPayload,
  readEpoch,
  readPayloadSize,
  readSequence,
  readSpaceIdWord,
  readType,
  sealedCrc,
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

/** In the features of hello and welcome: batches may be mixed. */
export const FEATURE_MIXED = 4;
/** Of the flags. */
const MIXED = 1;
const NO_SPACE: SpaceIdWords = [0, 0, 0, 0];

const TWO_32 = 2 ** 32;
const FOUR_ZEROS = new DataView(new ArrayBuffer(4));

/** What a header says beside whose batch it is. */
export interface BatchFacts {
  readonly startSequence: Sequence;
  readonly entryCount: number;
  /** Bytes of the entries, uncompressed. */
  readonly totalSize: number;
  readonly epoch: Epoch;
}

export interface BatchHeader extends BatchFacts {
  /** 16 bytes, lower-case hex. */
  readonly primaryNodeId: string;
  /** 16 bytes, lower-case hex. */
  readonly spaceId: string;
}

/** A batch as it was read. Who sent it is known from the connection. */
export class ReadBatch implements BatchFacts, BatchBody {
  readonly spaceWords: SpaceIdWords;
  readonly startSequence: Sequence;
  readonly entryCount: number;
  readonly totalSize: number;
  readonly epoch: Epoch;
  readonly compression: number;
  readonly sentSize: number;
  /** Each entry says of which space it is, and in which epoch. */
  readonly isMixed: boolean;

  constructor(words: SpaceIdWords, facts: BatchFacts, body: BatchBody, isMixed: boolean) {
    this.spaceWords = words;
    this.startSequence = facts.startSequence;
    this.entryCount = facts.entryCount;
    this.totalSize = facts.totalSize;
    this.epoch = facts.epoch;
    this.compression = body.compression;
    this.sentSize = body.sentSize;
    this.isMixed = isMixed;
  }

  /** 16 bytes, lower-case hex; made when it is asked for. */
  get spaceId(): string {
    return hexOfWords(this.spaceWords);
  }
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
  body?: BatchBody,
): void {
  const [primary, space] = [idWords(header.primaryNodeId), idWords(header.spaceId)];
  writeBatchHeader(bytes, view, offset, primary, space, header, body);
}

/**
 * The same, for ids whose words are known. @param space undefined: the batch is mixed
 * @param crc CRC32C of what stands behind the header, where it is known
 */
export function writeBatchHeader(
  bytes: Uint8Array,
  view: DataView,
  offset: number,
  primary: SpaceIdWords,
  space: SpaceIdWords | undefined,
  facts: BatchFacts,
  body: BatchBody = { compression: CompressionCode.none, sentSize: facts.totalSize },
  crc?: number,
): void {
  view.setUint16(offset, BATCH_VERSION, true);
  for (let i = 0; i < 4; i++) {
    view.setUint32(offset + PRIMARY + 4 * i, primary[i]!, true);
    view.setUint32(offset + SPACE + 4 * i, (space ?? NO_SPACE)[i]!, true);
  }
  writeSafe(view, offset + START, space ? facts.startSequence : 0);
  view.setUint32(offset + COUNT, facts.entryCount, true);
  writeSafe(view, offset + SIZE, facts.totalSize);
  view.setUint8(offset + COMPRESSION, body.compression);
  view.setUint32(offset + EPOCH, space ? facts.epoch : 0, true);
  view.setUint8(offset + FLAGS, space ? 0 : MIXED);
  const end = offset + BATCH_HEADER_BYTES + body.sentSize;
  const batch =
    crc === undefined
      ? batchCrc(bytes, view, offset, end)
      : crc32cJoined(headCrc(view, offset), crc, body.sentSize);
  view.setUint32(offset + CRC, batch, true);
}

/** A safe integer as a u64: no BigInt is made for it. */
function writeSafe(view: DataView, at: number, value: number): void {
  view.setUint32(at, value % TWO_32, true);
  view.setUint32(at + 4, Math.floor(value / TWO_32), true);
}

/** A u64 that is compared with safe integers: above 2^53 it is not exact. */
function readSafe(view: DataView, at: number): number {
  return view.getUint32(at + 4, true) * TWO_32 + view.getUint32(at, true);
}

/** Of the header, whatever stands in the field of batch_crc. */
function headCrc(view: DataView, offset: number): number {
  const head = crc32cTable(FOUR_ZEROS, 0, 4, crc32cTable(view, offset, CRC));
  const rest = CRC + 4;
  return crc32cTable(view, offset + rest, BATCH_HEADER_BYTES - rest, head);
}

function batchCrc(bytes: Uint8Array, view: DataView, offset: number, end: number): number {
  const start = offset + BATCH_HEADER_BYTES;
  return crc32cRange(bytes, view, start, end - start, headCrc(view, offset));
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
): ReadBatch {
  return readBatch(bytes, view, offset, end, terms, true);
}

/** A batch whose entries are checked, too. */
export interface WholeBatch {
  readonly batch: ReadBatch;
  /** One of its entries says who counts; of a mixed one none does. */
  readonly holdsMembers: boolean;
}

/**
 * What decodeBatch and checkEntries do, in one pass over an uncompressed batch: its batch_crc
 * follows from what its entries' own CRCs were found to be. It is the sum of these very bytes, as
 * if they had been summed once more. `maxEntryBytes` as there. Of a mixed one each entry is looked
 * at by itself; what runs there are is for who reads them.
 * @returns undefined where anything does not fit: those two say what
 */
export function decodeWhole(
  bytes: Uint8Array,
  view: DataView,
  offset: number,
  end: number,
  terms: BatchTerms,
  maxEntryBytes: number,
): WholeBatch | undefined {
  try {
    const batch = readBatch(bytes, view, offset, end, terms, false);
    if (batch.compression !== CompressionCode.none) return undefined;
    const sum = { crc: headCrc(view, offset) };
    const start = offset + BATCH_HEADER_BYTES;
    let holdsMembers = false;
    if (!batch.isMixed) {
      holdsMembers = checkEntries(bytes, view, start, batch, maxEntryBytes, entriesKernel, sum);
    } else if (!areSound(bytes, start, batch, maxEntryBytes, sum)) return undefined;
    return sum.crc === view.getUint32(offset + CRC, true) ? { batch, holdsMembers } : undefined;
  } catch (error) {
    if (error instanceof EngramError) return undefined;
    throw error;
  }
}

/** Whether all entries of a mixed batch are sound, and none says who counts; `sum` goes on. */
function areSound(
  bytes: Uint8Array,
  start: number,
  batch: ReadBatch,
  maxEntryBytes: number,
  sum: { crc: number },
): boolean {
  const { entryCount, totalSize } = batch;
  const kernel = areSmall(entryCount, totalSize) ? entriesKernel() : undefined;
  if (!kernel) return false;
  const end = start + totalSize;
  let at = start;
  kernel.crc = sum.crc;
  for (let left = entryCount; left > 0; ) {
    const sound = kernel.look(bytes, at, end, left, maxEntryBytes);
    if (sound === 0) return false;
    left -= sound;
    at += kernel.bytes;
  }
  sum.crc = kernel.crc;
  return at === end;
}

/** @param isSummed whether batch_crc is looked at */
function readBatch(
  bytes: Uint8Array,
  view: DataView,
  offset: number,
  end: number,
  terms: BatchTerms,
  isSummed: boolean,
): ReadBatch {
  if (end - offset < BATCH_HEADER_BYTES) {
    throw failure('TruncatedBatch', `${end - offset} bytes where a 64-byte batch header stands`);
  }
  const version = view.getUint16(offset, true);
  if (version !== BATCH_VERSION) {
    throw failure('UnsupportedVersion', `batch version ${version}, known: ${BATCH_VERSION}`);
  }
  const compression = view.getUint8(offset + COMPRESSION);
  const flags = view.getUint8(offset + FLAGS);
  const isMixed = flags === MIXED && (terms.features & FEATURE_MIXED) !== 0;
  if (!isAgreed(compression, terms.features) || (flags !== 0 && !isMixed)) {
    throw failure('UnsupportedVersion', 'a batch with a compression or flag nobody negotiated');
  }
  const sentSize = end - offset - BATCH_HEADER_BYTES;
  const totalSize = readTotalSize(view, offset, sentSize, compression, terms.maxBytes);
  const entryCount = view.getUint32(offset + COUNT, true);
  if (entryCount === 0) throw failure('EmptyBatch', 'a batch of 0 entries');
  if (entryCount > BATCH_MAX_ENTRIES || entryCount * ENTRY_HEADER_BYTES > totalSize) {
    throw failure('InvalidBatchSize', `${entryCount} entries in ${totalSize} bytes`);
  }
  const startSequence = readSafe(view, offset + START);
  if (!isMixed && !isSequences(startSequence, entryCount)) {
    throw invalid(`a batch that begins at entry ${startSequence}`);
  }
  const stored = view.getUint32(offset + CRC, true);
  const computed = isSummed ? batchCrc(bytes, view, offset, end) : stored;
  if (stored !== computed) {
    throw failure(
      'ChecksumMismatch',
      `batch_crc ${hexOfCrc(stored)}, computed ${hexOfCrc(computed)}`,
    );
  }
  const space = offset + SPACE;
  const words: SpaceIdWords = [
    view.getUint32(space, true),
    view.getUint32(space + 4, true),
    view.getUint32(space + 8, true),
    view.getUint32(space + 12, true),
  ];
  const epoch = view.getUint32(offset + EPOCH, true);
  if (isMixed && (startSequence !== 0 || epoch !== 0 || words.some((word) => word !== 0))) {
    throw invalid('a batch of several spaces that names one of them');
  }
  const facts = { startSequence, entryCount, totalSize, epoch };
  return new ReadBatch(words, facts, { compression, sentSize }, isMixed);
}

/** Bytes of the entries; what is compressed has become smaller, and never beyond the cap. */
function readTotalSize(
  view: DataView,
  offset: number,
  sentSize: number,
  compression: number,
  maxBytes: number,
): number {
  const size = readSafe(view, offset + SIZE);
  if (compression === CompressionCode.none) {
    if (size > sentSize) {
      throw failure('TruncatedBatch', `${sentSize} bytes of entries, announced ${size}`);
    }
    if (size < sentSize) {
      throw failure('InvalidBatchSize', `${sentSize} bytes of entries, announced ${size}`);
    }
  } else if (size <= sentSize || size > maxBytes) {
    throw failure('InvalidBatchSize', `${sentSize} bytes become ${size}, cap ${maxBytes}`);
  }
  return size;
}

/** Checks every entry of a decoded, uncompressed batch. `offset` is the batch header's. */
export function checkBatchEntries(
  bytes: Uint8Array,
  view: DataView,
  offset: number,
  batch: ReadBatch,
  maxEntryBytes: number,
): void {
  checkEntries(bytes, view, offset + BATCH_HEADER_BYTES, batch, maxEntryBytes);
}

/**
 * Checks every entry of a decoded batch: header_crc, payload_crc, space, continuity, epochs that
 * never fall nor exceed the batch's, summed size. They begin at `start`.
 * @param kernelOf what looks at many small ones at once, where there is such a thing
 * @param sum goes on over the bytes of each, where it is asked for
 * @returns whether one of them says who counts
 * Throws TruncatedEntry, ChecksumMismatch or InvalidBatchSize.
 */
export function checkEntries(
  bytes: Uint8Array,
  view: DataView,
  start: number,
  batch: ReadBatch,
  maxEntryBytes: number,
  kernelOf: KernelOf = entriesKernel,
  sum?: { crc: number },
): boolean {
  let at = start;
  const end = at + batch.totalSize;
  const [id0, id1, id2, id3] = batch.spaceWords;
  let epoch = 0;
  let holdsMembers = false;
  const kernel = areSmall(batch.entryCount, batch.totalSize) ? kernelOf() : undefined;
  for (let n = 0; n < batch.entryCount; n++) {
    if (kernel) {
      const left = batch.entryCount - n;
      const next = batch.startSequence + n;
      const terms = [left, maxEntryBytes, batch.spaceWords, next, epoch, batch.epoch] as const;
      if (sum) kernel.crc = sum.crc;
      n += kernel.check(bytes, at, end, ...terms);
      if (sum) sum.crc = kernel.crc;
      at += kernel.bytes;
      epoch = kernel.epoch;
      if (n === batch.entryCount) break;
    }
    const sequence = batch.startSequence + n;
    const size = checkEntry(bytes, view, at, end, maxEntryBytes, sequence);
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
    if (isOfMembers(bytes, view, at, size)) holdsMembers = true;
    const entryEpoch = readEpoch(view, at);
    if (entryEpoch < epoch || entryEpoch > batch.epoch) {
      throw invalid(`entry ${sequence} of epoch ${entryEpoch} in a batch of ${batch.epoch}`);
    }
    epoch = entryEpoch;
    if (sum) sum.crc = sealedCrc(view, at, sum.crc);
    at += ENTRY_HEADER_BYTES + size;
  }
  if (at !== end) throw invalid(`${end - at} bytes behind the last entry`);
  return holdsMembers;
}

/**
 * One entry alone: header, length, payload. @returns bytes of its payload
 * @param end of all entries @param sequence for who is told what is wrong
 * Throws TruncatedEntry, ChecksumMismatch or InvalidBatchSize.
 */
export function checkEntry(
  bytes: Uint8Array,
  view: DataView,
  at: number,
  end: number,
  maxEntryBytes: number,
  sequence: Sequence,
): number {
  if (at + ENTRY_HEADER_BYTES > end) throw truncated(sequence);
  if (!isGoodHeader(view, at)) throw damaged('header', sequence);
  const size = readPayloadSize(view, at);
  if (size > maxEntryBytes) throw invalid(`entry ${sequence} has ${size} bytes of payload`);
  if (at + ENTRY_HEADER_BYTES + size > end) throw truncated(sequence);
  if (!isGoodPayload(bytes, view, at)) throw damaged('payload', sequence);
  return size;
}

/** Whether the entry says who counts. Throws as decodeMembers does where that is not said. */
export function isOfMembers(bytes: Uint8Array, view: DataView, at: number, size: number): boolean {
  if (readType(view, at) !== MEMBERS_ENTRY) return false;
  const from = at + ENTRY_HEADER_BYTES;
  decodeMembers(bytes.subarray(from, from + size), 'ProtocolViolation');
  return true;
}

/** So many sequences from `first` on are all ones that there can be. */
export function isSequences(first: Sequence, count: number): boolean {
  return first >= 1 && Number.isSafeInteger(first + count);
}

function truncated(sequence: Sequence): EngramError {
  return failure('TruncatedEntry', `the batch ends inside entry ${sequence}`);
}

function damaged(part: string, sequence: Sequence): EngramError {
  return failure('ChecksumMismatch', `the ${part} of entry ${sequence} does not fit its CRC`);
}

export function invalid(found: string): EngramError {
  return failure('InvalidBatchSize', found);
}

function hexOfCrc(crc: number): string {
  return crc.toString(16).padStart(8, '0');
}
