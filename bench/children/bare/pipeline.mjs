/**
 * What the threads of the bare pipeline share: a ring of slabs, each with one group, and words that
 * say how far each thread is. Groups are numbered from 1; group g stands in slab g % SLABS.
 */
import { crc32c as native } from '@node-rs/crc32';

const MiB = 1024 * 1024;
export const SLABS = 16;
export const SLAB_BYTES = 4 * MiB;
/** Zero bytes behind each group, as in the log. */
export const TRAILER_BYTES = 64;
export const SLAB_STRIDE = SLAB_BYTES + TRAILER_BYTES;
/** From this size on a group is closed while the disk is busy, and sealed by a thread. */
export const LARGE_GROUP_BYTES = 256 * 1024;
export const HEADER_BYTES = 64;
/** Length of the entries, first sequence, count, CRC. */
export const BATCH_HEADER_BYTES = 16;
export const BATCH_MAX_ENTRIES = 1_000;
export const FILE_BYTES = 64 * MiB;

/** Numbers of groups, but for ACKED: sequences. SENT and ACKED have one word a replica. */
export const WORD = { toSeal: 0, sealed: 1, durable: 2, ended: 3, sent: 4, acked: 12 };
export const WORDS = 20;
/** Of a group. */
export const ROW = { bytes: 0, first: 1, count: 2 };
export const ROW_FIELDS = 3;

export class Ring {
  constructor(shared = allocate()) {
    this.shared = shared;
    this.words = new Int32Array(shared.words);
    this.rows = new Float64Array(shared.rows);
    this.bytes = new Uint8Array(shared.slabs);
    this.view = new DataView(shared.slabs);
  }

  get(word) {
    return Atomics.load(this.words, word);
  }

  set(word, value) {
    Atomics.store(this.words, word, value);
    Atomics.notify(this.words, word);
  }

  /** Blocks this thread until the word has passed `seen`. @returns its value, or 0 at the end */
  past(word, seen) {
    for (;;) {
      const value = this.get(word);
      if (value > seen) return value;
      if (this.get(WORD.ended)) return 0;
      Atomics.wait(this.words, word, value, 100);
    }
  }

  start(group) {
    return (group % SLABS) * SLAB_STRIDE;
  }

  row(group, field) {
    return this.rows[(group % SLABS) * ROW_FIELDS + field];
  }

  setRow(group, field, value) {
    this.rows[(group % SLABS) * ROW_FIELDS + field] = value;
  }
}

function allocate() {
  return {
    words: new SharedArrayBuffer(4 * WORDS),
    rows: new SharedArrayBuffer(8 * ROW_FIELDS * SLABS),
    slabs: new SharedArrayBuffer(SLABS * SLAB_STRIDE),
  };
}

// --- entries: the fields and sums of the real ones, without the stamps of the log ------------

const MAGIC = 0xdeadbeef;

/** What is known of a header before it is sealed. */
export function stageHeader(view, at, sequence, timestampNs, size) {
  view.setUint32(at, MAGIC, true);
  view.setUint32(at + 4, sequence, true);
  view.setUint32(at + 8, 0, true);
  view.setBigUint64(at + 12, timestampNs, true);
  view.setUint32(at + 20, 1, true);
  view.setUint32(at + 24, size, true);
  view.setUint32(at + 52, 1, true);
}

/** Both CRCs and the space's id, of the entries in [from, end). */
export function seal(bytes, view, from, end) {
  for (let at = from; at < end; ) {
    const size = view.getUint32(at + 24, true);
    view.setUint32(at + 28, payloadCrc(bytes, view, at + HEADER_BYTES, size), true);
    for (let i = 0; i < 4; i++) view.setUint32(at + 36 + 4 * i, 7, true);
    view.setUint32(at + 32, headerCrc(view, at), true);
    at += HEADER_BYTES + size;
  }
  bytes.fill(0, end, end + TRAILER_BYTES);
}

/** Throws where an entry in [from, end) is not what was sealed, or not the next one. */
export function check(bytes, view, from, end, first) {
  let sequence = first;
  for (let at = from; at < end; sequence++) {
    const size = view.getUint32(at + 24, true);
    const isWhole = view.getUint32(at, true) === MAGIC && at + HEADER_BYTES + size <= end;
    if (
      !isWhole ||
      view.getUint32(at + 32, true) !== headerCrc(view, at) ||
      view.getUint32(at + 28, true) !== payloadCrc(bytes, view, at + HEADER_BYTES, size) ||
      view.getUint32(at + 4, true) !== sequence
    ) {
      throw new Error(`entry ${sequence} is damaged`);
    }
    at += HEADER_BYTES + size;
  }
}

export function batchCrc(bytes, from, to) {
  return native(bytes.subarray(from, to));
}

// --- CRC32C, the yardstick's own: it must not move with what it measures ----------------------

/** Below it a table is cheaper than a view and a call out. */
const NATIVE_FROM_BYTES = 320;
const T = tables();

function tables() {
  const t = new Int32Array(16 * 256);
  for (let n = 0; n < 256; n++) {
    let c = n;
    for (let k = 0; k < 8; k++) c = c & 1 ? (c >>> 1) ^ 0x82f63b78 : c >>> 1;
    t[n] = c;
  }
  for (let n = 256; n < t.length; n++) t[n] = (t[n - 256] >>> 8) ^ t[t[n - 256] & 255];
  return t;
}

function word4(x, at) {
  return (
    T[at + 768 + (x & 255)] ^
    T[at + 512 + ((x >>> 8) & 255)] ^
    T[at + 256 + ((x >>> 16) & 255)] ^
    T[at + (x >>> 24)]
  );
}

function step16(c, view, at) {
  return (
    word4(c ^ view.getInt32(at, true), 3072) ^
    word4(view.getInt32(at + 4, true), 2048) ^
    word4(view.getInt32(at + 8, true), 1024) ^
    word4(view.getInt32(at + 12, true), 0)
  );
}

function payloadCrc(bytes, view, from, length) {
  if (length >= NATIVE_FROM_BYTES) return native(bytes.subarray(from, from + length));
  let c = -1;
  let at = from;
  const end = from + length;
  for (; at + 16 <= end; at += 16) c = step16(c, view, at);
  for (; at < end; at++) c = (c >>> 8) ^ T[(c ^ view.getUint8(at)) & 255];
  return ~c >>> 0;
}

/** Of the 32 bytes before it and the 20 behind it. */
function headerCrc(view, at) {
  const c = step16(step16(-1, view, at), view, at + 16);
  return ~word4(step16(c, view, at + 36) ^ view.getInt32(at + 52, true), 0) >>> 0;
}
