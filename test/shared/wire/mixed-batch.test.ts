/** Batches of several spaces: their bytes, and what a reader makes of any bytes. */
import fs from 'node:fs';
import path from 'node:path';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { idWords } from '#src/shared/bytes.js';
import { crc32c } from '#src/shared/crc.js';
import { FRAME_HEADER_BYTES } from '#src/shared/limits.js';
import { NODE_SPACE_ID } from '#src/shared/log/node-record.js';
import { encodeMembers, MEMBERS_ENTRY } from '#src/shared/members/members.js';
import { decodeBatch, decodeWhole, FEATURE_MIXED } from '#src/shared/wire/batch.js';
import { FrameBuilder } from '#src/shared/wire/batches/frame-builder.js';
import { BatchRuns } from '#src/shared/wire/batches/mixed-batch.js';
import { codeOf, entriesOf, NODE, SPACE } from '../../support/batches.js';

const MAX = 400;
const TERMS = { features: FEATURE_MIXED, maxBytes: 0 };
/** Where things stand in `mixed()`. */
const FIRST = 64;
const SECOND = FIRST + 64 + 64 + 10;

interface Part {
  readonly id: string;
  readonly first: number;
  readonly epoch: number;
  readonly payloads: readonly number[];
}

const PARTS: readonly Part[] = [
  { id: SPACE, first: 5, epoch: 2, payloads: [0, 10] },
  { id: NODE, first: 2 ** 33, epoch: 3, payloads: [300] },
  { id: SPACE, first: 7, epoch: 2, payloads: [1] },
];

/** One batch of these parts, without the length before it. */
function mixed(parts = PARTS): Uint8Array {
  const frame = new FrameBuilder(64 * 1024, NODE);
  frame.reset(64 * 1024, undefined, true);
  for (const [i, { id, first, epoch, payloads }] of parts.entries()) {
    if (i === 0) frame.begin(i, idWords(id), epoch, first, true);
    else frame.join(i, first);
    const bytes = payloads.map((size) => new Uint8Array(size).fill(size));
    frame.add(entriesOf(bytes, first, epoch, id), payloads.length);
  }
  return Uint8Array.from(frame.finish().subarray(FRAME_HEADER_BYTES + 4));
}

const viewOf = (bytes: Uint8Array) => new DataView(bytes.buffer);

function sealed(bytes: Uint8Array): Uint8Array {
  bytes.fill(0, 55, 59);
  viewOf(bytes).setUint32(55, crc32c(bytes), true);
  return bytes;
}

/** Bytes of an entry changed, both its header_crc and batch_crc made to fit. */
function forged(at: number, offset: number, value: number): Uint8Array {
  const bytes = mixed();
  viewOf(bytes).setUint32(at + offset, value, true);
  const covered = [bytes.subarray(at, at + 32), bytes.subarray(at + 36, at + 56)];
  viewOf(bytes).setUint32(at + 32, crc32c(Buffer.concat(covered)), true);
  return sealed(bytes);
}

/** Of an entry whose header was changed. */
function resealed(entry: Uint8Array): void {
  const covered = Buffer.concat([entry.subarray(0, 32), entry.subarray(36, 56)]);
  viewOf(entry).setUint32(32, crc32c(covered), true);
}

function readerOf(bytes: Uint8Array): BatchRuns {
  const view = viewOf(bytes);
  const { isMixed, entryCount, totalSize } = decodeBatch(bytes, view, 0, bytes.length, TERMS);
  expect(isMixed).toBe(true);
  return new BatchRuns(bytes, view, 64, 64 + totalSize, entryCount, MAX);
}

type Found = [string, number, number, number];

function runsOf(bytes: Uint8Array): Found[] {
  const found: Found[] = [];
  const runs = readerOf(bytes);
  while (runs.next()) found.push([runs.spaceId, runs.startSequence, runs.entryCount, runs.epoch]);
  return found;
}

describe('a batch of several spaces', () => {
  test('its bytes are the golden ones', () => {
    const golden = path.join(import.meta.dirname, '../../golden/wire/batch-mixed.hex');
    const expected = fs.readFileSync(golden, 'utf8').replace(/\s/g, '');
    expect(Buffer.from(mixed()).toString('hex')).toBe(expected);
  });

  test('is read run by run', () => {
    expect(runsOf(mixed())).toEqual([
      [SPACE, 5, 2, 2],
      [NODE, 2 ** 33, 1, 3],
      [SPACE, 7, 1, 2],
    ]);
  });

  test('a run ends where the sequence, the epoch or the space is another one', () => {
    const part = (id: string, first: number, epoch: number): Part => {
      return { id, first, epoch, payloads: [1, 2] };
    };
    const parts = [part(SPACE, 1, 1), part(SPACE, 3, 1), part(SPACE, 5, 2), part(SPACE, 8, 2)];
    expect(runsOf(mixed([...parts, part(NODE, 10, 2)]))).toEqual([
      [SPACE, 1, 4, 1],
      [SPACE, 5, 2, 2],
      [SPACE, 8, 2, 2],
      [NODE, 10, 2, 2],
    ]);
  });

  test('all of a space’s id tells it from another', () => {
    const parts = [0, 4, 8, 12].map((word) => {
      const id = `${SPACE.slice(0, 2 * word)}ffffffff${SPACE.slice(2 * word + 8)}`;
      return [
        { id: SPACE, first: 1 + word, epoch: 2, payloads: [1] },
        { id, first: 2 + word, epoch: 2, payloads: [1] },
      ];
    });
    expect(runsOf(mixed(parts.flat())).map(([id]) => id)).toEqual(parts.flat().map((p) => p.id));
  });

  /** So many runs of one entry; the first one says who counts. */
  function withMembers(count: number): BatchRuns {
    const member = { nodeId: 'a', directoryId: '1'.repeat(32) };
    const payload = encodeMembers({ next: { members: [member], keep: 1 }, old: undefined });
    const entries = Array.from({ length: count }, (_, i) =>
      entriesOf([i === 0 ? payload : new Uint8Array(1)], 1 + 4 * i, 2),
    );
    new DataView(entries[0]!.buffer).setUint32(20, MEMBERS_ENTRY, true);
    resealed(entries[0]!);
    const all = Buffer.concat(entries);
    const view = new DataView(all.buffer, all.byteOffset, all.length);
    return new BatchRuns(all, view, 0, all.length, count, MAX);
  }

  test('says of each run whether an entry of it says who counts', () => {
    const bytes = mixed([PARTS[0]!, PARTS[1]!]);
    const runs = withMembers(2);
    expect([runs.next(), runs.holdsMembers]).toEqual([true, true]);
    expect([runs.next(), runs.holdsMembers]).toEqual([true, false]);
    const plain = readerOf(bytes);
    while (plain.next()) expect(plain.holdsMembers).toBe(false);
  });

  test('... and once more where it has gone back, of many that were looked at, too', () => {
    const runs = withMembers(20);
    const said = Array.from({ length: 20 }, () => runs.next() && runs.holdsMembers);
    runs.goBack(0, 20);
    expect(Array.from({ length: 20 }, () => runs.next() && runs.holdsMembers)).toEqual(said);
    expect(said.indexOf(true)).toBe(0);
  });

  test('checked in one pass: what fits is what two passes find, and nothing else', () => {
    const parts = Array.from({ length: 30 }, (_, i): Part => {
      return { id: i % 2 ? SPACE : NODE, first: 1 + i, epoch: 2, payloads: [3 * i] };
    });
    const bytes = mixed(parts);
    const view = viewOf(bytes);
    const whole = () => decodeWhole(bytes, view, 0, bytes.length, TERMS, MAX);
    const batch = decodeBatch(bytes, view, 0, bytes.length, TERMS);
    expect(whole()).toEqual({ batch, holdsMembers: false });
    for (let bit = 3; bit < 8 * bytes.length; bit += 13) {
      bytes[bit >> 3]! ^= 1 << (bit & 7);
      expect(whole()).toBeUndefined();
      bytes[bit >> 3]! ^= 1 << (bit & 7);
    }
    expect(decodeWhole(bytes, view, 0, bytes.length, TERMS, 80)).toBeUndefined();
  });

  test('goes back to where a run began', () => {
    const runs = readerOf(mixed());
    const left = runs.left;
    runs.next();
    const { start } = runs;
    runs.next();
    runs.goBack(start, left);
    expect(runs.next()).toBe(true);
    expect([runs.startSequence, runs.entryCount, runs.left]).toEqual([5, 2, 2]);
    while (runs.next());
    expect(runs.left).toBe(0);
  });

  test('of one space alone says so in its header', () => {
    const [part] = PARTS;
    const bytes = mixed([part!]);
    const batch = decodeBatch(bytes, viewOf(bytes), 0, bytes.length, TERMS);
    expect(batch).toMatchObject({ isMixed: false, spaceWords: idWords(SPACE), epoch: 2 });
  });

  test('what is thrown away leaves nothing behind', () => {
    const frame = new FrameBuilder(64 * 1024, NODE);
    const entries = (first: number) => entriesOf([new Uint8Array(3)], first, 1, SPACE);
    const fill = (isTried: boolean): string => {
      frame.reset(64 * 1024, undefined, true);
      frame.begin(1, idWords(SPACE), 1, 1, true);
      frame.add(entries(1), 1);
      frame.join(2, 1);
      frame.add(entriesOf([new Uint8Array(3)], 1, 1, NODE), 1);
      frame.end();
      const mark = frame.mark();
      if (isTried) {
        frame.begin(3, idWords(SPACE), 1, 2, true);
        frame.add(entries(2), 1);
        frame.join(4, 9);
        frame.reserve(5, 5 * 64);
        frame.rewind(mark);
      }
      frame.begin(1, idWords(SPACE), 1, 2, true);
      frame.add(entries(2), 1);
      const bytes = Buffer.from(frame.finish()).toString('hex');
      return `${bytes} ${frame.parts} ${frame.batches.map(({ parts }) => parts)}`;
    };
    expect(fill(true)).toBe(fill(false));
  });

  test('is refused where nobody has agreed on it', () => {
    const bytes = mixed();
    const decode = (features: number) => () =>
      decodeBatch(bytes, viewOf(bytes), 0, bytes.length, { features, maxBytes: 0 });
    expect(codeOf(decode(0))).toBe('UnsupportedVersion');
    expect(codeOf(decode(~FEATURE_MIXED))).toBe('UnsupportedVersion');
  });

  test.each([
    ['a flag more', () => sealed(mixed().fill(3, 63, 64)), 'UnsupportedVersion'],
    ['a space in its header', () => sealed(mixed().fill(1, 33, 34)), 'InvalidBatchSize'],
    ['a sequence in its header', () => sealed(mixed().fill(1, 34, 35)), 'InvalidBatchSize'],
    ['an epoch in its header', () => sealed(mixed().fill(1, 59, 60)), 'InvalidBatchSize'],
    ['bytes that were changed', () => mixed().fill(1, 90, 91), 'ChecksumMismatch'],
    ['a bad header', () => sealed(mixed().fill(9, SECOND + 12, SECOND + 13)), 'ChecksumMismatch'],
    ['a bad payload', () => sealed(mixed().fill(9, SECOND + 70, SECOND + 71)), 'ChecksumMismatch'],
    [
      'another space than its CRC covers',
      () => sealed(mixed().fill(9, 100, 101)),
      'ChecksumMismatch',
    ],
    ['fewer entries than announced', () => sealed(mixed().fill(5, 42, 43)), 'TruncatedEntry'],
    ['more entries than announced', () => sealed(mixed().fill(3, 42, 43)), 'InvalidBatchSize'],
    ['a payload beyond the cap', () => forged(FIRST, 24, MAX + 1), 'InvalidBatchSize'],
    ['a payload beyond the batch', () => forged(SECOND + 364, 24, 2), 'TruncatedEntry'],
    // 2^33 without its upper half.
    ['an entry 0', () => forged(SECOND, 8, 0), 'InvalidBatchSize'],
    ['an entry beyond 2^53', () => forged(SECOND, 8, 2 ** 22), 'InvalidBatchSize'],
    ['members that are none', () => forged(SECOND, 20, 7), 'UnsupportedVersion'],
  ])('with %s is refused', (_, make, code) => {
    const bytes = make();
    expect(codeOf(() => runsOf(bytes))).toBe(code);
  });

  test('any bytes: an error of ours, or runs of checked entries', () => {
    const edit = fc.tuple(fc.nat(700), fc.nat(255));
    fc.assert(
      fc.property(fc.array(edit, { maxLength: 4 }), (edits) => {
        const bytes = mixed();
        for (const [at, value] of edits) bytes[64 + (at % (bytes.length - 64))] = value;
        codeOf(() => runsOf(sealed(bytes)));
      }),
      { numRuns: 2_000 },
    );
  });

  test('the node’s own space is a space like any other to the reader', () => {
    const own = { id: NODE_SPACE_ID, first: 1, epoch: 1, payloads: [2] };
    expect(runsOf(mixed([PARTS[0]!, own]))[1]).toEqual([NODE_SPACE_ID, 1, 1, 1]);
  });
});
