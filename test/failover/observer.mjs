// Watches the keys of living nodes in etcd, and tells its parent when one is deleted, by the
// machine's monotonic clock. Arguments: endpoint, prefix of the keys.
import { EtcdLink } from '../../dist/main/lead/etcd/link.js';

const [endpoint, prefix] = process.argv.slice(2);
process.on('disconnect', () => process.exit(0));
const now = () => Number(process.hrtime.bigint()) / 1e6;
const link = new EtcdLink(endpoint, 5_000, {
  kept: () => undefined,
  expired: () => undefined,
  failed: (reason) => process.exit(reason ? 1 : 0),
});
const { revision } = await link.list(prefix);
await link.openWatch(prefix, revision + 1, (changes) => {
  const atMs = now();
  for (const { key, value } of changes) {
    if (value !== undefined) continue;
    const [nodeId] = key.slice(prefix.length).split('/');
    process.send({ kind: 'gone', nodeId, atMs });
  }
});
process.send({ kind: 'watching' });
