// Watches the keys of living nodes in etcd, and tells its parent when one is deleted, by the
// machine's monotonic clock. Arguments: endpoint, prefix of the keys.
import { Etcd3 } from 'etcd3';

const [endpoint, prefix] = process.argv.slice(2);
process.on('disconnect', () => process.exit(0));
const now = () => Number(process.hrtime.bigint()) / 1e6;
const client = new Etcd3({ hosts: [endpoint] });
const watcher = await client.watch().prefix(prefix).create();
watcher.on('delete', (kv) => {
  const atMs = now();
  const [nodeId] = kv.key.toString().slice(prefix.length).split('/');
  process.send({ kind: 'gone', nodeId, atMs });
});
process.send({ kind: 'watching' });
