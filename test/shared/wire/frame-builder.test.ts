/** What a frame of batches says of itself while it is built: its sender goes by it. */
import { beforeEach, expect, test } from 'vitest';
import { idWords } from '#src/shared/bytes.js';
import { crc32c } from '#src/shared/crc.js';
import { BATCH_MAX_ENTRIES, FRAME_HEADER_BYTES } from '#src/shared/limits.js';
import { decodeBatch } from '#src/shared/wire/batch.js';
import { FrameBuilder } from '#src/shared/wire/batches/frame-builder.js';
import { NODE, SPACE } from '../../support/batches.js';

const WORDS = idWords(SPACE);
/** Length and header of a batch. */
const PREFIX = 68;
const LIMIT = 10_000;

let frame: FrameBuilder;

beforeEach(() => {
  frame = new FrameBuilder(1 << 20, NODE);
  frame.reset(LIMIT, undefined, true);
});

test('the open batch goes on with the next entry of its last space, up to its most', () => {
  expect(frame.continues(0, 1)).toBe(false);
  frame.begin(3, WORDS, 1, 5, true);
  frame.reserve(2, 130);
  const next = [3, 7] as const;
  expect(frame.continues(...next)).toBe(true);
  for (const [slot, sequence] of [
    [3, 6],
    [3, 8],
    [4, 7],
  ] as const) {
    expect(frame.continues(slot, sequence)).toBe(false);
  }
  frame.join(4, 1);
  frame.reserve(1, 64);
  expect([frame.continues(...next), frame.continues(4, 2)]).toEqual([false, true]);
  frame.reserve(BATCH_MAX_ENTRIES - 4, 64);
  expect(frame.continues(4, BATCH_MAX_ENTRIES - 2)).toBe(true);
  frame.reserve(1, 64);
  expect(frame.continues(4, BATCH_MAX_ENTRIES - 1)).toBe(false);
  expect([...frame.parts]).toEqual([3, 6, 130, 4, BATCH_MAX_ENTRIES - 2, 3 * 64]);
  frame.end();
  expect(frame.continues(4, BATCH_MAX_ENTRIES - 1)).toBe(false);
});

test('what was finished since a mark is thrown away as what is open', () => {
  frame.begin(1, WORDS, 1, 1, true);
  frame.reserve(1, 64);
  frame.end();
  const mark = frame.mark();
  const before = [frame.room, frame.batches.length, [...frame.parts]];
  for (let n = 0; n < 2; n++) {
    frame.begin(2, WORDS, 1, 1 + n, true);
    frame.reserve(1, 64);
    frame.end();
  }
  frame.rewind(mark);
  expect([frame.room, frame.batches.length, [...frame.parts]]).toEqual(before);
});

test('a frame that is begun anew holds nothing, whatever was open', () => {
  frame.begin(1, WORDS, 1, 1, true);
  frame.reserve(1, 64);
  frame.reset(LIMIT, undefined, true);
  expect([frame.isEmpty, frame.mayJoin(1, 64), frame.continues(1, 2)]).toEqual([
    true,
    false,
    false,
  ]);
  expect(frame.finish()).toHaveLength(FRAME_HEADER_BYTES);
});

test('it is mostly full once less than half of its limit is left', () => {
  expect(frame.isMostlyFull).toBe(false);
  frame.begin(1, WORDS, 1, 1, true);
  frame.reserve(1, LIMIT / 2 - FRAME_HEADER_BYTES - PREFIX);
  expect([frame.room, frame.isMostlyFull]).toEqual([LIMIT / 2, false]);
  frame.reserve(1, 1);
  expect(frame.isMostlyFull).toBe(true);
  expect(frame.finish()).toHaveLength(LIMIT / 2 + 1);
  expect(frame.rawBytes).toBe(LIMIT / 2 + 1);
});

test('what is known of parts of a batch is the sum of it only where all of it is known', () => {
  for (let known = 0; known < 16; known++) {
    frame.begin(3, WORDS, 1, 5);
    for (let n = 0; n < 4; n++) {
      const entry = new Uint8Array(64 + n).fill(known * 4 + n + 1);
      frame.add(entry, 1, known & (1 << n) ? crc32c(entry) : undefined);
    }
  }
  const bytes = frame.finish();
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  let found = 0;
  for (let at = FRAME_HEADER_BYTES; at < bytes.length; found++) {
    const end = at + 4 + view.getUint32(at, true);
    expect(decodeBatch(bytes, view, at + 4, end).entryCount).toBe(4);
    at = end;
  }
  expect(found).toBe(16);
});
