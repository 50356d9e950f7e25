/** What a shipper keeps of introductions, and of what was known when it asked. */
import { expect, test } from 'vitest';
import { HISTORY_MAX } from '#src/shared/limits.js';
import { allocateProgress, ReplicaProgress } from '#src/shared/memory/progress.js';
import { NO_POSITION } from '#src/shared/position.js';
import { byHistories, Introductions } from '#src/workers/ship/introductions.js';

const SPACE = {
  slot: 1,
  id: '1'.repeat(32),
  name: 's',
  epoch: 3,
  members: [],
  sets: [],
  voided: [],
};

function answer(sequence: number) {
  const position = { ...NO_POSITION, epoch: 3, sequence };
  return { handle: 1, answer: 'follows' as const, epochSeen: 3, position, applied: 0 };
}

test('FAULT-108 an answer is held against what was acknowledged when it was asked for', () => {
  const progress = new ReplicaProgress(allocateProgress(4));
  const introductions = new Introductions(progress);
  introductions.add([SPACE]);
  introductions.rowsOf([SPACE]);
  expect(introductions.answered([answer(5)])[0]!.acked).toEqual({ epoch: 0, flushed: 0 });
  progress.begin(1, 3, 5, 0);
  progress.acked(1, 8, 0);
  introductions.rowsOf([SPACE]);
  // It has looked where it stands, acknowledges more, and answers then.
  progress.acked(1, 12, 0);
  // Asked once more meanwhile: the answers come in their order.
  introductions.rowsOf([SPACE]);
  expect(introductions.answered([answer(9)])[0]!.acked).toEqual({ epoch: 3, flushed: 8 });
  expect(introductions.answered([answer(12)])[0]!.acked).toEqual({ epoch: 3, flushed: 8 });
  expect(() => introductions.answered([answer(12)])).toThrow(/nobody asked for/);
  // After another connection it is all that it has acknowledged.
  introductions.disconnected();
  introductions.rowsOf([SPACE]);
  expect(introductions.answered([answer(12)])[0]!.acked).toEqual({ epoch: 3, flushed: 12 });
});

test('what was answered counts until the space is left, or goes back', () => {
  const introductions = new Introductions(new ReplicaProgress(allocateProgress(4)));
  const isAnswered = () => introductions.answerOf(1) !== undefined;
  introductions.add([SPACE]);
  introductions.rowsOf([SPACE]);
  introductions.answered([answer(5)]);
  expect(isAnswered()).toBe(true);
  introductions.expectAgain(1);
  expect(isAnswered()).toBe(false);
  introductions.answered([answer(3)]);
  expect(isAnswered()).toBe(true);
  introductions.leave(1, false);
  expect([isAnswered(), introductions.all]).toEqual([false, [SPACE]]);
  introductions.rowsOf([SPACE]);
  introductions.answered([answer(3)]);
  introductions.leave(1, true);
  expect([isAnswered(), introductions.all]).toEqual([false, []]);
});

test('verdicts go in parts whose epochs a replica remembers, all of them, in their order', () => {
  const begin = { epoch: 1, startSequence: 1, primaryNodeId: '', directoryId: undefined };
  const rows = [1, HISTORY_MAX, 0, HISTORY_MAX - 1, 1, 1].map((epochs, slot) => {
    const history = Array(epochs).fill(begin);
    return { slot, verdict: 'continue' as const, next: 1, lsn: 0, history };
  });
  const parts = [...byHistories(rows)];
  expect(parts.map((part) => part.map(({ slot }) => slot))).toEqual([[0], [1, 2], [3, 4], [5]]);
  expect([...byHistories([])]).toEqual([]);
});
