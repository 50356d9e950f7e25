import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  comparePositions,
  divergenceOf,
  type History,
  nameOwners,
  UNKNOWN_OWNER,
} from '#src/shared/lead/epoch.js';
import { addVoided, isVoided, type Voided, validBelow } from '#src/shared/log/rewind.js';
import { SegmentIndex } from '#src/shared/log/segment-index.js';
import { applyRewind, newSpaceFacts, rewoundTold } from '#src/shared/log/space-facts.js';
import type { EpochStart, Position } from '#src/shared/position.js';

const [A, B, C] = ['a', 'b', 'c'].map((name) => name.repeat(32)) as [string, string, string];

function history(last: number, ...rows: [number, number, string][]): History {
  return {
    last,
    rows: rows.map(([epoch, startSequence, primaryNodeId]) => ({
      epoch,
      startSequence,
      primaryNodeId,
    })),
  };
}

describe('where two histories part', () => {
  test.each([
    ['a tail of the old epoch', history(10, [1, 1, A]), history(8, [1, 1, A], [2, 6, B]), 5],
    [
      'FAULT-66 A -> B -> A: not the last epoch alone',
      history(8, [1, 1, A], [2, 6, B]),
      history(14, [1, 1, A], [3, 11, A]),
      5,
    ],
    [
      'FAULT-66 both have promotions that the other one has not',
      history(30, [1, 1, A], [2, 10, B], [4, 20, C]),
      history(40, [1, 1, A], [2, 10, B], [3, 16, A], [5, 25, A]),
      15,
    ],
    [
      'the same epoch of two nodes ends before it',
      history(9, [1, 1, A], [2, 4, B]),
      history(9, [1, 1, A], [2, 4, C], [3, 8, C]),
      3,
    ],
    ['nothing in common', history(9, [1, 1, A]), history(5, [1, 1, B], [2, 4, B]), 0],
    [
      'an owner that nobody has told fits',
      history(9, [1, 1, UNKNOWN_OWNER]),
      history(9, [1, 1, A], [2, 4, B]),
      3,
    ],
  ])('%s', (_, ours, theirs, common) => {
    expect(divergenceOf(ours, theirs)).toBe(common);
  });

  test('ours is a part of theirs, or was trimmed: nobody can say', () => {
    const ours = history(10, [1, 1, A]);
    expect(divergenceOf(ours, history(20, [1, 1, A], [2, 11, B]))).toBeUndefined();
    expect(divergenceOf(history(10, [5, 4, A]), history(9, [1, 1, B]))).toBeUndefined();
  });

  test('what is kept is a prefix of both, and the longest one', () => {
    // Two nodes share some epochs, then each goes its own way.
    const way = fc.array(fc.integer({ min: 1, max: 5 }), { maxLength: 4 });
    const first = fc.array(fc.integer({ min: 1, max: 5 }), { minLength: 1, maxLength: 4 });
    fc.assert(
      fc.property(first, way, way, (shared, left, right) => {
        const grow = (lengths: number[], node: string, from: EpochStart[], first: number) => {
          const rows = [...from];
          let next = first;
          let epoch = (rows.at(-1)?.epoch ?? 0) + (node === B ? 1 : 2);
          for (const length of lengths) {
            rows.push({ epoch, startSequence: next, primaryNodeId: node });
            next += length;
            epoch += 2;
          }
          return { rows, last: next - 1 };
        };
        const root = grow(shared, A, [], 1);
        const ours = grow(left, B, root.rows, root.last + 1);
        const theirs = grow(right, C, root.rows, root.last + 1);
        const common = divergenceOf(ours, theirs);
        // The last shared epoch goes on only where no other one has begun.
        const expected = left.length === 0 ? undefined : root.last;
        expect(common).toBe(expected);
      }),
    );
  });

  test('owners are filled in from what a primary tells', () => {
    const rows = [
      { epoch: 1, startSequence: 1, primaryNodeId: UNKNOWN_OWNER },
      { epoch: 2, startSequence: 4, primaryNodeId: B },
    ];
    nameOwners(rows, history(9, [1, 1, A], [2, 4, C]).rows);
    expect(rows.map((r) => r.primaryNodeId)).toEqual([A, B]);
  });
});

describe('who may lead', () => {
  const at = (epoch: number, sequence: number): Position => ({ epoch, sequence, headerCrc: 1 });
  test('the later epoch of the last entry is farther, then the sequence', () => {
    expect(comparePositions(at(2, 5), at(1, 500))).toBeGreaterThan(0);
    expect(comparePositions(at(2, 5), at(2, 6))).toBeLessThan(0);
    expect(comparePositions(at(2, 5), at(2, 5))).toBe(0);
  });
});

describe('what a rewind makes void', () => {
  test('entries behind the new end that stand before it, and nothing else', () => {
    const moves = fc.array(fc.integer({ min: -6, max: 6 }), { maxLength: 30 });
    fc.assert(
      fc.property(moves, (steps) => {
        // A log as it is written: entries one after the other, now and then a rewind.
        const voided: Voided[] = [];
        const log: { sequence: number; lsn: number; isVoid: boolean }[] = [];
        let last = 0;
        let lsn = 0;
        for (const step of steps) {
          if (step < 0) {
            last = Math.max(0, last + step);
            addVoided(voided, lsn, last + 1);
            for (const entry of log) entry.isVoid ||= entry.sequence > last;
          }
          for (let n = 0; n < step; n++) log.push({ sequence: ++last, lsn: lsn++, isVoid: false });
        }
        for (const { sequence, lsn: at, isVoid } of log) {
          expect(isVoided(voided, sequence, at)).toBe(isVoid);
          expect(sequence < validBelow(voided, at)).toBe(!isVoid);
        }
        const valid = log.filter((e) => !e.isVoid).map((e) => e.sequence);
        expect(valid).toEqual(Array.from({ length: last }, (_, i) => i + 1));
      }),
    );
  });

  test('the facts go back, the host is told once, what it has applied goes back', () => {
    const facts = newSpaceFacts(A, 's');
    facts.position = { epoch: 2, sequence: 20, headerCrc: 3 };
    facts.history = history(20, [1, 1, A], [2, 12, B]).rows as EpochStart[];
    facts.applied = 18;
    facts.skipped = [5, 15];
    facts.checkpoint = 16;
    const position = { epoch: 1, sequence: 9, headerCrc: 4 };
    applyRewind(facts, { position, timestamp: 7n, to: 20, quarantine: 'q' }, 4_000);
    expect(facts).toMatchObject({ position, timestamp: 7n, skipped: [5], checkpoint: 10 });
    expect(facts.history).toHaveLength(1);
    expect(facts.rewinds).toEqual([{ from: 10, to: 20, quarantine: 'q' }]);
    rewoundTold(facts, 10, 20);
    expect(facts).toMatchObject({ rewinds: [], applied: 9 });
  });

  test('an index forgets what is void and finds what comes in its place', () => {
    const index = new SegmentIndex();
    index.add(1, 5, 6, 1_000, 600);
    index.rewind(1, 8);
    expect([index.first(1), index.last(1)]).toEqual([5, 7]);
    index.add(1, 8, 2, 20_000, 200);
    expect(index.find(1, 8)).toBe(20_000);
    expect(index.find(1, 7)).toBe(1_000);
    index.rewind(1, 3);
    expect(index.last(1)).toBeUndefined();
  });
});
