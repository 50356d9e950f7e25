/** Records that are to be written while etcd takes none. */
import { expect, test } from 'vitest';
import { EtcdPlacing } from '#src/main/lead/etcd/placing.js';
import { failure } from '#src/shared/errors.js';

test('what is refused at once is not tried again at once', async () => {
  const row = { name: 's', nodeIds: ['a'], epoch: 1, leader: undefined, released: false };
  const known = { id: '1f', row, revision: 1 };
  let puts = 0;
  const placing: EtcdPlacing = new EtcdPlacing('a', 2, {} as never, {
    put: async () => {
      // At last it is taken: endless microtasks would let no test end.
      if (++puts < 100_000) throw failure('CoordinatorUnavailable', 'no lease');
      return true;
    },
    written: () => void (puts < 100_000 && placing.writeSoon(known, row)),
  });
  placing.writeSoon(known, row);
  for (let n = 0; n < 3; n++) await new Promise((resolve) => setImmediate(resolve));
  expect(puts).toBe(1);
  // It is tried with the next comparison.
  placing.writeSoon(known, row);
  expect(puts).toBe(2);
});
