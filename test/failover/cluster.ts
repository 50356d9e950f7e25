/**
 * Three real nodes in processes of their own, on hosts that can be cut off, with a real etcd; and
 * what they have told: every acknowledgement, role and event, in the order in which it came.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { EtcdServer } from '../support/etcd.js';
import { type Hosts, makeHosts } from './hosts.js';

const NODE = path.join(import.meta.dirname, 'failover-node.mjs');
const OBSERVER = path.join(import.meta.dirname, 'observer.mjs');
const IDS = ['a', 'b', 'c'];
const KEY = 'the key of a cluster under test';

/** Space, epoch, sequence, payload, replicas asked for, sent and acknowledged (monotonic ms). */
export type Ack = [string, number, number, string, number, number, number];

export interface SpaceFacts {
  readonly name: string;
  readonly role: 'primary' | 'replica';
  readonly epoch: number;
  readonly primary: string;
  readonly durable: number;
  readonly applied: number;
  readonly replicas: readonly [string, string, number][];
  readonly members: {
    readonly counting: readonly { nodeId: string; directoryId: string }[];
    readonly pending: readonly unknown[] | undefined;
    readonly learners: readonly string[];
  };
}

export interface NodeEvent {
  readonly name: string;
  readonly atMs: number;
  readonly event: Record<string, unknown>;
}

export interface RoleTold {
  readonly atMs: number;
  readonly space: string;
  readonly role: 'primary' | 'replica';
  readonly epoch: number;
  readonly primaryId: string;
}

export interface Answer {
  readonly error?: { code: string; message: string; details: Record<string, unknown> };
  readonly status?: SpaceFacts[];
  readonly spaces?: Record<string, string[]>;
  readonly report?: Record<string, unknown>;
  readonly begunMs?: number;
  readonly endedMs?: number;
  readonly appended?: { sequence: number; epoch: number };
  readonly located?: { nodeId: string; address?: { host: string; port: number } };
}

/** The machine's monotonic clock, as the nodes read it. */
export function nowMs(): number {
  return Number(process.hrtime.bigint()) / 1e6;
}

export class NodeProcess {
  readonly nodeId: string;
  readonly dataDir: string;
  readonly events: NodeEvent[] = [];
  readonly roles: RoleTold[] = [];
  readonly #command: readonly string[];
  readonly #options: Record<string, unknown>;
  readonly #acked: (node: NodeProcess, ack: Ack) => void;
  #child: ChildProcess | undefined;
  #asked = new Map<number, (answer: Answer) => void>();
  #count = 0;
  errors = '';

  constructor(
    nodeId: string,
    inside: readonly string[],
    options: Record<string, unknown> & { dataDir: string },
    acked: (node: NodeProcess, ack: Ack) => void,
  ) {
    this.nodeId = nodeId;
    this.dataDir = options.dataDir;
    this.#command = [...inside, process.execPath, NODE];
    this.#options = options;
    this.#acked = acked;
  }

  /** By its own last word. */
  get hasLease(): boolean {
    return this.events.findLast((e) => e.name === 'lease')?.event.held === true;
  }

  get isRunning(): boolean {
    return this.#child !== undefined;
  }

  /** Resolves when the node is open. */
  async start(): Promise<void> {
    const [command, ...args] = [...this.#command, JSON.stringify(this.#options)];
    const stdio = ['ignore', 'ignore', 'pipe', 'ipc'] as const;
    const child = spawn(command!, args, { stdio: [...stdio] });
    this.#child = child;
    child.stderr!.on('data', (chunk) => {
      this.errors = (this.errors + chunk).slice(-20_000);
    });
    await new Promise<void>((resolve, reject) => {
      child.on('message', (message: Record<string, unknown>) => {
        if (message.kind === 'open') resolve();
        else this.#heard(message);
      });
      child.on('exit', (code, signal) => {
        if (this.#child === child) this.#child = undefined;
        for (const answer of this.#asked.values()) {
          answer({ error: { code: 'Gone', message: 'the process is gone', details: {} } });
        }
        this.#asked.clear();
        reject(new Error(`${this.nodeId} ended (${code ?? signal}): ${this.errors.slice(-2_000)}`));
      });
    });
  }

  #heard(message: Record<string, unknown>): void {
    switch (message.kind) {
      case 'acks':
        for (const ack of message.acks as Ack[]) this.#acked(this, ack);
        return;
      case 'role':
        this.roles.push(message as unknown as RoleTold);
        return;
      case 'event':
        this.events.push(message as unknown as NodeEvent);
        return;
      case 'answer':
        this.#asked.get(message.id as number)?.(message as Answer);
        this.#asked.delete(message.id as number);
        return;
    }
  }

  ask(message: Record<string, unknown>): Promise<Answer> {
    const child = this.#child;
    if (!child) {
      return Promise.resolve({ error: { code: 'Gone', message: 'it does not run', details: {} } });
    }
    const id = ++this.#count;
    return new Promise((resolve) => {
      this.#asked.set(id, resolve);
      child.send({ id, ...message }, (error) => {
        if (!error) return;
        this.#asked.delete(id);
        resolve({ error: { code: 'Gone', message: error.message, details: {} } });
      });
    });
  }

  async status(): Promise<SpaceFacts[]> {
    return (await this.ask({ status: true })).status ?? [];
  }

  signal(signal: NodeJS.Signals): void {
    this.#child?.kill(signal);
  }

  /** Sent the signal, and gone when it resolves. */
  async end(signal: NodeJS.Signals): Promise<void> {
    const child = this.#child;
    if (!child) return;
    const gone = new Promise<void>((resolve) => child.once('exit', () => resolve()));
    child.kill(signal);
    await gone;
    this.#child = undefined;
  }
}

export class Cluster {
  readonly hosts: Hosts;
  readonly etcd: EtcdServer;
  /** By host; one may be another node later. */
  readonly nodes: NodeProcess[];
  /** Those that were removed: what they have told holds. */
  readonly removed: NodeProcess[] = [];
  readonly ttlMs: number;
  /** By node: directories that are used no more. */
  readonly #left = new Map<string, string[]>();
  readonly #make: (index: number, nodeId: string) => NodeProcess;
  /** Told as they come. */
  onAck: (node: NodeProcess, ack: Ack) => void = () => undefined;
  /** When the key of a node was deleted in etcd, as a watch of our own has heard. */
  onGone: (nodeId: string, atMs: number) => void = () => undefined;
  #observer: ChildProcess | undefined;

  private constructor(
    hosts: Hosts,
    etcd: EtcdServer,
    { folder, ttlMs, perSecond }: { folder: string; ttlMs: number; perSecond: number },
  ) {
    this.hosts = hosts;
    this.etcd = etcd;
    this.ttlMs = ttlMs;
    const key = hosts.kind === 'namespaces' ? KEY : undefined;
    this.#make = (index, nodeId) => {
      const { inside, listen, advertise, endpoint } = hosts.nodes[index]!;
      const dataDir = path.join(folder, nodeId);
      const options = { nodeId, dataDir, listen, advertise, endpoint, ttlMs, perSecond, key };
      return new NodeProcess(nodeId, inside, options, (node, ack) => this.onAck(node, ack));
    };
    this.nodes = IDS.map((nodeId, index) => this.#make(index, nodeId));
  }

  static async start(
    folder: string,
    { ttlMs = 2_000, perSecond = 50 }: { ttlMs?: number; perSecond?: number } = {},
  ): Promise<Cluster> {
    const hosts = await makeHosts(IDS.length);
    let etcd: EtcdServer | undefined;
    try {
      etcd = await EtcdServer.start(folder, hosts.etcd);
      const cluster = new Cluster(hosts, etcd, { folder, ttlMs, perSecond });
      await Promise.all(cluster.nodes.map((node) => node.start()));
      return cluster;
    } catch (error) {
      await etcd?.kill();
      await hosts.close();
      throw error;
    }
  }

  /** Where every space of `names` is led; fewer than `names` while some are not. */
  async leaders(names: readonly string[]): Promise<Map<string, string>> {
    const found = new Map<string, string>();
    const all = await Promise.all(this.nodes.map((node) => node.status()));
    for (const [n, spaces] of all.entries()) {
      for (const { name, role } of spaces) {
        if (role === 'primary' && names.includes(name)) found.set(name, this.nodes[n]!.nodeId);
      }
    }
    return found;
  }

  async observe(): Promise<void> {
    const [command, ...args] = [...this.hosts.observer, process.execPath, OBSERVER];
    const { host, port } = this.etcd.place;
    const prefix = 'test/failover/nodes/';
    const child = spawn(command!, [...args, `http://${host}:${port}`, prefix], {
      stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
    });
    this.#observer = child;
    await new Promise<void>((resolve, reject) => {
      child.on('message', (message: { kind: string; nodeId: string; atMs: number }) => {
        if (message.kind === 'watching') resolve();
        else this.onGone(message.nodeId, message.atMs);
      });
      child.on('exit', () => reject(new Error('the observer has ended')));
    });
  }

  /** Its disk is lost: it has an empty directory when it starts again. It does not run. */
  wipe(index: number): void {
    const { nodeId, dataDir } = this.nodes[index]!;
    const left = this.#left.get(nodeId) ?? [];
    const kept = `${dataDir}.left-${left.length}`;
    fs.renameSync(dataDir, kept);
    this.#left.set(nodeId, [...left, kept]);
  }

  /** Another node takes the host over; it does not run yet. */
  swap(index: number): NodeProcess {
    const before = this.nodes[index]!;
    this.#left.set(before.nodeId, [...(this.#left.get(before.nodeId) ?? []), before.dataDir]);
    this.removed.push(before);
    const after = this.#make(index, `${IDS[index]}${this.removed.length}`);
    this.nodes[index] = after;
    return after;
  }

  /** Whether a node has a payload in quarantine, or on a disk that it has lost. */
  isKept(nodeId: string, payload: string): boolean {
    const node = this.nodes.find((n) => n.nodeId === nodeId);
    const dirs = node ? [path.join(node.dataDir, 'quarantine')] : [];
    for (const dir of this.#left.get(nodeId) ?? []) dirs.push(dir, path.join(dir, 'quarantine'));
    return dirs.filter((dir) => fs.existsSync(dir)).some((dir) => holds(dir, payload));
  }

  async close(): Promise<void> {
    this.#observer?.kill('SIGKILL');
    await Promise.all(this.nodes.map((node) => node.end('SIGKILL')));
    await this.etcd.kill();
    await this.hosts.close();
  }
}

/** Polls until `check` gives something; throws with `what` after `ms`. */
export async function eventually<T>(
  what: string,
  check: () => Promise<T | undefined | false>,
  ms = 30_000,
): Promise<T> {
  const deadline = performance.now() + ms;
  for (;;) {
    const found = await check();
    if (found) return found;
    if (performance.now() > deadline) throw new Error(`not within ${ms} ms: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

function holds(dir: string, payload: string): boolean {
  const files = fs.readdirSync(dir, { withFileTypes: true }).filter((file) => file.isFile());
  return files.some(({ name }) => fs.readFileSync(path.join(dir, name)).includes(payload));
}
