/**
 * Every decoder against bytes of chance and against changed bytes of its own: a value or one of our
 * errors, never anything else, and nothing allocated by a length that the bytes claim.
 * ENGRAM_FUZZ_RUNS asks for more runs of each; fast-check prints the seed of a failure.
 */
import fs from 'node:fs';
import path from 'node:path';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { crc32c } from '#src/shared/crc.js';
import { EngramError } from '#src/shared/errors.js';
import { BATCH_MAX_ENTRIES } from '#src/shared/limits.js';
import { readEngramLog } from '#src/shared/log/engram-log.js';
import {
  decodeIndex,
  encodeIndex,
  INDEX_HEAD_BYTES,
  INDEX_ROW_BYTES,
} from '#src/shared/log/index-format.js';
import { decodeNodeRecord, encodeNodeRecord } from '#src/shared/log/node-record.js';
import { firstGoodHeader, gatherEvidence, look } from '#src/shared/log/segment.js';
import { SegmentIndex } from '#src/shared/log/segment-index.js';
import { newSpaceFacts } from '#src/shared/log/space-facts.js';
import { decodeState, StateWriter } from '#src/shared/log/state.js';
import {
  checkBatchEntries,
  checkEntries,
  decodeBatch,
  FEATURE_MIXED,
} from '#src/shared/wire/batch.js';
import { BatchRuns } from '#src/shared/wire/batches/mixed-batch.js';
import { decompressed, featureOf } from '#src/shared/wire/compression.js';
import { FrameAssembler } from '#src/shared/wire/frame.js';
import { decodeFrame } from '#src/shared/wire/protocol.js';

const RUNS = Number(process.env.ENGRAM_FUZZ_RUNS ?? 1_500);
const GOLDEN = path.join(import.meta.dirname, '../golden');
const ID = '00112233445566778899aabbccddeeff';
const OTHER = 'ff112233445566778899aabbccddeeff';

const next = { members: [{ nodeId: 'a', directoryId: OTHER }], keep: 1 };
const sets = [
  { epoch: 1, sequence: 0, next, old: undefined },
  { epoch: 1, sequence: 9, next: { ...next, keep: 2 }, old: next },
];
const begun = {
  snapshot: {
    id: ID,
    position: { epoch: 1, sequence: 9, headerCrc: 5 },
    timestamp: 7n,
    history: [{ epoch: 1, startSequence: 1, primaryNodeId: ID, directoryId: OTHER }],
    sets,
  },
  whole: { chunks: 3, bytes: 700, digest: ID + ID },
};

interface Target {
  readonly name: string;
  /** Good encodings, to be changed. */
  readonly good: readonly Uint8Array[];
  decode(bytes: Uint8Array): unknown;
}

function view(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
}

/** A hostile writer has the CRC right: what is behind it must bear anything. */
function withCrc(bytes: Uint8Array): Uint8Array {
  if (bytes.length < 4) return bytes;
  view(bytes).setUint32(bytes.length - 4, crc32c(bytes.subarray(0, bytes.length - 4)), true);
  return bytes;
}

/** The same for an index: of its head, of each row, and of what each row points to. */
function withIndexCrcs(bytes: Uint8Array): Uint8Array {
  if (bytes.length < INDEX_HEAD_BYTES) return bytes;
  const rows = Math.min(view(bytes).getUint32(24, true), 3);
  withCrc(bytes.subarray(0, INDEX_HEAD_BYTES));
  for (let i = 0; i < rows; i++) {
    const start = INDEX_HEAD_BYTES + i * INDEX_ROW_BYTES;
    const row = bytes.subarray(start, start + INDEX_ROW_BYTES);
    if (row.length < INDEX_ROW_BYTES) return bytes;
    const at = view(row).getUint32(32, true);
    const part = bytes.subarray(at, at + 16 * Math.min(view(row).getUint32(36, true), 100));
    view(row).setUint32(40, crc32c(part), true);
    withCrc(row);
  }
  return bytes;
}

function frames(): Uint8Array[] {
  const text = fs.readFileSync(path.join(GOLDEN, 'wire/frames.json'), 'utf8');
  const hex = text.match(/"[0-9a-f]{16,}"/g) ?? [];
  return hex.map((word) => Uint8Array.from(Buffer.from(word.slice(1, -1), 'hex')));
}

function batch(): Uint8Array {
  const text = fs.readFileSync(path.join(GOLDEN, 'wire/batch.hex'), 'utf8');
  return Uint8Array.from(Buffer.from(text.replace(/#.*$|\s/gm, ''), 'hex'));
}

/** @param name of its golden bytes */
function madeBatch(name: string): Uint8Array {
  const text = fs.readFileSync(path.join(GOLDEN, `wire/${name}.hex`), 'utf8');
  return Uint8Array.from(Buffer.from(text.replace(/\s/g, ''), 'hex'));
}

/** Its batch_crc is made to fit: what is behind it must bear anything. */
function withBatchCrc(bytes: Uint8Array): Uint8Array {
  if (bytes.length < 64) return bytes;
  bytes.fill(0, 55, 59);
  view(bytes).setUint32(55, crc32c(bytes), true);
  return bytes;
}

function unpack(bytes: Uint8Array): void {
  const features = featureOf('lz4') | FEATURE_MIXED;
  const terms = { features, maxBytes: 1_024 * 1_024 };
  const found = decodeBatch(bytes, view(bytes), 0, bytes.length, terms);
  expect(found.totalSize).toBeLessThanOrEqual(terms.maxBytes);
  const { compression, totalSize } = found;
  if (compression === 0 && !found.isMixed) return;
  const sent = bytes.subarray(64);
  const entries = compression === 0 ? sent : decompressed(compression, sent, totalSize);
  if (found.isMixed) {
    const { entryCount } = found;
    const runs = new BatchRuns(entries, view(entries), 0, totalSize, entryCount, 1_024 * 1_024);
    while (runs.next());
  } else checkEntries(entries, view(entries), 0, found, 1_024 * 1_024);
}

function state(): Uint8Array {
  const own = { nodeId: 'a', clusterId: 'demo', directoryId: ID, madeAs: 2 };
  const writer = new StateWriter(3, 100, own);
  const facts = newSpaceFacts(ID, 'tenant');
  facts.members = [{ nodeId: 'b', host: 'h', port: 1 }];
  facts.history.push({ epoch: 1, startSequence: 1, primaryNodeId: ID });
  facts.slots.set('b', { flushed: 4, lost: false, idleMs: 5 });
  facts.damage.push({ from: 1, to: 0, lsn: 9, accepted: false });
  facts.begun = begun;
  facts.directoryId = OTHER;
  facts.sets = sets;
  writer.space({ lsn: 90, facts });
  const segments = [{ start: 0, size: 4_096, end: undefined }];
  return Uint8Array.from(writer.finish(120, 7, segments, [{ start: 1, end: 2 }]));
}

function index(): Uint8Array {
  const built = new SegmentIndex();
  built.add(1, 1, 5, 0, 1_000);
  built.add(2, 7, 1, 1_000, 300_000);
  built.add(2, 8, 1, 301_000, 10);
  return Uint8Array.from(encodeIndex(built, 0, 4_096, (slot) => (slot === 1 ? ID : OTHER)));
}

function engramFiles(): Uint8Array[] {
  const dir = path.join(GOLDEN, 'engram-wal');
  return fs
    .readdirSync(dir, { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.log'))
    .map((name) => Uint8Array.from(fs.readFileSync(path.join(dir, name))))
    .filter((bytes) => bytes.length < 4_096);
}

const records = [
  encodeNodeRecord({ kind: 'mark' }),
  encodeNodeRecord({ kind: 'promise', id: ID, epoch: 9, candidate: 'node-b' }),
  encodeNodeRecord({
    kind: 'rewind',
    id: ID,
    position: { epoch: 2, sequence: 7, headerCrc: 8 },
    timestamp: 9n,
    to: 12,
    quarantine: 'rewind-x.wal',
  }),
  encodeNodeRecord({ kind: 'checkpoint', id: ID, sequence: 5 }),
  encodeNodeRecord({
    kind: 'space',
    id: ID,
    name: 's',
    role: 'primary',
    epoch: 1,
    primary: 'a',
    members: [{ nodeId: 'b', host: 'h', port: 1 }],
  }),
  encodeNodeRecord({ kind: 'begun', id: ID, ...begun }),
  encodeNodeRecord({ kind: 'base', id: ID, snapshot: begun.snapshot }),
].map((bytes) => Uint8Array.from(bytes));

const TARGETS: Target[] = [
  {
    name: 'frame bodies',
    good: frames().map((frame) => frame.subarray(8)),
    decode: (bytes) => {
      for (let kind = 0; kind < 40; kind++) {
        try {
          decodeFrame(kind, bytes);
        } catch (error) {
          if (!(error instanceof EngramError)) throw error;
        }
      }
    },
  },
  {
    name: 'frames out of a stream',
    good: frames(),
    decode: (bytes) => {
      const assembler = new FrameAssembler(1_024);
      assembler.feed(bytes, (kind, body) => {
        decodeFrame(kind, body);
        return true;
      });
    },
  },
  {
    name: 'batches',
    good: [batch()],
    decode: (bytes) => {
      const found = decodeBatch(bytes, view(bytes), 0, bytes.length);
      expect(found.entryCount).toBeLessThanOrEqual(BATCH_MAX_ENTRIES);
      checkBatchEntries(bytes, view(bytes), 0, found, 1_024 * 1_024);
    },
  },
  { name: 'compressed batches', good: [madeBatch('batch-lz4')], decode: unpack },
  {
    name: 'batches of several spaces',
    good: [madeBatch('batch-mixed')],
    decode: (bytes) => unpack(withBatchCrc(bytes)),
  },
  {
    name: 'compressed batches, CRC set right',
    good: [madeBatch('batch-lz4')],
    decode: (bytes) => unpack(withBatchCrc(bytes)),
  },
  { name: 'node records', good: records, decode: decodeNodeRecord },
  { name: 'states', good: [state()], decode: decodeState },
  { name: 'states, CRC set right', good: [state()], decode: (b) => decodeState(withCrc(b)) },
  {
    name: 'indexes',
    good: [index()],
    decode: (bytes) => decodeIndex(bytes, 0, 4_096, () => 1),
  },
  {
    name: 'indexes, CRC set right',
    good: [index()],
    decode: (bytes) => decodeIndex(withIndexCrcs(bytes), 0, 4_096, () => 1),
  },
  {
    name: 'segments',
    good: engramFiles(),
    decode: (bytes) => {
      look(bytes, view(bytes), 0, 0, 2 ** 31, 7);
      gatherEvidence({ durableLsn: 0, lastEnd: undefined }, bytes, view(bytes), 0, 7, 0);
      firstGoodHeader(bytes, view(bytes), 0, 7);
    },
  },
  {
    name: "Engram's files",
    good: engramFiles(),
    decode: (bytes) => readEngramLog([{ name: 'wal-1.log', bytes }]),
  },
];

/** A good encoding with bits flipped, bytes set, cut short, doubled, or lengths made huge. */
function changed(good: readonly Uint8Array[]): fc.Arbitrary<Uint8Array> {
  const change = fc.record({
    what: fc.constantFrom('flip', 'set', 'huge', 'cut', 'double'),
    at: fc.nat(1_000_000),
    value: fc.nat(255),
  });
  return fc
    .tuple(fc.nat(good.length - 1), fc.array(change, { minLength: 1, maxLength: 6 }))
    .map(([which, changes]) => {
      let bytes = good[which]!.slice();
      for (const { what, at, value } of changes) {
        if (bytes.length === 0) return bytes;
        const i = at % bytes.length;
        if (what === 'flip') bytes[i]! ^= 1 << (value & 7);
        else if (what === 'set') bytes[i] = value;
        else if (what === 'huge') bytes.fill(0xff, i, i + 4);
        else if (what === 'cut') bytes = bytes.slice(0, i);
        else bytes = Uint8Array.from([...bytes.subarray(0, i), ...bytes.subarray(i >> 1)]);
      }
      return bytes;
    });
}

/** @returns whether it decoded; throws what is none of ours */
function decodes(target: Target, bytes: Uint8Array): boolean {
  try {
    target.decode(bytes);
    return true;
  } catch (error) {
    if (error instanceof EngramError) return false;
    throw error;
  }
}

describe('decoders', () => {
  test.each(TARGETS)('$name: bytes of chance and changed bytes', (target) => {
    expect(target.good.length).toBeGreaterThan(0);
    for (const good of target.good) expect(decodes(target, good.slice())).toBe(true);
    const before = process.memoryUsage().rss;
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 400 }), (bytes) => {
        decodes(target, bytes.slice());
      }),
      { numRuns: RUNS },
    );
    fc.assert(
      fc.property(changed(target.good), (bytes) => {
        decodes(target, bytes.slice());
      }),
      { numRuns: 2 * RUNS },
    );
    // A length that was believed would show: they go up to 4 GiB.
    expect(process.memoryUsage().rss - before).toBeLessThan(300 * 1024 * 1024);
  });
});
