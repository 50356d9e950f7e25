import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { idWord } from '#src/shared/bytes.js';
import {
  decodeHeader,
  encodeHeader,
  entryAt,
  isAppendableType,
  isGoodHeader,
  isGoodPayload,
  isInPlace,
  placeOf,
  readDurableLsn,
  sealLocal,
  stageHeader,
} from '#src/shared/log/entry.js';

const SALT = 0x12345678;
const ID = '00112233445566778899aabbccddeeff';

function sealed(
  payload: Uint8Array,
  lsn = 4096,
  back = 320,
): { bytes: Uint8Array; view: DataView } {
  const bytes = new Uint8Array(64 + payload.length);
  const view = new DataView(bytes.buffer);
  bytes.set(payload, 64);
  stageHeader(view, 0, 2 ** 40 + 7, 0x89abcdef, 0x17000000, 1, payload.length, 3);
  const id = [idWord(ID, 0), idWord(ID, 1), idWord(ID, 2), idWord(ID, 3)] as const;
  sealLocal(bytes, view, 0, id, SALT, lsn, back);
  return { bytes, view };
}

/** DESIGN 4 in BigInt, step by step. */
function naivePlace(salt: number, headerCrc: number, lsn: number, back: number): number {
  const M = 0xffffffffn;
  const fmix = (h0: bigint): bigint => {
    let h = h0 & M;
    h ^= h >> 16n;
    h = (h * 0x85ebca6bn) & M;
    h ^= h >> 13n;
    h = (h * 0xc2b2ae35n) & M;
    return h ^ (h >> 16n);
  };
  let h = BigInt(salt);
  for (const x of [BigInt(headerCrc), BigInt(lsn) & M, BigInt(lsn) >> 32n, BigInt(back)]) {
    h = fmix(h ^ x);
  }
  return Number(h);
}

describe('an entry', () => {
  test('sealed in place is what encodeHeader writes', () => {
    const payload = new Uint8Array(300).fill(9);
    const { view } = sealed(payload);
    const header = decodeHeader(view, 0);
    expect(header).toMatchObject({
      magic: 0xdeadbeef,
      sequence: 2n ** 40n + 7n,
      timestamp: 0x1700000089abcdefn,
      type: 1,
      payloadSize: 300,
      spaceId: ID,
      epoch: 3,
      back: 320,
    });
    const again = new Uint8Array(64);
    encodeHeader(new DataView(again.buffer), 0, header);
    expect([...again]).toEqual([...new Uint8Array(view.buffer, 0, 64)]);
    expect(readDurableLsn(view, 0, 4096)).toBe(4096 - 320);
  });

  test('place is the formula of the design', () => {
    const u32 = fc.integer({ min: 0, max: 2 ** 32 - 1 });
    const lsn = fc.integer({ min: 0, max: Number.MAX_SAFE_INTEGER });
    fc.assert(
      fc.property(u32, u32, lsn, u32, (salt, crc, at, back) => {
        expect(placeOf(salt, crc, at, back)).toBe(naivePlace(salt, crc, at, back));
      }),
    );
  });

  test('every bit of the header is covered: [0,56) by header_crc, [56,64) by place', () => {
    const { view, bytes } = sealed(new Uint8Array(10));
    expect(isGoodHeader(view, 0) && isInPlace(view, 0, SALT, 4096)).toBe(true);
    for (let bit = 0; bit < 512; bit++) {
      bytes[bit >> 3]! ^= 1 << (bit & 7);
      const good = isGoodHeader(view, 0) && isInPlace(view, 0, SALT, 4096);
      expect(good, `bit ${bit}`).toBe(false);
      if (bit >= 448) expect(isGoodHeader(view, 0)).toBe(true);
      bytes[bit >> 3]! ^= 1 << (bit & 7);
    }
  });

  test('every bit of the payload is covered', () => {
    const { view, bytes } = sealed(new Uint8Array(130).fill(3));
    for (let bit = 512; bit < bytes.length * 8; bit++) {
      bytes[bit >> 3]! ^= 1 << (bit & 7);
      expect(isGoodPayload(bytes, view, 0)).toBe(false);
      bytes[bit >> 3]! ^= 1 << (bit & 7);
    }
    expect(isGoodPayload(bytes, view, 0)).toBe(true);
  });

  test('elsewhere, or under another salt, it is not in place', () => {
    const { view } = sealed(new Uint8Array(1));
    expect(isInPlace(view, 0, SALT, 4096 + 64)).toBe(false);
    expect(isInPlace(view, 0, SALT, 4096 + 2 ** 32)).toBe(false);
    expect(isInPlace(view, 0, SALT + 1, 4096)).toBe(false);
  });

  test('FAULT-40 a zero-length payload is an entry, and zeros are none', () => {
    const { view, bytes } = sealed(new Uint8Array(0));
    expect(decodeHeader(view, 0).payloadCrc).toBe(0);
    expect(isGoodHeader(view, 0) && isGoodPayload(bytes, view, 0)).toBe(true);
    expect(entryAt(bytes, view, 0).payload).toHaveLength(0);
    expect(isGoodHeader(new DataView(new ArrayBuffer(64)), 0)).toBe(false);
  });

  test('types that a host may append', () => {
    expect([1, 2, 3, 4, 6, 1000, 2 ** 32 - 1].every(isAppendableType)).toBe(true);
    expect([0, 5, 7, 999, -1, 1.5, 2 ** 32, Number.NaN].some(isAppendableType)).toBe(false);
  });
});
