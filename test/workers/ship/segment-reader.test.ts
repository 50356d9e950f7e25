import { expect, test, vi } from 'vitest';
import { idWords } from '#src/shared/bytes.js';
import { entriesKernel } from '#src/shared/kernel/entries.js';
import { ENTRY_HEADER_BYTES } from '#src/shared/limits.js';
import { sealLocal, stageHeader } from '#src/shared/log/entry.js';
import { SegmentReader } from '#src/workers/ship/segment-reader.js';

test('FAULT-98 a segment is closed when what a shipper reads of it has come', async () => {
  const calls: string[] = [];
  let answer!: (bytes: number) => void;
  const file = {
    read: async () => {
      calls.push('read');
      const bytes = await new Promise<number>((resolve) => {
        answer = resolve;
      });
      calls.push('has read');
      return bytes;
    },
    close: async () => void calls.push('closed'),
  };
  const reader = new SegmentReader({ openSegment: async () => file }, '/data', 1, 1_024);
  await reader.enter({ start: 0, size: 4_096, end: undefined, generation: 1 });
  const loaded = reader.load(0, 2_000);
  const closed = reader.close();
  await new Promise((resolve) => setImmediate(resolve));
  // It is less than was asked for, and nothing more is read.
  answer(100);
  await Promise.all([loaded, closed]);
  expect(calls).toEqual(['read', 'has read', 'closed']);
  expect(await loaded).toBe(0);
});

const SALT = 7;
const START = 1 << 20;
/** Small ones and long ones, some of the library's own. */
const SIZES = [10, 0, 300, 2_000, 5, 5, 768, 769, 40, 3_000, ...Array(30).fill(64)];

/** A segment of such entries. @returns its bytes, and the offset of each entry */
function segment(): { bytes: Uint8Array; view: DataView; at: number[] } {
  const ends = [0];
  for (const size of SIZES) ends.push(ends.at(-1)! + ENTRY_HEADER_BYTES + size);
  const bytes = new Uint8Array(ends.at(-1)!);
  const view = new DataView(bytes.buffer);
  const at = ends.slice(0, -1);
  const id = idWords('0123456789abcdef0123456789abcdef');
  for (const [n, offset] of at.entries()) {
    bytes.fill(n, offset + ENTRY_HEADER_BYTES, ends[n + 1]);
    stageHeader(view, offset, n + 1, 0, 0, n % 9 === 7 ? 7 : 1, SIZES[n]!, 1);
    sealLocal(bytes, view, offset, id, SALT, START + offset, 0);
  }
  return { bytes, view, at };
}

/** A reader of the segment, as it is each time that it is read. */
function readerOf(bytes: Uint8Array, isAtOnce: boolean, maxEntryBytes = 4_096) {
  const read = async (into: Uint8Array, position: number) => {
    into.set(bytes.subarray(position, position + into.length));
    return Math.min(into.length, bytes.length - position);
  };
  const openSegment = vi.fn(async () => ({ read, close: async () => undefined }));
  const kernelOf = () => (isAtOnce ? entriesKernel() : undefined);
  const reader = new SegmentReader({ openSegment }, '/data', SALT, maxEntryBytes, kernelOf);
  const end = START + bytes.length;
  const place = { start: START, size: 2 * bytes.length, end, generation: 1 };
  return { reader, place, openSegment };
}

/** What a reader makes of the segment, entry by entry, until one is bad. */
async function walked(bytes: Uint8Array, isAtOnce: boolean, maxEntryBytes?: number) {
  const { reader, place } = readerOf(bytes, isAtOnce, maxEntryBytes);
  await reader.enter(place);
  await reader.load(START, place.end);
  const found: number[] = [];
  try {
    for (let lsn = START; ; ) {
      const size = reader.sizeAt(lsn);
      if (size === 0) return { found, error: '' };
      found.push(reader.offsetOf(lsn));
      lsn += size;
    }
  } catch (error) {
    return { found, error: String((error as { code: string }).code) };
  }
}

test.each([true, false])('each entry, sound and in its place (at once: %s)', async (isAtOnce) => {
  const { bytes, view, at } = segment();
  expect(await walked(bytes, isAtOnce)).toEqual({ found: at, error: '' });
  const longest = Math.max(...SIZES);
  const tooLong = await walked(bytes, isAtOnce, ENTRY_HEADER_BYTES + longest - 1);
  expect(tooLong).toEqual({ found: at.slice(0, SIZES.indexOf(longest)), error: 'EntryTooLarge' });
  for (const [n, offset] of at.entries()) {
    const bad = { found: at.slice(0, n), error: 'CorruptionDetected' };
    // Magic, sequence, payload, and what the log has stamped on it.
    for (const changed of [0, 4, 44, 48, 56, 60, ...(SIZES[n]! > 0 ? [ENTRY_HEADER_BYTES] : [])]) {
      bytes[offset + changed]! ^= 1;
      expect(await walked(bytes, isAtOnce), `byte ${changed} of entry ${n}`).toEqual(bad);
      bytes[offset + changed]! ^= 1;
    }
    // Sound, but of another place of the log.
    const id = idWords('0123456789abcdef0123456789abcdef');
    sealLocal(bytes, view, offset, id, SALT, START + offset + 64, 0);
    expect(await walked(bytes, isAtOnce)).toEqual(bad);
    sealLocal(bytes, view, offset, id, SALT, START + offset, 0);
  }
});

test('what was sound in one window says nothing of the next', async () => {
  const { bytes, at } = segment();
  const { reader, place } = readerOf(bytes, true);
  await reader.enter(place);
  const [before, bad] = [START + at[36]!, START + at[38]!];
  await reader.load(START, place.end);
  expect([reader.sizeAt(before), reader.sizeAt(bad)]).toEqual([128, 128]);
  bytes[at[38]! + ENTRY_HEADER_BYTES]! ^= 1;
  await reader.load(START, place.end);
  expect(() => reader.sizeAt(bad)).toThrow('CorruptionDetected');
  expect(reader.sizeAt(before)).toBe(128);
});

test('a segment whose file was replaced is opened anew, and no other', async () => {
  const { reader, place, openSegment } = readerOf(segment().bytes, true);
  for (const generation of [1, 1, 2]) await reader.enter({ ...place, generation });
  expect(openSegment).toHaveBeenCalledTimes(2);
});

test('of a file that was cut in the midst of the log what is there is read, and told', async () => {
  const { bytes, at } = segment();
  for (const left of [at[5]!, at[5]! + 20]) {
    const { reader, place } = readerOf(bytes.subarray(0, left), true);
    await reader.enter({ ...place, end: START + bytes.length });
    expect(await reader.load(START, START + bytes.length)).toBe(left);
    for (let n = 0; n < 5; n++) expect(reader.sizeAt(START + at[n]!)).toBeGreaterThan(0);
    const load = reader.load(START + at[5]!, START + bytes.length);
    await expect(load).rejects.toMatchObject({ code: 'CorruptionDetected' });
  }
});
