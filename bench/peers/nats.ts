/** NATS JetStream: a stream in files, on three servers. */
import { freePort } from '../../test/support/etcd.js';
import { type Cluster, foldersOf, type Peer } from './peer.js';
import { knock, Server, versionOf } from './servers.js';

export const nats: Peer = {
  name: 'NATS JetStream R3',
  client: 'nats',
  promise: 'a majority has written it; no fsync (every 2 minutes; `always` from 2.10 on)',
  ways: [{ what: 'publish, 4,000 in flight', batch: 1_000, inFlight: 4 }],
  version: () => versionOf(['nats-server', '/usr/sbin/nats-server']),
  howToHaveIt: 'apt-get install nats-server',
  start,
};

async function start(root: string): Promise<Cluster> {
  const folders = foldersOf(root);
  const ports = [await freePort(), await freePort(), await freePort()];
  const clusterPorts = [await freePort(), await freePort(), await freePort()];
  const routes = clusterPorts.map((port) => `nats://127.0.0.1:${port}`).join(',');
  const servers = folders.map(
    (folder, n) =>
      new Server('/usr/sbin/nats-server', [
        ...['-n', `n${n}`, '-a', '127.0.0.1', '-p', String(ports[n]), '-js', '-sd', folder],
        ...['--cluster_name', 'c', '--cluster', `nats://127.0.0.1:${clusterPorts[n]}`],
        ...['--routes', routes],
      ]),
  );
  for (const [n, server] of servers.entries()) await server.until(() => knock(ports[n]!));
  return {
    at: { ports },
    pids: servers.map(({ pid }) => pid),
    stop: async () => void (await Promise.all(servers.map((server) => server.stop()))),
  };
}
