import { expect, test, vi } from 'vitest';
import { INDEX_EVERY_BYTES, INDEX_GAP_BYTES } from '#src/shared/limits.js';
import { IndexRoom, SegmentIndex } from '#src/shared/log/segment-index.js';

interface Naive {
  stretches: number[];
  last: number;
}

/** The same by the words of its description, a list for each space. */
class NaiveIndex {
  readonly rows = new Map<number, Naive>();

  add(slot: number, first: number, count: number, lsn: number, bytes: number): void {
    const last = first + count - 1;
    const row = this.rows.get(slot);
    if (!row || first <= row.last) {
      this.rows.set(slot, { stretches: [first, lsn, bytes], last });
      return;
    }
    const [, begin, size] = row.stretches.slice(-3) as [number, number, number];
    const gap = lsn - begin - size;
    const joined = lsn + bytes - begin;
    const isNear = gap >= 0 && gap <= INDEX_GAP_BYTES && joined <= INDEX_EVERY_BYTES;
    if (first === row.last + 1 && isNear) row.stretches[row.stretches.length - 1] = joined;
    else row.stretches.push(first, lsn, bytes);
    row.last = last;
  }

  rewind(slot: number, first: number): void {
    const row = this.rows.get(slot);
    if (!row || row.last < first) return;
    while (row.stretches.length > 0 && row.stretches.at(-3)! >= first) row.stretches.length -= 3;
    if (row.stretches.length === 0) this.rows.delete(slot);
    row.last = first - 1;
  }
}

test('it knows what a list for each space knows, whatever comes, goes back and is void', () => {
  let state = 11;
  const chance = (most: number): number => {
    state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 0;
    return (state >>> 8) % most;
  };
  // What one leaves is the next one's, with all that stands in it.
  const room = new IndexRoom();
  for (let round = 0; round < 20; round++) {
    const [index, naive] = [new SegmentIndex(room), new NaiveIndex()];
    const spaces = 1 + chance(300);
    const next = new Map<number, number>();
    let lsn = 2 ** 36;
    for (let n = 0; n < 2_000; n++) {
      const slot = 1 + chance(spaces) * (1 + chance(2));
      if (chance(50) === 0) {
        const first = 1 + chance(next.get(slot) ?? 1);
        index.rewind(slot, first);
        naive.rewind(slot, first);
        next.set(slot, first);
      }
      const skipped = chance(40) === 0 ? 3 : 0;
      const first = Math.max(1, (next.get(slot) ?? 1) + skipped - (chance(60) === 0 ? 2 : 0));
      const [count, bytes] = [1 + chance(5), 64 * (1 + chance(400))];
      index.add(slot, first, count, lsn, bytes);
      naive.add(slot, first, count, lsn, bytes);
      next.set(slot, first + count);
      lsn += bytes + (chance(4) === 0 ? chance(3 * INDEX_GAP_BYTES) : 0);
    }
    const slots = [...naive.rows.keys()].sort((a, b) => a - b);
    expect([...index.slots]).toEqual(slots);
    expect(new Map(index.unsettled)).toEqual(naive.rows);
    const ends = (of: SegmentIndex) => slots.map((slot) => [of.first(slot), of.last(slot)]);
    const expected = slots.map((slot) => {
      const { stretches, last } = naive.rows.get(slot)!;
      return [stretches[0], last];
    });
    expect(ends(index)).toEqual(expected);
    const copy = new SegmentIndex();
    for (const [slot, { stretches, last }] of index.unsettled) copy.set(slot, stretches, last);
    expect(new Map(copy.unsettled)).toEqual(naive.rows);
    index.settle();
    expect(ends(index)).toEqual(expected);
    expect([index.first(10_000), index.last(10_000)]).toEqual([undefined, undefined]);
  }
});

test('what settles leaves its room to the next, and who goes over its spaces goes on', () => {
  const room = new IndexRoom();
  const filled = (slots: number): SegmentIndex => {
    const index = new SegmentIndex(room);
    for (let slot = 1; slot <= slots; slot++) index.add(slot, 1, 1, 320 * slot, 320);
    return index;
  };
  const index = filled(1_000);
  const slots = index.slots[Symbol.iterator]();
  expect(slots.next().value).toBe(1);
  index.settle();
  const left = room.more(100);
  expect(left.rows.length).toBe(4 * 1_024);
  room.leave(left);
  const next = filled(200);
  next.rewind(3, 1);
  expect([next.first(2), next.first(3), next.first(500)]).toEqual([1, undefined, undefined]);
  expect(room.more(100)).not.toBe(left);
  expect([...slots]).toEqual(Array.from({ length: 999 }, (_, n) => n + 2));
  expect(index.last(1_000)).toBe(1);
});

test('two leave their room in turn: the next one begins before the last one is in its file', () => {
  const room = new IndexRoom();
  const begun = (): SegmentIndex => {
    const index = new SegmentIndex(room);
    add(index, 1, 100);
    return index;
  };
  const add = (index: SegmentIndex, from: number, to: number): void => {
    for (let slot = from; slot <= to; slot++) index.add(slot, 1, 1, 320 * slot, 320);
  };
  const leaving = vi.spyOn(room, 'leave');
  for (let n = 0, before = begun(); n < 6; n++) {
    add(before, 101, 1_000);
    const index = begun();
    before.settle();
    before = index;
  }
  const left = leaving.mock.calls.map(([{ rows }]) => rows);
  expect(left.map((rows) => rows.length)).toEqual(Array(6).fill(4 * 1_024));
  expect(new Set(left).size).toBe(2);
});

test('each stretch is told in the order in which it began, and none that is void', () => {
  const index = new SegmentIndex();
  const far = 10 * INDEX_GAP_BYTES;
  for (let n = 0; n < 4; n++) {
    for (const slot of [3, 1, 2]) index.add(slot, 1 + n, 1, (3 * n + slot) * far, 320);
  }
  index.rewind(1, 3);
  // It goes back: what the space had before is void.
  index.add(2, 2, 1, 20 * far, 320);
  const told: number[][] = [];
  index.each((slot, first, lsn) => told.push([slot, first, lsn / far]));
  expect(told).toEqual([
    [3, 1, 3],
    [1, 1, 1],
    [3, 2, 6],
    [1, 2, 4],
    [3, 3, 9],
    [3, 4, 12],
    [2, 2, 20],
  ]);
});
