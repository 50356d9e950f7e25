/** One pass over a batch finds what two find: the sums that it derives are those of the bytes. */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { idWords } from '#src/shared/bytes.js';
import { EngramError } from '#src/shared/errors.js';
import { BATCH_HEADER_BYTES, ENTRY_HEADER_BYTES } from '#src/shared/limits.js';
import { sealLocal, stageHeader } from '#src/shared/log/entry.js';
import {
  checkEntries,
  decodeBatch,
  decodeWhole,
  encodeBatchHeader,
  type ReadBatch,
} from '#src/shared/wire/batch.js';

const ID = '0123456789abcdef0123456789abcdef';
const FIRST = 2 ** 32 - 3;
const MAX = 30_000;
const TERMS = { features: 0, maxBytes: 0 };

interface Made {
  readonly bytes: Uint8Array;
  readonly view: DataView;
  /** Where the header of each entry stands. */
  readonly places: readonly number[];
}

function batchOf(sizes: readonly number[]): Made {
  const totalSize = sizes.reduce((sum, size) => sum + ENTRY_HEADER_BYTES + size, 0);
  const bytes = new Uint8Array(BATCH_HEADER_BYTES + totalSize);
  const view = new DataView(bytes.buffer);
  const places: number[] = [];
  let at = BATCH_HEADER_BYTES;
  for (const [n, size] of sizes.entries()) {
    stageHeader(view, at, FIRST + n, n, 1, 1_000 + n, size, 2);
    for (let i = 0; i < size; i++) bytes[at + ENTRY_HEADER_BYTES + i] = 7 * n + i;
    sealLocal(bytes, view, at, idWords(ID), 0xfedc, 4_096 + at, 64 + at);
    places.push(at);
    at += ENTRY_HEADER_BYTES + size;
  }
  const facts = { startSequence: FIRST, entryCount: sizes.length, totalSize, epoch: 2 };
  encodeBatchHeader(bytes, view, 0, { primaryNodeId: ID, spaceId: ID, ...facts });
  return { bytes, view, places };
}

/** By two passes. @returns the batch, or the code of what is wrong */
function inTurn({ bytes, view }: Made): ReadBatch | string {
  try {
    const batch = decodeBatch(bytes, view, 0, bytes.length, TERMS);
    checkEntries(bytes, view, BATCH_HEADER_BYTES, batch, MAX);
    return batch;
  } catch (error) {
    if (error instanceof EngramError) return error.code;
    throw error;
  }
}

const atOnce = ({ bytes, view }: Made) =>
  decodeWhole(bytes, view, 0, bytes.length, TERMS, MAX)?.batch;

const size = fc.oneof(
  { weight: 9, arbitrary: fc.integer({ min: 0, max: 300 }) },
  { weight: 1, arbitrary: fc.integer({ min: 300, max: MAX }) },
);
const small = fc.array(fc.integer({ min: 0, max: 600 }), { minLength: 8, maxLength: 200 });
const any = fc.array(size, { minLength: 1, maxLength: 12 });

test('a good batch of any sizes is taken in one pass', () => {
  fc.assert(
    fc.property(fc.oneof(small, any), (sizes) => {
      const made = batchOf(sizes);
      expect(atOnce(made)).toEqual(inTurn(made));
      expect(inTurn(made)).toBeTypeOf('object');
    }),
  );
});

test('no changed bit passes, in the header, in an entry, in what is local to a log', () => {
  fc.assert(
    fc.property(fc.oneof(small, any), fc.nat(), (sizes, bit) => {
      const made = batchOf(sizes);
      const at = bit % (8 * made.bytes.length);
      made.bytes[at >>> 3]! ^= 1 << (at & 7);
      expect(atOnce(made)).toBeUndefined();
      expect(inTurn(made)).toBeTypeOf('string');
    }),
    { numRuns: 500 },
  );
});

test('each byte of an entry is summed, whichever way it is looked at', () => {
  for (const sizes of [Array<number>(20).fill(77), [700, 1_500, 800]]) {
    const made = batchOf(sizes);
    const place = made.places[1]!;
    for (let at = place; at < place + ENTRY_HEADER_BYTES + sizes[1]!; at++) {
      made.bytes[at]! ^= 0x40;
      expect(atOnce(made), `byte ${at - place}`).toBeUndefined();
      made.bytes[at]! ^= 0x40;
    }
    expect(atOnce(made)).toBeDefined();
  }
});

test('a sum that fits, of entries that are not what they must be, is left to two passes', () => {
  const made = batchOf([10, 20, 30]);
  made.view.setUint32(made.places[1]! + 20, 5, true);
  const facts = {
    startSequence: FIRST,
    entryCount: 3,
    totalSize: made.bytes.length - 64,
    epoch: 2,
  };
  encodeBatchHeader(made.bytes, made.view, 0, { primaryNodeId: ID, spaceId: ID, ...facts });
  expect(atOnce(made)).toBeUndefined();
  expect(inTurn(made)).toBe('ChecksumMismatch');
});
