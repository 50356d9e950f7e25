/** What a shipper hands to main of its replica is what main gets. */
import { expect, test } from 'vitest';
import { POSITION_ANSWERS } from '#src/shared/lead/epoch.js';
import { packAnswered, unpackAnswered } from '#src/shared/link/answered-rows.js';

test('rows of positions come out as they went in, the largest numbers included', () => {
  const [u32, most] = [0xffff_ffff, Number.MAX_SAFE_INTEGER];
  const rows = POSITION_ANSWERS.flatMap((answer, handle) => [
    {
      ...{ handle, answer, epochSeen: 1, applied: 4 },
      position: { epoch: 2, sequence: 3, headerCrc: 5 },
      acked: { epoch: 0, flushed: 0 },
    },
    {
      ...{ handle: u32, answer, epochSeen: u32, applied: most },
      position: { epoch: u32, sequence: most, headerCrc: u32 },
      acked: { epoch: u32, flushed: most },
    },
  ]);
  expect(unpackAnswered(packAnswered(rows))).toEqual(rows);
  expect(unpackAnswered(packAnswered([]))).toEqual([]);
});
