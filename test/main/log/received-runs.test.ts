import { expect, test } from 'vitest';
import { ReceivedRuns } from '#src/main/log/write/received-runs.js';

test('rows are what was added, and none of what was there before they were cleared', () => {
  const runs = new ReceivedRuns();
  const rows = () =>
    Array.from({ length: runs.length }, (_, i) => {
      return [runs.slot(i), runs.first(i), runs.count(i), runs.bytesOf(i)];
    });
  runs.add(1, 2, 3, 400, true);
  runs.add(5, 2 ** 40, 1, 64, false);
  expect([rows(), runs.bytes, runs.holdsMembers]).toEqual([
    [
      [1, 2, 3, 400],
      [5, 2 ** 40, 1, 64],
    ],
    464,
    true,
  ]);
  runs.clear();
  expect([rows(), runs.bytes, runs.holdsMembers]).toEqual([[], 0, false]);
  runs.add(7, 1, 1, 70, false);
  expect([rows(), runs.bytes, runs.holdsMembers]).toEqual([[[7, 1, 1, 70]], 70, false]);
});
