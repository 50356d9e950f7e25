/** hypercore: a log that its writer signs, with two replicas; the writer is the client itself. */
import fs from 'node:fs';
import path from 'node:path';
import { Child } from '../processes.js';
import { type Cluster, foldersOf, type Peer } from './peer.js';

const PACKAGE = path.join(import.meta.dirname, 'node_modules/hypercore/package.json');

export const hypercore: Peer = {
  name: 'hypercore',
  client: 'hypercore',
  promise: 'written on all three, signed by its writer; no fsync on any',
  ways: [{ what: 'append of 1,000, in process', batch: 1_000, inFlight: 4 }],
  version: () => {
    if (!fs.existsSync(PACKAGE)) return undefined;
    return (JSON.parse(fs.readFileSync(PACKAGE, 'utf8')) as { version: string }).version;
  },
  howToHaveIt: 'npm install --prefix bench/peers',
  start,
};

async function start(root: string): Promise<Cluster> {
  const [own, ...others] = foldersOf(root);
  const children = others.map(
    (dataDir) => new Child('../peers/hypercore-replica', { dataDir }, {}),
  );
  const heard = await Promise.all(children.map((child) => child.next('listening')));
  const replicas = heard.map(({ port, tellPort }) => ({ port, tellPort }));
  return {
    at: { dataDir: own, replicas },
    pids: children.map(({ pid }) => pid),
    stop: async () => {
      for (const child of children) child.kill();
      await Promise.all(children.map((child) => child.exited));
    },
  };
}
