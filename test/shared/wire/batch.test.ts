import fs from 'node:fs';
import path from 'node:path';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { idWord, idWords } from '#src/shared/bytes.js';
import { crc32c } from '#src/shared/crc.js';
import { encodeHeader, sealLocal, stageHeader } from '#src/shared/log/entry.js';
import { checkBatchEntries, decodeBatch, encodeBatchHeader } from '#src/shared/wire/batch.js';
import { codeOf } from '../../support/batches.js';

const NODE = '0123456789abcdef0123456789abcdef';
const SPACE = '00112233445566778899aabbccddeeff';
const MAX = 1024;

/** A batch of entries 5, 6, 7 with payloads of 0, 10 and 300 bytes. */
function batch(epoch = 2): { bytes: Uint8Array; view: DataView } {
  const payloads = [new Uint8Array(0), new Uint8Array(10).fill(1), new Uint8Array(300).fill(2)];
  const size = payloads.reduce((sum, p) => sum + 64 + p.length, 0);
  const bytes = new Uint8Array(64 + size);
  const view = new DataView(bytes.buffer);
  const id = [0, 1, 2, 3].map((i) => idWord(SPACE, i)) as [number, number, number, number];
  let at = 64;
  for (const [i, payload] of payloads.entries()) {
    stageHeader(view, at, 5 + i, 1000 + i, 0, 1, payload.length, epoch);
    bytes.set(payload, at + 64);
    sealLocal(bytes, view, at, id, 0, 0, 0);
    at += 64 + payload.length;
  }
  seal(bytes, view, size, epoch);
  return { bytes, view };
}

function seal(bytes: Uint8Array, view: DataView, totalSize: number, epoch = 2, count = 3): void {
  encodeBatchHeader(bytes, view, 0, {
    primaryNodeId: NODE,
    spaceId: SPACE,
    startSequence: 5,
    entryCount: count,
    totalSize,
    epoch,
  });
}

function check({ bytes, view }: { bytes: Uint8Array; view: DataView }): void {
  checkBatchEntries(bytes, view, 0, decodeBatch(bytes, view, 0, bytes.length), MAX);
}

/** Changes a byte of an entry and makes batch_crc fit again: the entry's own checks must see it. */
function changed(offset: number, value: number, count = 3): { bytes: Uint8Array; view: DataView } {
  const b = batch();
  b.bytes[offset] = value;
  seal(b.bytes, b.view, b.bytes.length - 64, 2, count);
  return b;
}

describe('a batch', () => {
  test('comes back as it was written', () => {
    const { bytes, view } = batch();
    const found = decodeBatch(bytes, view, 0, bytes.length);
    expect(found.spaceId).toBe(SPACE);
    expect({ ...found }).toEqual({
      spaceWords: idWords(SPACE),
      startSequence: 5,
      entryCount: 3,
      totalSize: 3 * 64 + 310,
      epoch: 2,
      compression: 0,
      sentSize: 3 * 64 + 310,
      isMixed: false,
    });
    expect(codeOf(() => check({ bytes, view }))).toBe('none');
  });

  test('its bytes are the golden ones', () => {
    const golden = path.join(import.meta.dirname, '../../golden/wire/batch.hex');
    const expected = fs.readFileSync(golden, 'utf8').replace(/\s/g, '');
    expect(Buffer.from(batch().bytes).toString('hex')).toBe(expected);
  });

  test.each([
    ['another version', 0, 2, 'UnsupportedVersion'],
    ['a compression nobody negotiated', 54, 1, 'UnsupportedVersion'],
    ['several spaces, which nobody negotiated', 63, 1, 'UnsupportedVersion'],
    ['a flag that nobody knows', 63, 2, 'UnsupportedVersion'],
    ['no entries', 42, 0, 'EmptyBatch'],
    ['more entries than bytes', 42, 200, 'InvalidBatchSize'],
    ['more bytes than are there', 47, 9, 'TruncatedBatch'],
    ['fewer bytes than are there', 46, 1, 'InvalidBatchSize'],
    ['another epoch', 59, 9, 'ChecksumMismatch'],
    ['another space', 18, 9, 'ChecksumMismatch'],
    ['another byte of an entry', 70, 9, 'ChecksumMismatch'],
  ])('with %s is refused', (_, offset, value, code) => {
    const { bytes, view } = batch();
    bytes[offset] = value;
    expect(codeOf(() => decodeBatch(bytes, view, 0, bytes.length))).toBe(code);
  });

  test.each([
    ['a header that does not fit its CRC', () => changed(64 + 12, 9), 'ChecksumMismatch'],
    ['a payload that does not fit its CRC', () => changed(64 + 64 + 64 + 3, 9), 'ChecksumMismatch'],
    ['fewer entries than announced', () => changed(0, 1, 4), 'TruncatedEntry'],
    ['more entries than announced', () => changed(0, 1, 2), 'InvalidBatchSize'],
  ])('with %s is refused', (_, make, code) => {
    expect(codeOf(() => check(make()))).toBe(code);
  });

  test.each([
    ['a sequence that does not follow', { sequence: 9n }, 'InvalidBatchSize'],
    ['an entry of another space', { spaceId: NODE }, 'InvalidBatchSize'],
    ['an epoch above the batch', { epoch: 3 }, 'InvalidBatchSize'],
    ['an epoch that falls', { epoch: 1 }, 'InvalidBatchSize'],
    ['a payload beyond the cap', { payloadSize: 5000 }, 'InvalidBatchSize'],
    ['a payload beyond the batch', { payloadSize: 900 }, 'TruncatedEntry'],
  ])('with %s is refused, though its CRCs fit', (_, change, code) => {
    const b = batch();
    const at = 64 + 64;
    const header = {
      magic: 0xdeadbeef,
      sequence: 6n,
      timestamp: 1n,
      type: 1,
      payloadSize: 10,
      payloadCrc: crc32c(b.bytes.subarray(at + 64, at + 74)),
      headerCrc: 0,
      spaceId: SPACE,
      epoch: 2,
      back: 0,
      place: 0,
      ...change,
    };
    encodeHeader(b.view, at, header);
    const covered = Buffer.concat([
      b.bytes.subarray(at, at + 32),
      b.bytes.subarray(at + 36, at + 56),
    ]);
    encodeHeader(b.view, at, { ...header, headerCrc: crc32c(covered) });
    seal(b.bytes, b.view, b.bytes.length - 64);
    expect(codeOf(() => check(b))).toBe(code);
  });

  test('any bytes: an error of ours, or a batch', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 700 }), fc.boolean(), (data, mend) => {
        const bytes = Uint8Array.from(data);
        const view = new DataView(bytes.buffer);
        // Half of them get past the batch's own checks, to reach the entries'.
        if (mend && bytes.length >= 64) seal(bytes, view, bytes.length - 64, 2, 1);
        codeOf(() => check({ bytes, view }));
      }),
      { numRuns: 2000 },
    );
  });
});
