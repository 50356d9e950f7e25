/** What a replica acknowledges of very many spaces: rows, each of one space, none of another. */
import { describe, expect, test } from 'vitest';
import { Receiver } from '#src/shared/link/receiver.js';

const SPACES = 500;

/** Followed in the epoch, at entry 10, of which 7 are applied. */
function follow(receiver: Receiver, slot: number, handle: number, epoch = 2, sequence = 10): void {
  const position = { epoch, sequence, headerCrc: 0 };
  const row = { handle, answer: 'follows', epochSeen: epoch, position, applied: 7 } as const;
  receiver.follow(slot, row, epoch);
}

function streamed(receiver: Receiver, slot: number, handle: number, epoch = 2): void {
  follow(receiver, slot, handle, epoch);
  receiver.verdict({ handle, verdict: 'continue', next: 11 });
}

function batch(startSequence: number, entryCount: number, epoch = 2) {
  return { spaceId: '0'.repeat(32), startSequence, entryCount, epoch };
}

/** A connection that follows spaces 1 to SPACES; the handle of each is 1,000 more. */
function following(): Receiver {
  const receiver = new Receiver(0, 10_000);
  for (let slot = 1; slot <= SPACES; slot++) streamed(receiver, slot, 1_000 + slot);
  return receiver;
}

const acks = (receiver: Receiver): number[] => [...receiver.takeAcks(0)];

describe('rows of acks', () => {
  test('each space that came to be due, once, in that order', () => {
    const receiver = following();
    for (const slot of [7, SPACES, 1]) receiver.flushed(slot, 10 + slot);
    receiver.applied(SPACES, 9);
    receiver.flushed(7, 20);
    const rows = [1_007, 2, 20, 7, 1_000 + SPACES, 2, 10 + SPACES, 9, 1_001, 2, 11, 7];
    expect(acks(receiver)).toEqual(rows);
    // Those are done: what comes next is told alone.
    receiver.applied(1, 8);
    expect(acks(receiver)).toEqual([1_001, 2, 11, 8]);
    expect(acks(receiver)).toEqual([]);
  });

  test('what says nothing new is due to nobody, nor is what is not followed', () => {
    const receiver = following();
    receiver.flushed(3, 10);
    receiver.flushed(3, 9);
    receiver.applied(3, 7);
    receiver.flushed(0, 99);
    receiver.flushed(SPACES + 1, 99);
    receiver.applied(1_000_000, 99);
    receiver.received(1_000_000, 99);
    expect(acks(receiver)).toEqual([]);
  });

  test('FAULT-31 what is here already is acknowledged once more', () => {
    const receiver = following();
    expect(receiver.judge(3, batch(1, 10))).toEqual({ kind: 'duplicate' });
    expect(receiver.judge(3, batch(5, 6))).toEqual({ kind: 'duplicate' });
    expect(acks(receiver)).toEqual([1_003, 2, 10, 7]);
    expect(receiver.judge(3, batch(5, 7))).toEqual({ kind: 'append', skip: 6 });
    expect(acks(receiver)).toEqual([]);
  });

  test('stand in room that is used again, and grows only for more that are due at once', () => {
    const receiver = following();
    const { buffer } = receiver.takeAcks(0);
    for (let n = 11; n < 100; n++) {
      receiver.flushed(7, n);
      receiver.applied(7, n);
      const rows = receiver.takeAcks(0);
      expect([rows.length, rows.buffer === buffer]).toEqual([4, true]);
    }
    for (let slot = 1; slot <= SPACES; slot++) receiver.flushed(slot, 200);
    const all = receiver.takeAcks(0);
    expect([all.length, all.buffer.byteLength]).toEqual([4 * SPACES, 32 * SPACES]);
    expect(receiver.takeAcks(0)).toHaveLength(0);
    receiver.flushed(7, 201);
    expect(receiver.takeAcks(0).buffer).toBe(all.buffer);
  });

  test('of very many spaces: no row is lost where there is room for more', () => {
    const receiver = new Receiver(0, 10_000);
    // As many as there is room for at first, then the next one, and one far behind.
    for (const slot of [1, 2, 63, 64, 65, 128, 50_000]) {
      streamed(receiver, slot, slot + 5);
      receiver.flushed(slot, 1_000 + slot);
    }
    const all = [1, 2, 63, 64, 65, 128, 50_000];
    expect(acks(receiver)).toEqual(all.flatMap((slot) => [slot + 5, 2, 1_000 + slot, 7]));
  });
});

describe('an entry that is taken by itself', () => {
  test('is the next one of a space as it is streamed, and nothing else', () => {
    const receiver = following();
    const most = Number.MAX_SAFE_INTEGER;
    follow(receiver, 2, 1_002, 3);
    follow(receiver, 4, 1_004, 2, most - 1);
    receiver.verdict({ handle: 1_004, verdict: 'continue', next: most });
    receiver.fence(5, 3);
    expect(receiver.takeNext(3, 2, 11)).toBe(true);
    for (const [slot, epoch, sequence] of [
      [3, 2, 11],
      [3, 2, 13],
      [3, 1, 12],
      [3, 3, 12],
      // Not streamed, too long a log, fenced, nobody's, far from any row.
      [2, 3, 11],
      [4, 2, most],
      [5, 2, 11],
      [0, 0, 1],
      [SPACES + 1, 2, 1],
      [1_000_000, 2, 1],
    ] as const) {
      expect(receiver.takeNext(slot, epoch, sequence)).toBe(false);
    }
    expect(receiver.takeNext(3, 2, 12)).toBe(true);
    expect(receiver.judge(3, batch(13, 1))).toEqual({ kind: 'append', skip: 0 });
  });
});

describe('a higher epoch that is known here', () => {
  test('FAULT-111 ends what is due in the one below it, and all that would be', () => {
    const receiver = following();
    receiver.flushed(3, 12);
    receiver.flushed(4, 12);
    expect(receiver.fence(3, 2)).toBeUndefined();
    expect(receiver.fence(3, 3)).toBe(1_003);
    expect(receiver.fence(3, 4)).toBeUndefined();
    receiver.flushed(3, 13);
    receiver.applied(3, 13);
    expect(receiver.judge(3, batch(1, 2))).toEqual({ kind: 'fenced' });
    expect(receiver.judge(3, batch(99, 2, 9))).toEqual({ kind: 'fenced' });
    expect([receiver.followedSlot(1_003), receiver.followedSlot(1_004)]).toEqual([undefined, 4]);
    expect(acks(receiver)).toEqual([1_004, 2, 12, 7]);
    expect([receiver.fence(0, 9), receiver.fence(SPACES + 1, 9)]).toEqual([undefined, undefined]);
  });

  test('is followed in its turn, from where the space stands then', () => {
    const receiver = following();
    receiver.flushed(3, 12);
    receiver.fence(3, 3);
    follow(receiver, 3, 2_003, 3, 11);
    // Due in the epoch before; until its new primary has judged it is not streamed.
    expect(acks(receiver)).toEqual([]);
    expect(() => receiver.judge(3, batch(12, 1, 3))).toThrow('ProtocolViolation');
    receiver.verdict({ handle: 2_003, verdict: 'continue', next: 12 });
    expect(acks(receiver)).toEqual([]);
    expect(receiver.judge(3, batch(12, 1, 3))).toEqual({ kind: 'append', skip: 0 });
    receiver.flushed(3, 11);
    expect(acks(receiver)).toEqual([]);
    receiver.flushed(3, 12);
    expect(acks(receiver)).toEqual([2_003, 3, 12, 7]);
    // The handle of before is nobody's.
    expect(receiver.followedSlot(1_003)).toBeUndefined();
    expect(() => receiver.verdict({ handle: 1_003, verdict: 'continue', next: 1 })).toThrow();
  });
});

describe('a space that is introduced anew', () => {
  test('goes on where it stands, in the same epoch under the same handle', () => {
    const receiver = following();
    receiver.received(3, 15);
    receiver.flushed(3, 14);
    follow(receiver, 3, 1_003);
    expect(receiver.judge(3, batch(16, 1))).toEqual({ kind: 'append', skip: 0 });
    expect(acks(receiver)).toEqual([1_003, 2, 14, 7]);
  });

  test.each([
    ['under another handle', 2_003, 2],
    ['in another epoch', 1_003, 3],
    ['where it was not streamed', 1_003, 2],
  ])('begins where it stands: %s', (what, handle, epoch) => {
    const receiver = following();
    receiver.received(3, 15);
    if (what.startsWith('where')) receiver.verdict({ handle, verdict: 'rewind', next: 9 });
    follow(receiver, 3, handle, epoch, 8);
    expect(receiver.followedSlot(handle)).toBe(3);
    if (handle !== 1_003) expect(receiver.followedSlot(1_003)).toBeUndefined();
    expect(receiver.verdict({ handle, verdict: 'continue', next: 9 })).toEqual({ slot: 3, epoch });
    expect(receiver.judge(3, batch(9, 1, epoch))).toEqual({ kind: 'append', skip: 0 });
    // Heartbeats tell of the others and of it only what has come since.
    expect(receiver.tick(1_000)).toEqual({ kind: 'heartbeat', rows: [] });
    receiver.received(3, 9);
    const rows = [{ handle, sequence: 9 }];
    expect(receiver.tick(2_000)).toEqual({ kind: 'heartbeat', rows });
    expect(receiver.tick(3_000)).toEqual({ kind: 'heartbeat', rows: [] });
  });
});
