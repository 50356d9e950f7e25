/** What main makes of a replica's positions is what its shipper gets. */
import { expect, test } from 'vitest';
import { VERDICTS } from '#src/shared/lead/epoch.js';
import { packVerdicts, unpackVerdicts } from '#src/shared/link/verdict-rows.js';

test('verdicts come out as they went in, the largest numbers and epochs included', () => {
  const [u32, most] = [0xffff_ffff, Number.MAX_SAFE_INTEGER];
  const history = [{ epoch: u32, startSequence: most, primaryNodeId: 'ab'.repeat(16) }];
  const answers = VERDICTS.flatMap((verdict, slot) => [
    { slot, verdict, next: 3, lsn: 4, history: [] },
    { slot: u32, verdict, next: most, lsn: most, history },
  ]);
  const told = structuredClone(packVerdicts(answers));
  expect(unpackVerdicts(told)).toEqual(answers);
  expect(unpackVerdicts(packVerdicts([]))).toEqual([]);
});
