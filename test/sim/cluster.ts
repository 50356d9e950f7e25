/**
 * Whole nodes in one thread: the real ones, on fake disks, a simulated network and virtual time.
 * A node can be killed, lose its power, be stopped; its shippers can die by themselves.
 */

import type { FsyncMode, Node, NodeOptions } from '#src/main/index.js';
import { StaticCoordinator } from '#src/main/lead/coordinator.js';
import { EtcdCoordinator } from '#src/main/lead/etcd/coordinator.js';
import type { Platform } from '#src/main/node/machine.js';
import { openNodeOn } from '#src/main/node/open-node.js';
import type { ToShipper } from '#src/shared/link/control.js';
import { NodeMemory } from '#src/shared/memory/slab.js';
import { Shipper } from '#src/workers/ship/shipper.js';
import { type Chance, FakeDisk } from '../support/fake-disk.js';
import { Owner, VirtualClock } from './clock.js';
import { SimEtcd } from './etcd.js';
import { type Machine, SimNetwork } from './network.js';

const BASE_PORT = 7_000;
/** Calls that make the next segment: what has failed there comes to light when the log needs it. */
const PREPARING = /segment\.tmp|spare-|^syncdir/;
const SIZES = {
  segmentBytes: 32 * 1024,
  groupBytes: 4 * 1024,
  maxEntryBytes: 2 * 1024,
  memoryBudgetBytes: 32 * 1024,
  maxSpaces: 16,
  windowBytes: 16 * 1024,
  catchUpBatchBytes: 4 * 1024,
  backoffStepsMs: [100, 500, 2_000],
} as const;

/** Thrown where the cluster has broken a promise. */
export class Violation extends Error {}

export class SimNode {
  readonly name: string;
  readonly machine: Machine;
  readonly disk: FakeDisk;
  readonly port: number;
  readonly #cluster: Cluster;
  /** Of its next life. */
  options: Partial<NodeOptions>;
  owner: Owner;
  node: Node | undefined;
  /** On its way, in virtual time. */
  isStarting = false;
  #shippers: { owner: Owner; die: () => void }[] = [];
  /** What it shares with them. */
  #memory: NodeMemory | undefined;
  /** How often it has been started. */
  starts = 0;

  constructor(cluster: Cluster, name: string, index: number, options: Partial<NodeOptions>) {
    this.#cluster = cluster;
    this.disk = new FakeDisk(cluster.chance);
    this.name = name;
    this.machine = { name, isUp: true };
    this.port = BASE_PORT + index;
    this.options = options;
    this.owner = new Owner(name);
    const { clock, chance } = cluster;
    this.disk.pass = (ms) => new Promise((resolve) => clock.after(ms, clock.owner, resolve));
    this.disk.wait = () => this.disk.pass((1 + chance(500)) / 1_000);
  }

  /**
   * Starts the process. Resolves when the node is open, or has refused to open; never, when it is
   * killed before.
   */
  async start(): Promise<Error | undefined> {
    const { clock } = this.#cluster;
    const owner = new Owner(`${this.name}#${++this.starts}`);
    owner.wallOffsetMs = this.owner.wallOffsetMs;
    owner.sleptMs = this.owner.sleptMs;
    owner.sinceMs = clock.nowMs;
    this.owner = owner;
    this.disk.brokeAt = undefined;
    this.machine.isUp = true;
    this.#shippers = [];
    this.#memory = undefined;
    this.isStarting = true;
    const options: NodeOptions = {
      ...SIZES,
      clusterId: 'sim',
      nodeId: this.name,
      dataDir: '/data',
      ...this.options,
    };
    return await clock.as(owner, async () => {
      try {
        const node = await openNodeOn(this.disk.mount(), options, this.#platform(owner));
        if (!owner.isDead) this.node = node;
        return undefined;
      } catch (error) {
        return error as Error;
      } finally {
        if (this.owner === owner) this.isStarting = false;
      }
    });
  }

  /** The process dies, its machine goes on. */
  kill(): void {
    this.owner.kill();
    this.node = undefined;
    this.isStarting = false;
    this.disk.kill();
    this.#cluster.network.processDied(this.machine);
  }

  losePower(): void {
    this.owner.kill();
    this.node = undefined;
    this.isStarting = false;
    this.#cluster.network.machineDied(this.machine);
    this.disk.crash();
  }

  /** One of its shippers' threads dies. */
  killShipper(): void {
    const live = this.#shippers.filter((s) => !s.owner.isDead);
    if (live.length > 0) live[this.#cluster.chance(live.length)]!.die();
  }

  /** A bit changes of what links still read of a group that is durable: of one of the last. */
  flipInSlab(): void {
    const { chance } = this.#cluster;
    let group = this.#memory?.groupAt(this.#memory.durableLsn - 1);
    for (let back = chance(4); group && back > 0; back--) {
      group = this.#memory!.groupAt(group.start - 1) ?? group;
    }
    if (group) group.slab.bytes[chance(group.bytes)]! ^= 1 << chance(8);
  }

  /** Only opening it again helps; whether its log has noticed yet or not. */
  get hasFailed(): boolean {
    if (!this.node) return false;
    return this.node.status().failure !== undefined || PREPARING.test(this.disk.brokeAt ?? '');
  }

  get isRunning(): boolean {
    return this.node !== undefined && !this.owner.stopped;
  }

  #platform(owner: Owner): Platform {
    const { clock, network, etcd } = this.#cluster;
    return {
      listener: (accepted) => network.listener(this.machine, owner, accepted),
      coordinator: ({ coordinator, clusterId, nodeId, dataDir }) => {
        if (coordinator.kind === 'static') return new StaticCoordinator();
        const makeLink = etcd.linkFrom(this.machine, owner);
        return new EtcdCoordinator(clusterId, nodeId, nodeId + dataDir, coordinator, makeLink);
      },
      connect: ({ port }) => network.connect(this.machine, owner, port),
      startShipper: (start, hooks) => {
        const thread = new Owner(`${owner.name}/${start.replica.nodeId}`, owner);
        let hasEnded = false;
        const end = (reason: string | undefined): void => {
          if (hasEnded) return;
          hasEnded = true;
          thread.kill();
          for (const socket of sockets) socket.destroy();
          clock.after(0, owner, () => hooks.exit(reason));
        };
        const sockets: { destroy(): unknown }[] = [];
        const disk = this.disk.mount();
        this.#memory = new NodeMemory(start.memory);
        const shipper = clock.as(thread, () => {
          const made = new Shipper(start, {
            aheadMs: 0,
            tell: (message) => {
              const copy = structuredClone(message);
              clock.after(0, owner, () => {
                if (!hasEnded) hooks.message(copy);
              });
            },
            connect: ({ port }) => {
              const socket = network.connect(this.machine, thread, port);
              sockets.splice(0, sockets.length, socket);
              return socket;
            },
            openSegment: (path) => disk.open(path, 'read'),
            ended: () => end(undefined),
          });
          clock.after(0, thread, () => made.run());
          return made;
        });
        this.#shippers.push({ owner: thread, die: () => end('the simulation killed it') });
        return {
          post: (message: ToShipper) => {
            const copy = structuredClone(message);
            clock.after(0, thread, () => shipper.message(copy));
          },
          terminate: () => end('terminated'),
        };
      },
    };
  }
}

export class Cluster {
  readonly chance: Chance;
  readonly clock: VirtualClock;
  readonly network: SimNetwork;
  /** For nodes that have it as their coordinator; to be started. */
  readonly etcd: SimEtcd;
  readonly nodes: SimNode[] = [];

  constructor(chance: Chance) {
    this.chance = chance;
    this.clock = new VirtualClock(chance);
    this.network = new SimNetwork(this.clock, chance);
    this.etcd = new SimEtcd(this.clock, this.network);
  }

  add(name: string, options: Partial<NodeOptions>): SimNode {
    const node = new SimNode(this, name, this.nodes.length, options);
    this.nodes.push(node);
    return node;
  }

  /** No fault goes on; what is down stays down. */
  heal(): void {
    this.network.heal();
    for (const { disk, owner } of this.nodes) {
      disk.inject(undefined);
      disk.unwatch();
      disk.delay = undefined;
      disk.capacityBytes = Number.POSITIVE_INFINITY;
      if (owner.stopped) this.clock.goOn(owner);
    }
  }

  /** How a node syncs in its next life; `none` ships nothing. */
  fsync(): FsyncMode {
    const { chance } = this;
    return (['per-batch', 'per-batch', 'per-write', { timerMs: 1 + chance(40) }] as const)[
      chance(4)
    ]!;
  }

  /** Throws where a node has done with its disk what none may do. */
  assertSound(): void {
    for (const { disk } of this.nodes) disk.assertSound();
  }

  /** Waits for work of the cluster, letting time pass; gives up after `ms`. */
  async within<T>(ms: number, what: string, work: Promise<T>): Promise<T> {
    let outcome: { value: T } | { error: unknown } | undefined;
    work.then(
      (value) => {
        outcome = { value };
      },
      (error) => {
        outcome = { error };
      },
    );
    const end = this.clock.nowMs + ms;
    while (!outcome) {
      if (this.clock.nowMs > end) throw new Violation(`not within ${ms} ms: ${what}`);
      await this.clock.runFor(5);
    }
    if ('error' in outcome) throw outcome.error;
    return outcome.value;
  }
}

export function portOf(index: number): number {
  return BASE_PORT + index;
}

/** The disk was full or refused while the node opened: it is tried again. */
export function isPassing(error: Error): boolean {
  const { code } = error as { code?: string };
  return code === 'Io' || code === 'DiskFull' || code === 'WalFailed' || code === 'Closed';
}
