/** PostgreSQL: a primary and two streaming standbys, both synchronous, up to their flush. */
import fs from 'node:fs';
import path from 'node:path';
import { freePort } from '../../test/support/etcd.js';
import { type Cluster, foldersOf, type Peer } from './peer.js';
import { finish, Server, versionOf } from './servers.js';

const USER = 'postgres';

const PRIMARY = `
shared_buffers = 512MB
wal_buffers = 64MB
max_wal_size = 16GB
min_wal_size = 2GB
checkpoint_timeout = 1h
autovacuum = off
wal_level = replica
synchronous_commit = on
synchronous_standby_names = '2 (r1, r2)'
max_wal_senders = 6
listen_addresses = '127.0.0.1'
unix_socket_directories = ''
logging_collector = off
`;

export const postgres: Peer = {
  name: 'PostgreSQL',
  client: 'postgres',
  promise: 'fdatasync on all three (synchronous_commit = on, two standbys)',
  ways: [
    { what: 'COPY of 1,000 rows', how: 'copy', batch: 1_000, inFlight: 4 },
    { what: 'COPY of 1,000 rows, with a key', how: 'copy keyed', batch: 1_000, inFlight: 4 },
    { what: 'INSERT of 100 rows, prepared', how: 'insert', batch: 100, inFlight: 8 },
  ],
  version: () => (programs() ? versionOf([path.join(programs()!, 'postgres')]) : undefined),
  howToHaveIt: 'apt-get install postgresql',
  start,
};

/** Where Debian keeps them: the newest version. */
function programs(): string | undefined {
  const root = '/usr/lib/postgresql';
  if (!fs.existsSync(root)) return undefined;
  const versions = fs.readdirSync(root).sort((a, b) => Number(b) - Number(a));
  const folders = versions.map((version) => path.join(root, version, 'bin'));
  return folders.find((folder) => fs.existsSync(path.join(folder, 'initdb')));
}

/** PostgreSQL does not run as root. */
function identity(): { uid?: number; gid?: number } {
  if (process.getuid?.() !== 0) return {};
  const line = fs.readFileSync('/etc/passwd', 'utf8').match(/^postgres:[^:]*:(\d+):(\d+):/m);
  if (!line) throw new Error('no user named postgres');
  return { uid: Number(line[1]), gid: Number(line[2]) };
}

async function start(root: string): Promise<Cluster> {
  const folders = foldersOf(root);
  const who = identity();
  const at = (name: string): string => path.join(programs()!, name);
  for (const folder of folders) {
    if (who.uid !== undefined) fs.chownSync(folder, who.uid, who.gid!);
    fs.chmodSync(folder, 0o700);
  }
  const ports = [await freePort(), await freePort(), await freePort()] as const;
  const options = { ...who, cwd: '/' };
  const initdb = ['-D', folders[0], '-U', USER, '-A', 'trust', '-N', '--wal-segsize=64'];
  finish(at('initdb'), initdb, options);
  fs.appendFileSync(path.join(folders[0], 'postgresql.conf'), PRIMARY);
  const servers: Server[] = [];
  const sql = (port: number, text: string): string => {
    const args = ['-h', '127.0.0.1', '-p', String(port), '-U', USER, '-Atqc', text];
    return finish(at('psql'), args, options).trim();
  };
  for (const [n, folder] of folders.entries()) {
    const port = ports[n]!;
    if (n > 0) {
      const source = `host=127.0.0.1 port=${ports[0]} user=${USER} application_name=r${n}`;
      const args = ['-d', source, '-D', folder, '-R', '-X', 'stream', '-c', 'fast', '-N'];
      finish(at('pg_basebackup'), args, options);
    }
    const server = new Server(at('postgres'), ['-D', folder, '-p', String(port)], options);
    servers.push(server);
    await server.until(async () => sql(port, 'SELECT 1'));
  }
  await servers[0]!.until(async () => {
    const count = "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'";
    if (sql(ports[0], count) !== '2') throw new Error('the standbys do not stream');
  });
  sql(ports[0], 'CREATE TABLE log (payload bytea NOT NULL)');
  // By which one can read from a place on, as from a log.
  const key = 'sequence bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY';
  sql(ports[0], `CREATE TABLE keyed (${key}, payload bytea NOT NULL)`);
  // Its log writes into files that were written before, as ours does.
  const rows = "SELECT decode(repeat('00', 256), 'hex') FROM generate_series(1, 1500000)";
  sql(ports[0], `INSERT INTO log ${rows}`);
  sql(ports[0], 'TRUNCATE log');
  for (const port of ports) sql(port, 'CHECKPOINT');
  return {
    at: { port: ports[0] },
    pids: servers.map(({ pid }) => pid),
    // The standbys first: an immediate end waits for nobody.
    stop: async () => {
      for (const server of servers.reverse()) await server.stop('SIGQUIT');
    },
  };
}
