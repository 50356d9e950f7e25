/** What a node says of itself in etcd, while etcd does not answer. */
import { expect, test } from 'vitest';
import { EtcdOwnRow } from '#src/main/lead/etcd/own-row.js';
import { encodeNodeRow } from '#src/shared/lead/placement.js';
import { until } from '../../../support/cluster.js';

test('of two changes at once that are not answered neither is made later', async () => {
  const address = { host: 'host', port: 1 };
  const own = { nodeId: 'a', session: 'lease', place: 'place', isDrained: false };
  const value = encodeNodeRow({ ...own, ...address });
  const unanswered: (() => void)[] = [];
  const session = {
    view: new Map([['key', { value }]]),
    write: () => new Promise((_, reject) => unanswered.push(() => reject(new Error('silent')))),
  };
  const records = { nodeKey: () => 'key' };
  const row = new EtcdOwnRow(own.nodeId, own.place, records as never, session as never);
  expect(row.isShown(own.session, address)).toBe(true);
  const refused = [true, false].map((isDrained) =>
    row.drain(isDrained, own.session, address).catch((error) => error.message),
  );
  for (let n = 0; n < 2; n++) {
    await until('etcd is asked', () => unanswered.length > n);
    unanswered[n]!();
  }
  expect(await Promise.all(refused)).toEqual(['silent', 'silent']);
  expect(row.isShown(own.session, address)).toBe(true);
});
