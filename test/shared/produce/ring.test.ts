/** The ring between a thread of the host and main: what goes in comes out, and nothing else. */
import { expect, test } from 'vitest';
import { failure } from '#src/shared/errors.js';
import { ANSWERS_MAX, ENTRY_HEADER_BYTES } from '#src/shared/limits.js';
import { readPayloadSize, readType } from '#src/shared/log/entry.js';
import { allocateMemory, NodeMemory, type Slab } from '#src/shared/memory/slab.js';
import { AnswerRows } from '#src/shared/produce/answers.js';
import {
  allocateRing,
  Channel,
  RingReader,
  RingWriter,
  ringBytesFor,
} from '#src/shared/produce/ring.js';
import { chanceFrom } from '../../support/chance.js';

const SEED = Number(process.env.ENGRAM_TEST_SEED ?? Math.floor(Math.random() * 2 ** 31));
const RING = 4_096;
const MAX = 1_024;
const USUAL = { replicas: 0, timeoutMs: 0 };

/** @param position from which on it counts */
function world(position = 0) {
  const channel = new Channel(allocateRing(RING));
  channel.published = position;
  channel.taken = position;
  const slab: Slab = new NodeMemory(allocateMemory(16_384, 65_536, 1)).slabs[0]!;
  return { channel, writer: new RingWriter(channel), reader: new RingReader(channel, MAX), slab };
}

/** Takes one part. @returns type and payload of each of its entries */
function take({ reader, slab }: ReturnType<typeof world>, room = 16_384): [number, string][] {
  const next = reader.next(reader.waiting);
  if (!next) return [];
  const [count, bytes] = reader.copy(next.draft, next.waiting, slab, 0, room);
  const entries: [number, string][] = [];
  let at = 0;
  for (let i = 0; i < count; i++) {
    const size = readPayloadSize(slab.view, at);
    const payload = slab.bytes.slice(at + ENTRY_HEADER_BYTES, at + ENTRY_HEADER_BYTES + size);
    entries.push([readType(slab.view, at), Buffer.from(payload).toString('hex')]);
    at += ENTRY_HEADER_BYTES + size;
  }
  expect(at).toBe(bytes);
  reader.take(bytes);
  return entries;
}

test(`entries of any size, around its end, past 2^32 bytes, seed ${SEED}`, () => {
  const chance = chanceFrom(SEED);
  const all = world(2 ** 32 - 3 * RING);
  const given: [number, string][] = [];
  const found: [number, string][] = [];
  let [puts, refused] = [0, 0];
  while (puts < 20_000) {
    const payload = Buffer.alloc(chance(4) === 0 ? chance(MAX + 1) : chance(40), chance(256));
    const type = 1_000 + chance(3);
    if (all.writer.put(type, payload, payload.length, USUAL) > 0) {
      given.push([type, payload.toString('hex')]);
      puts++;
    } else {
      refused++;
      expect(all.reader.waiting + MAX + 64).toBeGreaterThan(RING / 2);
    }
    if (chance(3) === 0) found.push(...take(all, 2_000 + chance(2_000)));
  }
  for (let more = take(all); more.length > 0; more = take(all)) found.push(...more);
  expect(found).toEqual(given);
  expect(refused).toBeGreaterThan(0);
});

test('a part asks for one acknowledgement', () => {
  const all = world();
  const asks = [USUAL, USUAL, { replicas: 1, timeoutMs: 5 }, { replicas: 1, timeoutMs: 6 }, USUAL];
  for (const ack of asks) all.writer.put(1000, Buffer.alloc(1), 1, ack);
  const parts = [];
  for (let part = take(all); part.length > 0; part = take(all)) parts.push(part.length);
  expect(parts).toEqual([2, 1, 1, 1]);
});

test('of what is not of a part little is copied: what alternates costs what it is', () => {
  const all = world();
  const asks = [USUAL, { replicas: 0, timeoutMs: 5 }];
  for (let n = 0; n < 60; n++) all.writer.put(1000, Buffer.alloc(1), 1, asks[n % 2]!);
  let copied = 0;
  const { bytes } = all.slab;
  bytes.set = (from: ArrayLike<number>, at?: number) => {
    copied += from.length;
    Uint8Array.prototype.set.call(bytes, from, at);
  };
  let parts = 0;
  while (take(all).length > 0) parts++;
  expect(parts).toBe(60);
  expect(copied).toBeLessThan(4 * 60 * (ENTRY_HEADER_BYTES + 1));
});

test('an entry that changes between two looks is judged as it was copied', () => {
  for (const [offset, value] of [
    [24, 2_000],
    [24, 2 ** 32 - 1],
    [20, 5],
    [20, 0],
  ] as const) {
    const all = world();
    all.writer.put(1000, Buffer.alloc(100), 100, USUAL);
    const next = all.reader.next(all.reader.waiting)!;
    expect(next.draft.bytes).toBe(164);
    all.channel.view.setUint32(offset, value, true);
    const copy = () => all.reader.copy(next.draft, next.waiting, all.slab, 0, 16_384);
    expect(copy).toThrow('ProtocolViolation');
  }
});

test('what no producer puts there is refused before it is used', () => {
  const all = world();
  all.channel.published = RING + 1;
  expect(() => all.reader.waiting).toThrow('ProtocolViolation');
  all.channel.published = 0;
  all.writer.put(1000, Buffer.alloc(100), 100, USUAL);
  for (const size of [101, MAX + 1, 2 ** 32 - 1]) {
    all.channel.view.setUint32(24, size, true);
    expect(() => all.reader.next(all.reader.waiting)).toThrow('ProtocolViolation');
  }
});

test('a ring holds two of the largest entries', () => {
  expect(ringBytesFor(65_536, 1_000)).toBe(65_536);
  expect(ringBytesFor(65_537, 1_000)).toBe(131_072);
  expect(ringBytesFor(65_536, 2 ** 20)).toBe(2 ** 22);
});

test('answers: what it was, or the error with its details as far as they fit', () => {
  const rows = new AnswerRows(allocateRing(RING), 0);
  const row = { index: 2 ** 40, count: 3, sequence: 2 ** 50, epoch: 7, error: undefined };
  rows.write(ANSWERS_MAX + 1, row);
  expect(rows.read(1)).toEqual(row);
  const details = { sequence: 4, flushedOn: ['b'] };
  rows.write(0, { ...row, error: failure('AckTimeout', 'it took too long', { details }) });
  const told = rows.read(0).error!;
  expect([told.code, told.details]).toEqual(['AckTimeout', details]);
  expect(told.message).toContain('AckTimeout: it took too long\n');
  const long = failure('Fenced', 'ä'.repeat(2_000), { details: { much: 'x'.repeat(2_000) } });
  rows.writeEnd(5, long);
  const end = rows.readEnd();
  expect([end.index, end.error!.code, end.error!.details]).toEqual([5, 'Fenced', {}]);
});
