/** Acks as a primary's link takes them: what they move, what is counted of them, what is none. */
import { beforeEach, describe, expect, test } from 'vitest';
import { ByteWriter } from '#src/shared/bytes.js';
import type { ShipperStart } from '#src/shared/link/control.js';
import { CounterWords } from '#src/shared/memory/counter-words.js';
import { allocateShipperCounters, SHIPPER_COUNTER } from '#src/shared/memory/metric-words.js';
import { allocateProgress, ReplicaProgress } from '#src/shared/memory/progress.js';
import type { Epoch, Slot } from '#src/shared/position.js';
import { acksInFrames, decodeFrame, encodeFrame, FRAME_KINDS } from '#src/shared/wire/protocol.js';
import { CountedSender } from '#src/workers/ship/counted-sender.js';

const SPACES = 100_000;
const OPTIONS = {
  ...{ connectTimeoutMs: 5_000, backoffStepsMs: [100], windowBytes: 2 ** 30, maxRetries: 3 },
  ...{ catchUpBatchBytes: 2 ** 20, catchUpBytesPerSecond: 0 },
  ...{ readTimeoutMs: 10_000, writeTimeoutMs: 10_000 },
};

let progress: ReplicaProgress;
let counters: CounterWords;
let sender: CountedSender;
let overtaken: [Slot, Epoch][];
let moves: number;

/** The space is streamed in epoch 2, from entry 10 on. */
function join(slot: Slot, epoch = 2, sequence = 10): void {
  const position = { epoch, sequence, headerCrc: 0 };
  sender.join({ handle: slot, answer: 'follows', epochSeen: epoch, position, applied: 5 }, epoch);
  progress.begin(slot, epoch, sequence, 5);
}

/** Entries up to there go out, a batch a space. */
function send(last: number, slots: readonly Slot[]): void {
  const batches = slots.map(() => ({ parts: 1, bytes: 100 }));
  const parts = slots.flatMap((slot) => [slot, last, 100]);
  sender.batchesSent({ batches, parts } as never, 0);
}

function take(...rows: readonly (readonly number[])[]): void {
  const note = (slot: Slot, epoch: Epoch): unknown => overtaken.push([slot, epoch]);
  sender.takeAcks(Float64Array.from(rows.flat()), 1, note, () => moves++);
}

const counted = (name: 'entriesAcked' | 'batchesAcked' | 'batchesFailed'): number =>
  counters.value(SHIPPER_COUNTER[name]);
const stands = (slot: Slot): number[] => [
  sender.flushed(slot)!,
  progress.received(slot),
  progress.flushed(slot),
  progress.applied(slot),
];

beforeEach(() => {
  const start = { progress: allocateProgress(SPACES), counters: allocateShipperCounters() };
  progress = new ReplicaProgress(start.progress);
  counters = new CounterWords(start.counters);
  sender = new CountedSender({ ...OPTIONS, ...start } as unknown as ShipperStart, 0);
  overtaken = [];
  moves = 0;
  sender.step({ kind: 'start' }, 0, 0);
  sender.step({ kind: 'connected' }, 0, 0);
  sender.step({ kind: 'welcomed', isNewLife: false }, 0, 0);
  for (const slot of [1, 2, 3]) join(slot);
  send(20, [1, 2, 3]);
});

describe('an ack', () => {
  test('moves each space that it is of, and is counted once', () => {
    take([1, 2, 14, 7], [3, 2, 20, 20]);
    expect([1, 2, 3].map(stands)).toEqual([
      [14, 14, 14, 7],
      [10, 10, 10, 5],
      [20, 20, 20, 20],
    ]);
    expect([moves, counted('entriesAcked'), counted('batchesAcked')]).toEqual([1, 14, 0]);
    // One space twice in a frame: what came last is what holds.
    take([2, 2, 12, 5], [2, 2, 20, 11], [1, 2, 20, 7]);
    expect([stands(1), stands(2)]).toEqual([
      [20, 20, 20, 7],
      [20, 20, 20, 11],
    ]);
    expect([moves, counted('entriesAcked'), counted('batchesAcked')]).toEqual([2, 30, 3]);
    expect([sender.isDrained, counted('batchesFailed'), overtaken]).toEqual([true, 0, []]);
  });

  test('that says nothing new moves nothing, and wakes nobody', () => {
    take([1, 2, 10, 5], [1, 2, 10, 4]);
    expect([moves, counted('entriesAcked'), stands(1)]).toEqual([0, 0, [10, 10, 10, 5]]);
    // Applied alone is news; it never goes back.
    take([1, 2, 10, 6]);
    take([1, 2, 10, 5]);
    expect([moves, stands(1)]).toEqual([1, [10, 10, 10, 6]]);
  });

  test('of another epoch, of a space that is not streamed, of none: nothing', () => {
    take([1, 1, 20, 20], [0, 0, 9, 9], [0, 2, 9, 9], [4, 2, 20, 20], [4, 0, 20, 20]);
    take([2 ** 32 - 1, 2, 20, 20], [2 ** 31, 0, 0, 0]);
    sender.leave(2, 1);
    take([2, 2, 20, 20], [2, 0, 20, 20]);
    expect([moves, counted('entriesAcked'), overtaken]).toEqual([0, 0, []]);
    expect([stands(1), progress.flushed(2), progress.flushed(4)]).toEqual([[10, 10, 10, 5], 10, 0]);
    // Only of what is streamed a higher epoch is news.
    take([1, 3, 20, 20], [2, 3, 20, 20], [4, 3, 20, 20]);
    expect([moves, overtaken, stands(1)]).toEqual([0, [[1, 3]], [10, 10, 10, 5]]);
  });

  test('of an epoch before, or of a link before, is none of what goes out now', () => {
    sender.leave(1, 1);
    join(1, 3, 12);
    send(20, [1]);
    take([1, 2, 20, 20]);
    expect([stands(1), counted('entriesAcked')]).toEqual([[12, 12, 12, 5], 0]);
    take([1, 3, 20, 20]);
    expect([stands(1), counted('entriesAcked')]).toEqual([[20, 20, 20, 20], 8]);
    sender.step({ kind: 'lost', reason: 'x', code: undefined, isFatal: false }, 1, 0);
    take([1, 3, 20, 20], [3, 2, 20, 20]);
    expect([sender.flushed(1), progress.flushed(3), counted('entriesAcked')]).toEqual([
      undefined,
      10,
      8,
    ]);
  });

  test('FAULT-32 of all that was sent before a nack made some of it go out again', () => {
    send(12, [1]);
    take([1, 2, 20, 20]);
    expect([moves, stands(1)]).toEqual([1, [20, 20, 20, 20]]);
  });

  test('of a space that has left is not waited for; streams are counted once', () => {
    expect([sender.streams, progress.streams]).toEqual([3, 3]);
    join(3);
    expect([sender.streams, progress.streams]).toEqual([3, 3]);
    sender.leave(1, 1);
    expect([sender.isDrained, counted('batchesAcked')]).toEqual([false, 1]);
    for (const slot of [1, 2, 3, 4]) sender.leave(slot, 1);
    expect([sender.isDrained, counted('batchesAcked')]).toEqual([true, 3]);
    expect([sender.streams, progress.streams]).toEqual([0, 0]);
  });

  test.each([
    ['FAULT-33 of what was never sent', [2, 2, 21, 0], 'an ack of 21, sent is 20'],
    ['FAULT-33 of the highest number there is', [2, 2, 2 ** 53 - 1, 0], 'sent is 20'],
    ['FAULT-33 that goes back', [2, 2, 9, 0], 'an ack of 9 behind 10'],
  ])('%s: those before it count, and are told; it and the rest do not', (_, bad, why) => {
    expect(() => take([1, 2, 20, 20], bad, [3, 2, 20, 20])).toThrow(why);
    expect([1, 2, 3].map(stands)).toEqual([
      [20, 20, 20, 20],
      [10, 10, 10, 5],
      [10, 10, 10, 5],
    ]);
    expect([moves, counted('entriesAcked'), counted('batchesAcked')]).toEqual([1, 10, 1]);
    expect(() => take(bad)).toThrow(why);
    expect(moves).toBe(1);
    // What was in flight behind it has failed.
    sender.step({ kind: 'lost', reason: why, code: 'ProtocolViolation', isFatal: false }, 1, 0);
    expect([counted('batchesAcked'), counted('batchesFailed')]).toEqual([1, 2]);
  });

  test('of 100,000 spaces, near the highest sequence there is', () => {
    const high = 2 ** 53 - 1_000;
    const slots = Array.from({ length: SPACES - 10 }, (_, n) => n + 10);
    for (const slot of slots) join(slot, 2, high);
    send(high + 7, slots);
    take(...slots.map((slot) => [slot, 2, high + 7, high + 7]));
    expect([moves, counted('entriesAcked')]).toEqual([1, 7 * slots.length]);
    expect(slots.every((slot) => progress.flushed(slot) === high + 7)).toBe(true);
    expect(slots.every((slot) => progress.applied(slot) === high + 7)).toBe(true);
  });
});

describe('a frame of acks', () => {
  const body = (write: (w: ByteWriter) => void): Uint8Array => {
    const w = new ByteWriter();
    write(w.u64(77));
    return w.bytes();
  };

  test('holds whole rows alone, of numbers that there are', () => {
    const row = (w: ByteWriter): ByteWriter => w.u32(1).u32(2).u64(3).u64(4);
    expect(decodeFrame(FRAME_KINDS.acks, body(row))).toEqual({
      ...{ kind: 'acks', timestampMs: 77, rows: Float64Array.of(1, 2, 3, 4) },
    });
    expect(
      decodeFrame(
        FRAME_KINDS.acks,
        body(() => undefined),
      ),
    ).toMatchObject({
      rows: new Float64Array(0),
    });
    for (let bytes = 1; bytes < 24; bytes++) {
      const short = body((w) => row(row(w)).raw(new Uint8Array(bytes)));
      expect(() => decodeFrame(FRAME_KINDS.acks, short)).toThrow('ProtocolViolation');
    }
    for (let bytes = 0; bytes < 8; bytes++) {
      const none = new Uint8Array(bytes);
      expect(() => decodeFrame(FRAME_KINDS.acks, none)).toThrow('ProtocolViolation');
    }
    const high = Uint8Array.of(0, 0, 0, 0, 0, 0, 32, 0);
    const both = [body((w) => w.u32(1).u32(2).raw(high).u64(4))];
    both.push(body((w) => w.u32(1).u32(2).u64(3).raw(high)));
    for (const one of both) expect(() => decodeFrame(FRAME_KINDS.acks, one)).toThrow('too large');
  });

  test('100,000 rows go out in frames, each row once, whatever its numbers', () => {
    const rows = new Float64Array(4 * SPACES).map((_, n) =>
      n % 4 < 2 ? 2 ** 32 - 1 - n : 2 ** 53 - 1 - n,
    );
    const found = acksInFrames(rows).flatMap((part) => {
      const bytes = encodeFrame({ kind: 'acks', timestampMs: 77, rows: part });
      const frame = decodeFrame(
        FRAME_KINDS.acks,
        bytes.subarray(bytes.length - 8 - 6 * part.length),
      );
      return frame.kind === 'acks' ? [...frame.rows] : [];
    });
    expect(found).toEqual([...rows]);
  });
});
