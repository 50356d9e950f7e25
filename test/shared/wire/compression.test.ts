import { randomBytes } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { idWords } from '#src/shared/bytes.js';
import { FRAME_HEADER_BYTES } from '#src/shared/limits.js';
import { checkEntries, decodeBatch, encodeBatchHeader } from '#src/shared/wire/batch.js';
import { FrameBuilder } from '#src/shared/wire/batches/frame-builder.js';
import {
  agreedCodec,
  type Codec,
  CompressionCode,
  codecOf,
  compressed,
  compressionProblem,
  decompressed,
  featureOf,
  loadCodecs,
  takenFeatures,
} from '#src/shared/wire/compression.js';
import { frameBytesOf, loadPackagedZstd, nodeZstd } from '#src/shared/wire/zstd.js';
import { codeOf, entriesOf, NODE, SPACE } from '../../support/batches.js';

const MiB = 1024 * 1024;
await loadCodecs(featureOf('zstd'));
const CODECS = [codecOf('lz4')!, codecOf('zstd')!];

const text = (bytes: number): Buffer => Buffer.alloc(bytes, 'all work and no play ');

const termsOf = (codec: Codec): { features: number; maxBytes: number } => ({
  features: featureOf(codec.name),
  maxBytes: MiB,
});

/** A batch whose body is `body`, said to be `totalSize` bytes of `count` entries. */
function batchOf(
  code: number,
  body: Uint8Array,
  totalSize: number,
  count: number,
): { bytes: Uint8Array; view: DataView } {
  const bytes = new Uint8Array(64 + body.length);
  const view = new DataView(bytes.buffer);
  bytes.set(body, 64);
  const facts = { primaryNodeId: NODE, spaceId: SPACE, startSequence: 1, epoch: 1 };
  const header = { ...facts, entryCount: count, totalSize };
  encodeBatchHeader(bytes, view, 0, header, { compression: code, sentSize: body.length });
  return { bytes, view };
}

/** What a receiver does with a batch, up to the entries. */
function open(
  { bytes, view }: { bytes: Uint8Array; view: DataView },
  codec: Codec,
  maxEntryBytes = MiB,
): Uint8Array {
  const batch = decodeBatch(bytes, view, 0, bytes.length, termsOf(codec));
  const entries = decompressed(batch.compression, bytes.subarray(64), batch.totalSize);
  const inside = new DataView(entries.buffer, entries.byteOffset, entries.length);
  checkEntries(entries, inside, 0, batch, maxEntryBytes);
  return entries;
}

test('both are there, on every Node.js; what is loaded is not loaded again', () => {
  for (const name of ['none', 'lz4', 'zstd'] as const) {
    expect(compressionProblem(name)).toBeUndefined();
  }
  expect(CODECS.map((codec) => codec.name)).toEqual(['lz4', 'zstd']);
  expect(loadCodecs(featureOf('zstd') | featureOf('lz4'))).toBeUndefined();
});

test('zstd of the package and that of Node read each other; nothing may stand behind', async () => {
  const theirs = (await loadPackagedZstd())!;
  const all = Buffer.concat([text(70_000), randomBytes(500), Buffer.alloc(200_000)]);
  for (const bytes of [all, all.subarray(0, 300), Buffer.alloc(1), Buffer.alloc(0)]) {
    const made = theirs.compress(bytes);
    expect(frameBytesOf(made)).toBe(made.length);
    expect(bytes.equals(theirs.decompress(made, bytes.length))).toBe(true);
    const own = nodeZstd();
    if (!own) continue;
    expect(bytes.equals(own.decompress(made, bytes.length))).toBe(true);
    const ours = own.compress(bytes);
    expect(frameBytesOf(ours)).toBe(ours.length);
    expect(bytes.equals(theirs.decompress(ours, bytes.length))).toBe(true);
  }
  const made = theirs.compress(all);
  // Another frame, one to be skipped, or nothing of the kind: zstd itself would take the second.
  const skipped = Buffer.from('502a4d180400000001020304', 'hex');
  for (const more of [made, skipped, Buffer.from([0])]) {
    const two = Buffer.concat([made, more]);
    expect(() => theirs.decompress(two, all.length)).toThrow('bytes behind the frame');
  }
});

test('both ends use what both can, and nothing else', () => {
  const all = featureOf('lz4') | featureOf('zstd');
  expect(takenFeatures(0)).toBe(0);
  expect(takenFeatures(featureOf('lz4') | 0xff00)).toBe(featureOf('lz4'));
  expect(takenFeatures(all)).toBe(all);
  expect(agreedCodec('none', all)).toBeUndefined();
  expect(agreedCodec('lz4', 0)).toBeUndefined();
  expect(agreedCodec('lz4', featureOf('zstd'))).toBeUndefined();
  expect(agreedCodec('lz4', all)?.name).toBe('lz4');
});

test.each(['lz4', 'zstd'] as const)('a golden batch of %s is read', (name) => {
  const file = path.join(import.meta.dirname, `../../golden/wire/batch-${name}.hex`);
  const bytes = Uint8Array.from(
    Buffer.from(fs.readFileSync(file, 'utf8').replace(/\s/g, ''), 'hex'),
  );
  const golden = { bytes, view: new DataView(bytes.buffer) };
  const entries = entriesOf([text(10), text(300), text(0)]);
  expect(Uint8Array.from(open(golden, codecOf(name)!))).toEqual(entries);
});

describe.each(CODECS)('$name', (codec) => {
  test('gives back what was compressed, or leaves it', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 5_000 }), fc.nat(40), (bytes, times) => {
        const all = Buffer.concat(Array.from({ length: times }, () => bytes));
        const made = compressed(codec, all);
        if (!made) return;
        expect(made.length).toBeLessThan(all.length);
        expect(Buffer.from(decompressed(codec.code, made, all.length)).equals(all)).toBe(true);
      }),
      { numRuns: 500 },
    );
    expect(compressed(codec, randomBytes(10_000))).toBeUndefined();
    expect(compressed(codec, text(100))).toBeUndefined();
    const longest = text(4 * MiB);
    const made = compressed(codec, longest)!;
    expect(made.length).toBeLessThan(longest.length / 20);
    expect(longest.equals(decompressed(codec.code, made, longest.length))).toBe(true);
  });

  test('a frame of batches: some become smaller, some go as they are', () => {
    const builder = new FrameBuilder(64 * 1024, NODE);
    builder.reset(64 * 1024, codec);
    const parts = [
      { first: 1, payloads: [text(3_000), text(900)] },
      { first: 3, payloads: [randomBytes(700)] },
      { first: 4, payloads: [text(20)] },
      { first: 5, payloads: [text(10_000)] },
    ];
    const raw = parts.map(({ first, payloads }) => entriesOf(payloads, first));
    for (const [i, { first, payloads }] of parts.entries()) {
      builder.begin(1, idWords(SPACE), 1, first);
      builder.add(raw[i]!, payloads.length);
      builder.end();
    }
    // Thrown away: what was copied while its slab was written anew.
    const mark = builder.mark();
    builder.begin(1, idWords(SPACE), 1, 6);
    builder.add(entriesOf([text(500)], 6), 1);
    builder.end();
    builder.rewind(mark);
    const frame = Uint8Array.from(builder.finish());
    const rawBytes = FRAME_HEADER_BYTES + raw.reduce((sum, r) => sum + 68 + r.length, 0);
    expect(builder.rawBytes).toBe(rawBytes);
    expect(frame.length).toBeLessThan(rawBytes / 5);
    const view = new DataView(frame.buffer);
    expect(view.getUint32(0, true)).toBe(frame.length - FRAME_HEADER_BYTES);
    let at = FRAME_HEADER_BYTES;
    const codes: number[] = [];
    for (const [i, entries] of raw.entries()) {
      const length = view.getUint32(at, true);
      expect(builder.batches[i]!.bytes).toBe(4 + length);
      const batch = decodeBatch(frame, view, at + 4, at + 4 + length, termsOf(codec));
      codes.push(batch.compression);
      const body = frame.subarray(at + 68, at + 4 + length);
      const found = batch.compression === 0 ? body : decompressed(codec.code, body, entries.length);
      expect(Buffer.from(found).equals(entries)).toBe(true);
      at += 4 + length;
    }
    expect(at).toBe(frame.length);
    expect(codes).toEqual([codec.code, 0, 0, codec.code]);
    // The buffer is used again.
    builder.reset(64 * 1024, codec);
    builder.begin(1, idWords(SPACE), 1, 1);
    builder.add(raw[0]!, 2);
    expect(builder.finish().length).toBeLessThan(1_000);
    expect(builder.batches).toHaveLength(1);
  });

  describe('what a hostile sender says', () => {
    const entries = entriesOf([text(3_000), text(2_000)]);
    const body = codec.compress(entries);
    const size = entries.length;
    const lied = (totalSize: number, bytes: Uint8Array = body): string =>
      codeOf(() => open(batchOf(codec.code, bytes, totalSize, 2), codec));

    test('the truth is taken', () => {
      expect(lied(size)).toBe('none');
    });

    test.each([
      ['less than it becomes', size - 1],
      ['more than it becomes', size + 1],
      ['as much as it has', body.length],
      ['less than it has', body.length - 1],
      ['more than the cap', MiB + 1],
      ['all memory', Number.MAX_SAFE_INTEGER],
    ])('total_size is %s', (_, totalSize) => {
      expect(lied(totalSize)).toBe('InvalidBatchSize');
    });

    test('bytes that are nothing of the kind', () => {
      expect(lied(size, randomBytes(body.length))).toBe('InvalidBatchSize');
      expect(lied(size, body.subarray(0, body.length - 5))).toBe('InvalidBatchSize');
      expect(lied(size, new Uint8Array(0))).toBe('InvalidBatchSize');
      expect(lied(size, new Uint8Array(3))).toBe('InvalidBatchSize');
      expect(lied(size, Buffer.concat([body, Buffer.alloc(7, 1)]))).toBe('InvalidBatchSize');
    });

    test('a bomb: a thousand times what it says, and nothing is allocated for it', () => {
      const bomb = codec.compress(Buffer.alloc(64 * MiB));
      // What the bytes themselves claim is set to what the header says.
      if (codec.name === 'lz4') bomb.set([0, 0, 1, 0]);
      const before = process.memoryUsage.rss();
      for (let n = 0; n < 50; n++) expect(lied(65_536, bomb.subarray(0, 60_000))).not.toBe('none');
      expect(process.memoryUsage.rss() - before).toBeLessThan(60 * MiB);
    });

    test('a compression that was not agreed on, or that nobody knows', () => {
      const b = batchOf(codec.code, body, size, 2);
      const decode = (features: number): unknown =>
        decodeBatch(b.bytes, b.view, 0, b.bytes.length, { features, maxBytes: MiB });
      expect(codeOf(() => decode(0))).toBe('UnsupportedVersion');
      expect(codeOf(() => decode(0xff & ~featureOf(codec.name)))).toBe('UnsupportedVersion');
      const strange = batchOf(3, body, size, 2);
      expect(codeOf(() => open(strange, codec))).toBe('UnsupportedVersion');
      expect(codeOf(() => decompressed(3, body, size))).toBe('InvalidBatchSize');
    });

    test('entries behind it that are not what their CRCs say', () => {
      const bad = Uint8Array.from(entries);
      bad[70]! ^= 1;
      const b = batchOf(codec.code, codec.compress(bad), size, 2);
      expect(codeOf(() => open(b, codec))).toBe('ChecksumMismatch');
      const more = batchOf(codec.code, body, size, 3);
      expect(codeOf(() => open(more, codec))).toBe('TruncatedEntry');
    });

    test('changed bytes and changed sizes, their batch_crc set right: an error of ours', () => {
      const before = process.memoryUsage.rss();
      const change = fc.record({ at: fc.nat(), value: fc.nat(255) });
      const changes = fc.array(change, { maxLength: 8 });
      let taken = 0;
      fc.assert(
        fc.property(changes, fc.integer({ min: -3, max: 70_000 }), (list, off) => {
          const changed = Uint8Array.from(body);
          for (const { at, value } of list) changed[at % changed.length] = value;
          const totalSize = Math.max(1, off > 1_000 ? off : size + off);
          if (lied(totalSize, changed) === 'none') taken++;
        }),
        { numRuns: 4_000 },
      );
      expect(taken).toBeLessThan(4_000);
      expect(process.memoryUsage.rss() - before).toBeLessThan(100 * MiB);
    });
  });
});

test('codes and features are those of docs/PROTOCOL.md', () => {
  expect(CompressionCode).toEqual({ none: 0, zstd: 1, lz4: 2 });
  expect([featureOf('zstd'), featureOf('lz4')]).toEqual([1, 2]);
});
