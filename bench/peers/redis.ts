/** Redis Streams: AOF with an fsync before each answer, on all three; WAIT for both replicas. */
import { freePort } from '../../test/support/etcd.js';
import { type Cluster, foldersOf, type Peer } from './peer.js';
import { knock, Server, versionOf } from './servers.js';

export const redis: Peer = {
  name: 'Redis Streams',
  client: 'redis',
  promise: 'fsync here; WAIT: both replicas have taken it, with AOF `always` as well',
  // It reads 16 KiB of each connection before it fsyncs: many connections make large groups.
  ways: [{ what: 'XADD, pipelines of 100, WAIT 2', batch: 100, inFlight: 64 }],
  version: () => versionOf(['redis-server']),
  howToHaveIt: 'apt-get install redis-server',
  start,
};

async function start(root: string): Promise<Cluster> {
  const folders = foldersOf(root);
  const ports = [await freePort(), await freePort(), await freePort()] as const;
  const servers: Server[] = [];
  for (const [n, folder] of folders.entries()) {
    const follow = n === 0 ? [] : ['--replicaof', `127.0.0.1 ${ports[0]}`];
    const args = [
      ...['--port', String(ports[n]), '--bind', '127.0.0.1', '--dir', folder, '--save', ''],
      ...['--appendonly', 'yes', '--appendfsync', 'always', '--auto-aof-rewrite-percentage', '0'],
      ...['--repl-diskless-sync', 'yes', '--repl-diskless-sync-delay', '0', '--daemonize', 'no'],
      ...['--repl-backlog-size', '64mb', '--client-output-buffer-limit', 'replica 0 0 0'],
      ...follow,
    ];
    const server = new Server('redis-server', args);
    servers.push(server);
    await server.until(() => knock(ports[n]!));
  }
  return {
    at: { port: ports[0] },
    pids: servers.map(({ pid }) => pid),
    stop: async () => void (await Promise.all(servers.map((server) => server.stop()))),
  };
}
