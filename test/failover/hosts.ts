/**
 * Hosts for three nodes and an etcd. Where it is permitted each is a network namespace of its
 * own, all joined by a bridge, and to be cut off is to have one's link set down: nothing is mocked.
 * Where it is not, all are on loopback, with a proxy before each node and one before etcd for each
 * node; to be cut off is then to have both black-holed (what a node dials itself still leaves it).
 */
import { execFileSync, spawnSync } from 'node:child_process';
import { type EtcdPlace, freePort } from '../support/etcd.js';
import { mayMakeNamespaces, NEEDS, requireHere } from '../support/needs.js';
import { TcpProxy } from '../support/tcp-proxy.js';

export interface Host {
  /** In front of a command: runs it there. */
  readonly inside: readonly string[];
  readonly listen: { host: string; port: number };
  /** Where the others dial it, if not there. */
  readonly advertise: { host: string; port: number } | undefined;
  /** Its way to etcd. */
  readonly endpoint: string;
}

export interface Hosts {
  readonly kind: 'namespaces' | 'loopback';
  readonly etcd: EtcdPlace;
  /** By node, from 0. */
  readonly nodes: readonly Host[];
  /** Where an observer runs that sees etcd and all nodes. */
  readonly observer: readonly string[];
  cut(node: number): void;
  heal(node: number): void;
  /** Cuts a node off from etcd alone. */
  cutEtcd(node: number): void;
  healEtcd(node: number): void;
  close(): Promise<void>;
}

const NODE_PORT = 7_400;
const CLIENT_PORT = 2_379;
const PEER_PORT = 2_380;

function ip(...args: string[]): void {
  execFileSync('ip', args, { stdio: ['ignore', 'ignore', 'pipe'] });
}

let made = 0;

/** @param count of nodes. Throws where CI=true and there are no namespaces, unless told to. */
export async function makeHosts(count: number): Promise<Hosts> {
  if (process.env.CI && process.env.FAILOVER_HOSTS !== 'loopback') requireHere(NEEDS.namespaces);
  return mayMakeNamespaces() ? makeNamespaces(count) : await makeProxies(count);
}

function makeNamespaces(count: number): Hosts {
  const id = `ew${process.pid}x${made++}`;
  const hub = `${id}h`;
  const names = Array.from({ length: count }, (_, n) => `${id}n${n}`);
  const etcdName = `${id}e`;
  const all = [hub, ...names, etcdName];
  const address = (index: number): string => `10.213.0.${index + 1}`;
  const inside = (name: string): string[] => ['ip', 'netns', 'exec', name];
  const close = (): void => {
    for (const name of all) spawnSync('ip', ['netns', 'del', name], { stdio: 'ignore' });
  };
  try {
    for (const name of all) {
      ip('netns', 'add', name);
      ip('-n', name, 'link', 'set', 'lo', 'up');
    }
    ip('-n', hub, 'link', 'add', 'br0', 'type', 'bridge');
    ip('-n', hub, 'addr', 'add', '10.213.0.254/24', 'dev', 'br0');
    ip('-n', hub, 'link', 'set', 'br0', 'up');
    for (const [index, name] of all.slice(1).entries()) {
      const pair = ['type', 'veth', 'peer', 'name', `p${index}`, 'netns', hub];
      ip('link', 'add', 'eth0', 'netns', name, ...pair);
      ip('-n', hub, 'link', 'set', `p${index}`, 'master', 'br0', 'up');
      ip('-n', name, 'addr', 'add', `${address(index)}/24`, 'dev', 'eth0');
      ip('-n', name, 'link', 'set', 'eth0', 'up');
    }
  } catch (error) {
    close();
    throw error;
  }
  const etcdHost = address(count);
  const endpoint = `http://${etcdHost}:${CLIENT_PORT}`;
  const route = (node: number, action: 'add' | 'del'): void => {
    ip('-n', names[node]!, 'route', action, 'blackhole', `${etcdHost}/32`);
  };
  return {
    kind: 'namespaces',
    etcd: { host: etcdHost, port: CLIENT_PORT, peerPort: PEER_PORT, inside: inside(etcdName) },
    nodes: names.map((name, index) => ({
      inside: inside(name),
      listen: { host: address(index), port: NODE_PORT },
      advertise: undefined,
      endpoint,
    })),
    observer: inside(hub),
    cut: (node) => ip('-n', hub, 'link', 'set', `p${node}`, 'down'),
    heal: (node) => ip('-n', hub, 'link', 'set', `p${node}`, 'up'),
    cutEtcd: (node) => route(node, 'add'),
    healEtcd: (node) => route(node, 'del'),
    close: () => Promise.resolve(close()),
  };
}

async function makeProxies(count: number): Promise<Hosts> {
  const host = '127.0.0.1';
  const etcd = { host, port: await freePort(), peerPort: await freePort() };
  const nodes: Host[] = [];
  const ways: { toNode: TcpProxy; toEtcd: TcpProxy }[] = [];
  for (let n = 0; n < count; n++) {
    const port = await freePort();
    const toNode = new TcpProxy(port);
    const toEtcd = new TcpProxy(etcd.port);
    ways.push({ toNode, toEtcd });
    const advertise = { host, port: await toNode.listen() };
    const endpoint = `http://${host}:${await toEtcd.listen()}`;
    nodes.push({ inside: [], listen: { host, port }, advertise, endpoint });
  }
  const set = (node: number, isCut: boolean): void => {
    ways[node]!.toNode.blackHole(isCut);
    ways[node]!.toEtcd.blackHole(isCut);
  };
  return {
    kind: 'loopback',
    etcd,
    nodes,
    observer: [],
    cut: (node) => set(node, true),
    heal: (node) => set(node, false),
    cutEtcd: (node) => ways[node]!.toEtcd.blackHole(true),
    healEtcd: (node) => ways[node]!.toEtcd.blackHole(false),
    close: async () => {
      await Promise.all(ways.flatMap((w) => [w.toNode.close(), w.toEtcd.close()]));
    },
  };
}
