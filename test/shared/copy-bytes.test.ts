import { expect, test } from 'vitest';
import { copyBytes } from '#src/shared/bytes.js';

const SIZES = [0, 1, 63, 127, 128, 129, 255, 256, 1_023, 1_024, 1_025, 4_096, 70_001];

test('what is copied is what stood there, and nothing beside it, wherever the two stand', () => {
  const from = Uint8Array.from({ length: 80_000 }, (_, n) => (n * 31) % 251);
  for (const make of [ArrayBuffer, SharedArrayBuffer]) {
    const source = new Uint8Array(new make(from.length));
    source.set(from);
    for (const size of SIZES) {
      for (const [at, begin] of [
        [0, 0],
        [8, 16],
        [1, 0],
        [4, 8],
        [7, 3],
        [84, 64],
      ] as const) {
        const into = new Uint8Array(new SharedArrayBuffer(72_000)).fill(255);
        copyBytes(into, at, source.subarray(begin, begin + size));
        const expected = new Uint8Array(72_000).fill(255);
        expected.set(from.subarray(begin, begin + size), at);
        expect(Buffer.compare(into, expected), `${size} bytes from ${begin} to ${at}`).toBe(0);
      }
    }
  }
});

test('without room for all of it nothing is copied', () => {
  const into = new Uint8Array(new SharedArrayBuffer(2_000));
  for (const size of [100, 1_000, 1_500]) {
    const from = new Uint8Array(size).fill(1);
    expect(() => copyBytes(into, 2_001 - size, from), `${size}`).toThrow(RangeError);
  }
  expect(into.every((byte) => byte === 0)).toBe(true);
});
