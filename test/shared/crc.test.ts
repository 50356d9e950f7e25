import fc from 'fast-check';
import { expect, test } from 'vitest';
import { crc32c, crc32cHeader, crc32cJoined, crc32cRange, crc32cTable } from '#src/shared/crc.js';

/** The definition, bit by bit. */
function naive(bytes: Uint8Array): number {
  let c = 0xffffffff;
  for (const byte of bytes) {
    c ^= byte;
    for (let k = 0; k < 8; k++) c = c & 1 ? (c >>> 1) ^ 0x82f63b78 : c >>> 1;
  }
  return (c ^ 0xffffffff) >>> 0;
}

test('native, table and definition agree at any offset and length', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 400 }), fc.nat(40), (data, offset) => {
      const bytes = new Uint8Array(new SharedArrayBuffer(offset + data.length));
      bytes.set(data, offset);
      const view = new DataView(bytes.buffer);
      const expected = naive(data);
      expect(crc32cTable(view, offset, data.length)).toBe(expected);
      expect(crc32cRange(bytes, view, offset, data.length)).toBe(expected);
      expect(crc32c(bytes.subarray(offset))).toBe(expected);
    }),
  );
});

test('an initial value chains', () => {
  fc.assert(
    fc.property(fc.uint8Array(), fc.uint8Array(), (a, b) => {
      const whole = naive(new Uint8Array([...a, ...b]));
      expect(crc32c(b, crc32c(a))).toBe(whole);
      const view = new DataView(b.buffer, b.byteOffset, b.length);
      expect(crc32cTable(view, 0, b.length, crc32c(a))).toBe(whole);
    }),
  );
});

test('the header form skips its own four bytes and stops at 56', () => {
  fc.assert(
    fc.property(fc.uint8Array({ minLength: 70, maxLength: 70 }), fc.nat(6), (data, offset) => {
      const header = data.subarray(offset, offset + 64);
      const covered = new Uint8Array([...header.subarray(0, 32), ...header.subarray(36, 56)]);
      const view = new DataView(data.buffer, data.byteOffset, data.length);
      expect(crc32cHeader(view, offset)).toBe(naive(covered));
    }),
  );
});

test('sums are joined as if what they are of were summed at once, at any length', () => {
  const any = fc.uint8Array({ maxLength: 300 });
  const long = fc.integer({ min: 0, max: 1 << 22 });
  fc.assert(
    fc.property(any, any, long, (a, b, zeros) => {
      expect(crc32cJoined(crc32c(a), crc32c(b), b.length)).toBe(
        crc32c(new Uint8Array([...a, ...b])),
      );
      const rest = new Uint8Array(zeros);
      rest.set(b.subarray(0, zeros));
      expect(crc32cJoined(crc32c(a), crc32c(rest), zeros)).toBe(crc32c(rest, crc32c(a)));
    }),
  );
  // The longest: so many zeros twice over are as many in two steps.
  const [sum, half] = [crc32c(Uint8Array.of(1, 2, 3)), 2 ** 30 - 1];
  const steps = crc32cJoined(crc32cJoined(crc32cJoined(sum, 0, half), 0, half), 0, 1);
  expect(crc32cJoined(sum, 0, 2 ** 31 - 1)).toBe(steps);
});
