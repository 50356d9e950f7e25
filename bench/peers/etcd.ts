/** etcd, three members: made for few, small facts; here as a log, a key an entry. */
import { freePort } from '../../test/support/etcd.js';
import { type Cluster, foldersOf, type Peer } from './peer.js';
import { knock, Server, versionOf } from './servers.js';

export const etcd: Peer = {
  name: 'etcd',
  client: 'etcd',
  promise: 'fdatasync on a majority, in an order on which all agree',
  ways: [{ what: 'a transaction of 100 puts', batch: 100, inFlight: 16 }],
  version: () => versionOf(['etcd']),
  howToHaveIt: 'apt-get install etcd-server',
  start,
};

async function start(root: string): Promise<Cluster> {
  const folders = foldersOf(root);
  const ports = [await freePort(), await freePort(), await freePort()];
  const peers = [await freePort(), await freePort(), await freePort()];
  const url = (port: number): string => `http://127.0.0.1:${port}`;
  const all = peers.map((port, n) => `n${n}=${url(port)}`).join(',');
  const servers = folders.map(
    (folder, n) =>
      new Server('etcd', [
        ...['--name', `n${n}`, '--data-dir', folder, '--initial-cluster', all],
        ...['--listen-client-urls', url(ports[n]!), '--advertise-client-urls', url(ports[n]!)],
        ...['--listen-peer-urls', url(peers[n]!)],
        ...['--initial-advertise-peer-urls', url(peers[n]!)],
        ...['--quota-backend-bytes', String(8 * 1024 ** 3), '--max-txn-ops', '1000'],
        ...['--log-level', 'error'],
      ]),
  );
  for (const [n, server] of servers.entries()) {
    await server.until(async () => {
      await knock(ports[n]!);
      const health = await fetch(`${url(ports[n]!)}/health`);
      if (!health.ok) throw new Error('not healthy yet');
    });
  }
  return {
    at: { endpoints: ports.map(url) },
    pids: servers.map(({ pid }) => pid),
    stop: async () => void (await Promise.all(servers.map((server) => server.stop()))),
  };
}
