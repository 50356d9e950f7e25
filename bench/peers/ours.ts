/** A node of ours behind a socket, and behind HTTP: what a server made of it would be. */
import fs from 'node:fs';
import path from 'node:path';
import { DataDirs } from '../data-dir.js';
import { Child } from '../processes.js';
import type { Cluster, Peer } from './peer.js';

export const ours: Peer = {
  name: 'engram-wal',
  client: 'ours',
  promise: 'fdatasync on all three',
  ways: [
    { what: 'over a socket, batches of 1,000', how: 'socket', batch: 1_000, inFlight: 16 },
    { what: 'over a socket, batches of 100', how: 'socket', batch: 100, inFlight: 64 },
    { what: 'over HTTP, batches of 100', how: 'http', batch: 100, inFlight: 64 },
  ],
  version: () => {
    const file = path.join(import.meta.dirname, '../../package.json');
    return (JSON.parse(fs.readFileSync(file, 'utf8')) as { version: string }).version;
  },
  howToHaveIt: '',
  start,
};

/** More than any run over a socket writes. */
const WARM_BYTES = 512 * 1024 ** 2;

/** Into blocks that were written before, as in process. */
async function start(): Promise<Cluster> {
  const dirs = new DataDirs();
  const options = dirs.prepare(3, 'warm', WARM_BYTES).map((dataDir, n) => ({
    dataDir,
    nodeId: `n${n}`,
    clusterId: 'bench',
  }));
  const children = options.slice(1).map((one) => new Child('replica', one, {}));
  const heard = await Promise.all(children.map((child) => child.next('listening')));
  const replicas = heard.map(({ port }, i) => ({ nodeId: `n${i + 1}`, host: '127.0.0.1', port }));
  const node = { ...options[0], replicas };
  const primary = new Child('server', { node }, {});
  children.push(primary);
  const { port, httpPort } = await primary.next('listening');
  return {
    at: { port, httpPort },
    pids: children.map(({ pid }) => pid),
    stop: async () => {
      for (const child of children) child.kill();
      await Promise.all(children.map((child) => child.exited));
      dirs.remove();
    },
  };
}
