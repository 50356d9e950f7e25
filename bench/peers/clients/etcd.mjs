/** A transaction of so many puts, each of a key of its own, to the member that leads. */
import { Etcd3 } from 'etcd3';

export async function connect({ endpoints }, { payloads, inFlight }) {
  const client = new Etcd3({ hosts: [await leaderOf(endpoints)] });
  let next = 1;
  const values = payloads.map((payload) => Buffer.from(payload));
  return {
    append: async () => {
      const success = values.map((value) => ({
        request_put: { key: Buffer.from(`log/${String(next++).padStart(12, '0')}`), value },
      }));
      await client.kv.txn({ compare: [], success, failure: [] });
    },
    inFlight,
    close: () => client.close(),
  };
}

async function leaderOf(endpoints) {
  for (const endpoint of endpoints) {
    const client = new Etcd3({ hosts: [endpoint] });
    const { leader, header } = await client.maintenance.status();
    client.close();
    if (leader === header.member_id) return endpoint;
  }
  throw new Error('no member leads');
}
