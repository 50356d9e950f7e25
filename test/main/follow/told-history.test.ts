/** Epochs that a primary tells before its verdicts, of many spaces on one connection. */
import { expect, test } from 'vitest';
import { ToldHistory } from '#src/main/follow/told-history.js';
import { HISTORY_MAX } from '#src/shared/limits.js';
import type { HistoryRow } from '#src/shared/wire/role-frames.js';

const PRIMARY = '01'.repeat(16);

function row(handle: number, epoch: number): HistoryRow {
  const own = { primaryNodeId: PRIMARY, directoryId: undefined };
  return { handle, epoch, startSequence: epoch, ...own };
}

function epochs(rows: readonly HistoryRow[]): number[] {
  return rows.map(({ epoch }) => epoch);
}

test('each space has its own, in order, whatever came between, and once', () => {
  const told = new ToldHistory();
  told.add([row(1, 1), row(2, 1), row(1, 2)]);
  told.add([row(1, 3), row(2, 4)]);
  expect(epochs(told.take(1))).toEqual([1, 2, 3]);
  expect(epochs(told.take(2))).toEqual([1, 4]);
  expect(told.take(1)).toEqual([]);
});

test('no more are kept than a history may have: those that were told of first go', () => {
  const told = new ToldHistory();
  told.add([row(1, 1), row(1, 2)]);
  told.add(Array.from({ length: HISTORY_MAX - 1 }, (_, n) => row(2, n + 1)));
  expect(epochs(told.take(1))).toEqual([2]);
  expect(told.take(2)).toHaveLength(HISTORY_MAX - 1);
  told.add(Array.from({ length: HISTORY_MAX + 3 }, (_, n) => row(3, n + 1)));
  expect(epochs(told.take(3)).slice(0, 2)).toEqual([4, 5]);
});
