/** What happens to a simulated cluster before it heals: one fault after the other, by chance. */
import type { Chance } from '../support/fake-disk.js';
import type { Cluster, SimNode } from './cluster.js';

export interface FaultHost {
  readonly cluster: Cluster;
  readonly chance: Chance;
  isHealing(): boolean;
  note(line: string): void;
  later(ms: number, what: string, work: () => void): void;
  restartLater(node: SimNode, ms: number): void;
  /** For so long a node may be slower than its own disk and process are. */
  disturb(node: SimNode, ms: number): void;
}

/** The calls of a disk that fail, and how. */
export const DISK_ERRORS = [
  { only: 'fdatasync', errno: 'EIO' },
  { only: 'fdatasync', errno: 'ENOSPC' },
  { only: 'write wal-', errno: 'EIO' },
  { only: 'write wal-', errno: 'ENOSPC' },
  { only: 'write state', errno: 'EIO' },
  { only: 'fsync', errno: 'EIO' },
  { only: 'syncdir', errno: 'EIO' },
  { only: 'rename', errno: 'EIO' },
  { only: 'rename', errno: 'EACCES' },
  { only: 'open', errno: 'EMFILE' },
  { only: 'remove', errno: 'EROFS' },
  { only: 'truncate', errno: 'EIO' },
  { only: 'read', errno: 'EIO' },
  { only: 'close', errno: 'EIO' },
  { only: 'stat', errno: 'EIO' },
  { only: 'list', errno: 'EIO' },
] as const;
/** The calls at which losing the power is most telling; one at 0 begins a segment. */
export const TELLING_CALLS = [
  /^write wal-\w+\.log \d+@0$/,
  /^rename/,
  /^syncdir/,
  /^fdatasync/,
  /^remove/,
  /^fsync/,
] as const;
const SLOW_CALLS = ['fdatasync', 'write', 'read', 'fsync'] as const;

export type Work = (node: SimNode, other: SimNode, ms: number) => void;

export class Faults {
  readonly #host: FaultHost;
  readonly #kinds: readonly (readonly [string, Work])[];

  /** @param more what else may happen, besides what happens to every cluster */
  constructor(host: FaultHost, more: readonly (readonly [string, Work])[] = []) {
    this.#host = host;
    this.#kinds = [
      ['crash', (node, _, ms) => this.#crash(node, ms)],
      ['crash', (node, _, ms) => this.#crash(node, ms)],
      ['power loss', (node, _, ms) => this.#powerLoss(node, ms)],
      ['power loss', (node, _, ms) => this.#powerLoss(node, ms)],
      ['power loss at a call', (node, _, ms) => this.#powerLossAt(node, ms)],
      ['power loss at a call', (node, _, ms) => this.#powerLossAt(node, ms)],
      ['one way closed', (node, other, ms) => this.#close([[node.name, other.name]], ms)],
      ['partition', (node, other, ms) => this.cut(node.name, [other.name], 3 * ms)],
      ['reset', () => void host.cluster.network.resetOne()],
      ['corruption', (node, other) => host.cluster.network.corrupt(node.name, other.name)],
      ['duplicate', (node, other) => host.cluster.network.duplicate(node.name, other.name)],
      ['loss', (node, other) => host.cluster.network.lose(node.name, other.name)],
      ['delay', (node, other, ms) => this.#delay(node, other, ms)],
      ['pause', (node, _, ms) => this.#pause(node, ms)],
      ['disk error', (node, _, ms) => this.#diskError(node, ms)],
      ['disk full', (node, _, ms) => this.#diskFull(node, ms)],
      ['slow disk', (node, _, ms) => this.#slowDisk(node, ms)],
      ['shipper dies', (node) => node.killShipper()],
      ['clock jumps', (node) => this.#jump(node)],
      ['swizzle', () => this.#swizzle()],
      ...more,
    ];
  }

  one(): void {
    const { chance, cluster } = this.#host;
    const { nodes } = cluster;
    const node = nodes[chance(nodes.length)]!;
    const other = nodes.filter((n) => n !== node)[chance(nodes.length - 1)]!;
    const ms = chance(4_000);
    const [name, work] = this.#kinds[chance(this.#kinds.length)]!;
    this.#host.note(`fault: ${name}, ${node.name} (${other.name}), ${ms} ms`);
    work(node, other, ms);
  }

  #crash(node: SimNode, ms: number): void {
    node.kill();
    this.#host.restartLater(node, ms / 4);
  }

  #powerLoss(node: SimNode, ms: number): void {
    node.losePower();
    this.#host.restartLater(node, ms);
  }

  #powerLossAt(node: SimNode, ms: number): void {
    const { chance, later, isHealing } = this.#host;
    const call = TELLING_CALLS[chance(TELLING_CALLS.length)]!;
    const { owner } = node;
    node.disk.when(
      (what) => call.test(what),
      1 + chance(4),
      () =>
        later(chance(6), `power loss, ${node.name} after ${call}`, () => {
          if (isHealing() || owner.isDead) return;
          this.#powerLoss(node, ms);
        }),
    );
  }

  #close(links: readonly (readonly [string, string])[], ms: number): void {
    const { network } = this.#host.cluster;
    for (const [from, to] of links) network.block(from, to);
    this.#host.later(ms, 'open', () => {
      for (const [from, to] of links) network.open(from, to);
    });
  }

  /** Nothing comes from one to the others, or to it. */
  cut(name: string, others: readonly string[], ms: number): void {
    const links = others.flatMap((other) => [[name, other] as const, [other, name] as const]);
    this.#close(links, ms);
  }

  #delay(node: SimNode, other: SimNode, ms: number): void {
    const { network } = this.#host.cluster;
    network.delay(node.name, other.name, 1 + this.#host.chance(400));
    this.#host.later(ms, `no delay ${node.name}>${other.name}`, () =>
      network.delay(node.name, other.name, 0),
    );
  }

  #pause(node: SimNode, ms: number): void {
    if (!node.node) return;
    const { owner } = node;
    owner.stop();
    this.#host.disturb(node, ms);
    this.#host.later(ms, `go on ${node.name}`, () => this.#host.cluster.clock.goOn(owner));
  }

  #diskError(node: SimNode, ms: number): void {
    const { chance } = this.#host;
    const error = DISK_ERRORS[chance(DISK_ERRORS.length)]!;
    this.#host.note(`${error.errno} at ${error.only}`);
    node.disk.inject({ call: 1 + chance(20), ...error });
    this.#host.disturb(node, ms + 1_500);
    // What an operator does with a node whose log has failed.
    this.#host.later(500 + ms, `look at ${node.name}`, () => {
      node.disk.inject(undefined);
      if (!node.hasFailed) return;
      node.kill();
      this.#host.restartLater(node, 10);
    });
  }

  #diskFull(node: SimNode, ms: number): void {
    node.disk.capacityBytes = node.disk.usedBytes + this.#host.chance(40_000);
    this.#host.disturb(node, ms + 2_000);
    this.#host.later(ms, `room for ${node.name}`, () => {
      node.disk.capacityBytes = Number.POSITIVE_INFINITY;
    });
  }

  #slowDisk(node: SimNode, ms: number): void {
    const { chance } = this.#host;
    const only = SLOW_CALLS[chance(SLOW_CALLS.length)]!;
    node.disk.delay = { only, ms: 1 + chance(1_500) };
    this.#host.disturb(node, ms + 2_000);
    this.#host.later(ms, `disk of ${node.name}`, () => {
      node.disk.delay = undefined;
    });
  }

  #jump(node: SimNode): void {
    node.owner.wallOffsetMs += (this.#host.chance(3) - 1) * 3_600_000;
  }

  /** Links close one after the other, and open again in another order. */
  #swizzle(): void {
    const { cluster, chance, later, isHealing } = this.#host;
    const { nodes, network } = cluster;
    const links = nodes.flatMap((x) => nodes.filter((y) => y !== x).map((y) => [x, y] as const));
    const chosen = links.filter(() => chance(2) === 0);
    let at = 0;
    for (const [x, y] of chosen) {
      at += chance(400);
      later(at, `clog ${x.name}>${y.name}`, () => {
        if (!isHealing()) network.block(x.name, y.name);
      });
    }
    while (chosen.length > 0) {
      const [[x, y]] = chosen.splice(chance(chosen.length), 1) as [(typeof links)[0]];
      at += chance(400);
      later(at, `unclog ${x.name}>${y.name}`, () => network.open(x.name, y.name));
    }
  }
}
