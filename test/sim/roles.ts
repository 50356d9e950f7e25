/**
 * One seed: three nodes that may each lead two spaces, promoted and handed over under all faults of
 * a cluster, and cut off from each other, so that now and then two of them lead. In half of the
 * seeds operators promote, in the others etcd's leases decide: then nobody acknowledges in an
 * epoch once another has in a later one. Then everything heals, one leads, all hold the same, and
 * nothing that was acknowledged is gone: what a replica had flushed too is in the log, the rest at
 * least in a quarantine (I1, I2, I5, P3, P8).
 */
import type { Entry, Node } from '#src/main/index.js';
import { listQuarantine, readQuarantine } from '#src/main/quarantine.js';
import { assertDurable } from '../support/durable-log.js';
import { chanceFrom } from '../support/fake-disk.js';
import { Cluster, isPassing, portOf, type SimNode, Violation } from './cluster.js';
import { ETCD, ETCD_ENDPOINT } from './etcd.js';
import { Faults, type Work } from './faults.js';

const IDS = ['a', 'b', 'c'];
const SPACES = ['red', 'green'];
const HEAL_MS = 90_000;
const SETTLE_MS = 30_000;
const TTL_MS = 2_000;

interface Acked {
  readonly sequence: number;
  readonly payload: string;
  readonly replicas: number;
}

export interface RolesReport {
  readonly seed: number;
  readonly acked: number;
  readonly promotions: number;
  readonly switchovers: number;
  readonly rewinds: number;
  /** Times at which two nodes had acknowledged in different epochs of one space meanwhile. */
  readonly epochs: number;
  readonly faults: number;
  /** It was etcd who said who leads. */
  readonly hasLeases: boolean;
  readonly virtualMs: number;
}

export class RolesRun {
  readonly #seed: number;
  readonly #chance;
  readonly #cluster: Cluster;
  readonly #trace: ((line: string) => void) | undefined;
  readonly #acked = new Map<string, Acked[]>(SPACES.map((name) => [name, []]));
  /** By space, epoch and sequence: the payload that was acknowledged there. */
  readonly #placed = new Map<string, string>();
  /** By space and epoch: who acknowledges in it. */
  readonly #leaders = new Map<string, string>();
  /** By space: the highest epoch in which anybody has acknowledged. */
  readonly #ackedIn = new Map<string, number>();
  /** By process and space: the highest epoch that it has told of. */
  readonly #epochs = new Map<string, number>();
  readonly #applied = new Map<string, number>();
  /** By host: it has led the space since it was given an entry last. */
  readonly #hasLed = new Set<string>();
  readonly #hasLeases: boolean;
  readonly #report = { acked: 0, promotions: 0, switchovers: 0, rewinds: 0, faults: 0 };
  #count = 0;
  #isHealing = false;
  /** No other fault until then. */
  #quietUntilMs = 0;
  #failure: Error | undefined;

  constructor(seed: number, trace?: (line: string) => void) {
    this.#seed = seed;
    this.#trace = trace;
    this.#chance = chanceFrom(seed);
    this.#cluster = new Cluster(this.#chance);
    this.#hasLeases = this.#chance(2) === 0;
    for (const [i, id] of IDS.entries()) this.#add(id, i);
  }

  #add(id: string, index: number): void {
    const { clock } = this.#cluster;
    const at = (i: number) => ({ host: '127.0.0.1', port: portOf(i) });
    const replicas = IDS.map((nodeId, i) => ({ nodeId, ...at(i) })).filter((m) => m.nodeId !== id);
    const etcd = { kind: 'etcd', endpoints: [ETCD_ENDPOINT], ttlMs: TTL_MS } as const;
    this.#cluster.add(id, {
      listen: at(index),
      ...(this.#hasLeases ? { coordinator: etcd } : { replicas, lead: id === 'a' }),
      apply: async (entries: Entry[], { space }: { space: string }) => {
        await new Promise<void>((resolve) => clock.after(this.#chance(4), clock.owner, resolve));
        const key = `${id} ${space}`;
        const applied = this.#applied.get(key) ?? 0;
        // Entries may come again after a crash, none is skipped; what it led it wrote itself.
        const hasLed = this.#hasLed.delete(key);
        if (entries[0]!.sequence > applied + 1 && !hasLed) {
          this.#fail(`host of ${key}: ${entries[0]!.sequence} after ${applied}`);
        }
        this.#applied.set(key, Math.max(applied, entries.at(-1)!.sequence));
      },
      rewound: async (space: string, { from }: { from: number }) => {
        const key = `${id} ${space}`;
        this.#applied.set(key, Math.min(this.#applied.get(key) ?? 0, from - 1));
        if (!this.#isHealing && this.#chance(3) === 0) throw new Error('the host cannot, now');
      },
    });
  }

  #note(line: string): void {
    this.#trace?.(`${this.#cluster.clock.nowMs.toFixed(1)} ${line}`);
  }

  #fail(what: string): void {
    this.#note(`VIOLATION ${what}`);
    this.#failure ??= new Violation(what);
  }

  async run(): Promise<RolesReport> {
    const { clock } = this.#cluster;
    const uninstall = clock.install();
    try {
      if (this.#hasLeases) this.#cluster.etcd.start();
      for (const node of this.#cluster.nodes) await this.#start(node);
      await this.#make();
      const faults = this.#faults();
      const end = clock.nowMs + 8_000 + this.#chance(15_000);
      let nextFault = clock.nowMs + 500;
      while (clock.nowMs < end) {
        await clock.runFor(1 + this.#chance(20));
        if (this.#failure) throw this.#failure;
        for (let n = this.#chance(4); n > 0; n--) this.#offer();
        if (clock.nowMs < nextFault) continue;
        this.#report.faults++;
        faults.one();
        nextFault = Math.max(this.#quietUntilMs, clock.nowMs + this.#chance(1_500));
      }
      await this.#heal();
      const virtualMs = Math.round(clock.nowMs);
      const [epochs, hasLeases] = [this.#leaders.size, this.#hasLeases];
      return { seed: this.#seed, ...this.#report, epochs, hasLeases, virtualMs };
    } finally {
      for (const node of this.#cluster.nodes) node.kill();
      uninstall();
    }
  }

  async #start(node: SimNode): Promise<void> {
    node.options = { ...node.options, fsync: this.#cluster.fsync() };
    const error = await this.#cluster.within(SETTLE_MS, `opening ${node.name}`, node.start());
    this.#note(`${node.name} is ${error ? error.message.split('\n')[0] : 'open'}`);
    if (error) throw error;
    this.#listenTo(node);
  }

  #listenTo(node: SimNode): void {
    const open = node.node;
    if (!open) return;
    const { owner } = node;
    const told = (space: string, epoch: number): void => {
      const key = `${owner.name} ${space}`;
      this.#epochs.set(key, Math.max(epoch, this.#epochs.get(key) ?? 0));
    };
    open.on('fenced', ({ space, epoch }) => told(space, epoch));
    open.on('space-role', ({ space, epoch, role }) => {
      this.#note(`${node.name}: ${space} ${role} in ${epoch}`);
      if (role === 'primary') this.#hasLed.add(`${node.name} ${space}`);
      told(space, epoch);
    });
    open.on('rewound', ({ space, from, to }) => {
      this.#note(`${node.name}: ${space} rewound ${from} to ${to}`);
      this.#report.rewinds++;
    });
    open.on('damaged', () => this.#fail(`${node.name} found damage`));
    open.on('leader-conflict', (e) => this.#fail(`${e.space}: two lead in epoch ${e.epoch}`));
    open.on('replica-refused', ({ replicaId, space, verdict }) => {
      if (verdict === 'fenced') return;
      this.#fail(`${node.name} refuses ${replicaId} the space ${space}: ${verdict}`);
    });
  }

  async #make(): Promise<void> {
    const [a] = this.#cluster.nodes;
    const work = this.#cluster.clock.as(a!.owner, async () => {
      for (const name of SPACES) await a!.node!.openSpace(name);
    });
    await this.#cluster.within(SETTLE_MS, 'the spaces', work);
  }

  #leaderAmong(name: string): SimNode[] {
    return this.#cluster.nodes.filter((n) => n.isRunning && roleOf(n.node!, name) === 'primary');
  }

  // --- load and roles ----------------------------------------------------------------------

  #offer(): void {
    const name = SPACES[this.#chance(SPACES.length)]!;
    const node = this.#cluster.nodes[this.#chance(IDS.length)]!;
    if (!node.isRunning) return;
    const what = this.#chance(60);
    // Two operators at once, now and then.
    const isRace = what === 0 && this.#chance(2) === 0;
    for (const at of isRace ? this.#cluster.nodes : [node]) {
      if (!at.isRunning) continue;
      this.#do(at, () => {
        if (what === 0) return this.#promote(at, name);
        if (what === 1) return this.#switchover(at, name);
        return this.#append(at, name);
      });
    }
  }

  #do(node: SimNode, work: () => Promise<void>): void {
    this.#cluster.clock.as(node.owner, () =>
      work().catch((error) => {
        if ((error as { code?: string }).code === undefined) this.#failure ??= error as Error;
      }),
    );
  }

  async #append(node: SimNode, name: string): Promise<void> {
    const { owner } = node;
    if (roleOf(node.node!, name) !== 'primary') return;
    const payload = `${name} ${++this.#count} `.padEnd(this.#chance(200), '.');
    const replicas = this.#chance(2);
    const ack = replicas > 0 ? { ack: { replicas, timeoutMs: 2_000 } } : undefined;
    const space = node.node!.space(name);
    const { sequence, epoch } = await space.append(1, Buffer.from(payload), ack);
    if (owner.isDead) return;
    this.#report.acked++;
    assertDurable(node.disk, '/data', node.node!.status().durableLsn);
    // By a timer it is written and no more, unless a replica has it.
    if (replicas === 0 && typeof node.options.fsync === 'object') return;
    this.#acked.get(name)!.push({ sequence, payload, replicas });
    const seen = this.#epochs.get(`${owner.name} ${name}`) ?? 0;
    if (epoch < seen) this.#fail(`${node.name} acknowledged in ${epoch}, had told ${seen} (I5)`);
    const leader = this.#leaders.get(`${name} ${epoch}`) ?? node.name;
    this.#leaders.set(`${name} ${epoch}`, leader);
    if (leader !== node.name) this.#fail(`${name}: ${leader} and ${node.name} in epoch ${epoch}`);
    const place = `${name} ${epoch} ${sequence}`;
    if (this.#placed.has(place)) this.#fail(`${place} was acknowledged twice (P3)`);
    this.#placed.set(place, payload);
    const latest = this.#ackedIn.get(name) ?? 0;
    this.#ackedIn.set(name, Math.max(latest, epoch));
    if (this.#hasLeases && epoch < latest) {
      this.#fail(`${node.name} acknowledged ${name} in ${epoch}, another had in ${latest}`);
    }
  }

  async #promote(node: SimNode, name: string): Promise<void> {
    if (roleOf(node.node!, name) !== 'replica') return;
    const { epoch } = await node.node!.promote(name);
    this.#note(`${node.name} was promoted: ${name} in ${epoch}`);
    this.#report.promotions++;
  }

  async #switchover(node: SimNode, name: string): Promise<void> {
    if (roleOf(node.node!, name) !== 'primary') return;
    const to = IDS.filter((id) => id !== node.name)[this.#chance(2)]!;
    const { epoch } = await node.node!.switchover(name, to, { timeoutMs: 1_000 });
    this.#note(`${node.name} has handed ${name} to ${to} in ${epoch}`);
    // A node that is still being opened tells its host so only when it is open.
    this.#hasLed.add(`${to} ${name}`);
    this.#report.switchovers++;
  }

  // --- faults ------------------------------------------------------------------------------

  #later(ms: number, what: string, work: () => void): void {
    this.#cluster.clock.after(ms, undefined, () => {
      this.#note(what);
      work();
    });
  }

  #restart(node: SimNode, ms: number): void {
    this.#later(ms, `start ${node.name}`, () => {
      if (node.node || node.isStarting || this.#isHealing) return;
      node.options = { ...node.options, fsync: this.#cluster.fsync() };
      node.start().then((error) => {
        this.#note(`${node.name} is ${error ? error.message.split('\n')[0] : 'open'}`);
        if (error && !isPassing(error)) this.#failure ??= error;
        else if (error) this.#restart(node, 500);
        else this.#listenTo(node);
      });
    });
  }

  #faults(): Faults {
    const cluster = this.#cluster;
    /** Cut off: whoever leads there goes on alone, and another one may be promoted. */
    const isolate: Work = (node, _, ms) => {
      const others = IDS.filter((id) => id !== node.name);
      faults.cut(node.name, this.#chance(2) === 0 ? [...others, ETCD] : others, 2 * ms);
    };
    const etcdAway: Work = (node, _, ms) => faults.cut(node.name, [ETCD], 2 * ms);
    const etcdRestarts: Work = (_, __, ms) => {
      if (!cluster.etcd.isUp) return;
      cluster.etcd.kill();
      this.#later(ms, 'etcd is back', () => cluster.etcd.start());
    };
    /** What etcd says to a leader comes late, and then nothing comes to it from anybody. */
    const lateThenIsolated: Work = (node, _, ms) => {
      const { name } = this.#leaderAmong(SPACES[this.#chance(SPACES.length)]!)[0] ?? node;
      const others = IDS.filter((id) => id !== name);
      const soonMs = TTL_MS / 2 + this.#chance(TTL_MS);
      this.#quietUntilMs = cluster.clock.nowMs + soonMs + 2 * TTL_MS;
      cluster.network.delay(ETCD, name, 300 + this.#chance(600));
      this.#later(soonMs, `isolate ${name}`, () => {
        cluster.network.delay(ETCD, name, 0);
        if (!this.#isHealing) faults.cut(name, [...others, ETCD], 2 * TTL_MS + ms);
      });
    };
    /** Stopped in the middle of an fdatasync, for longer than a lease lives. */
    const stopped: Work = (node, _, ms) => {
      const { disk, owner } = node;
      const stop = (): void => {
        if (this.#isHealing || owner.isDead) return;
        disk.delay = { only: 'fdatasync', ms: 1 };
        owner.stop();
        this.#later(TTL_MS + ms, `go on ${node.name}`, () => {
          disk.delay = undefined;
          cluster.clock.goOn(owner);
        });
      };
      disk.when((call) => call.startsWith('fdatasync'), 1, stop);
    };
    const isolated = Array.from({ length: 4 }, () => ['isolated', isolate] as const);
    const ofEtcd = [
      ['etcd away', etcdAway],
      ['etcd away', etcdAway],
      ['etcd restarts', etcdRestarts],
      ['late, then isolated', lateThenIsolated],
      ['late, then isolated', lateThenIsolated],
      ['stopped in an fdatasync', stopped],
      ['stopped in an fdatasync', stopped],
    ] as const;
    const host = {
      cluster,
      chance: this.#chance,
      isHealing: () => this.#isHealing,
      note: (line: string) => this.#note(line),
      later: (ms: number, what: string, work: () => void) => this.#later(ms, what, work),
      restartLater: (node: SimNode, ms: number) => this.#restart(node, ms),
      disturb: () => undefined,
    };
    const faults = new Faults(host, this.#hasLeases ? [...isolated, ...ofEtcd] : isolated);
    return faults;
  }

  // --- the end -----------------------------------------------------------------------------

  async #heal(): Promise<void> {
    const { nodes, clock } = this.#cluster;
    this.#note('heal');
    this.#isHealing = true;
    this.#cluster.heal();
    await clock.runFor(SETTLE_MS);
    if (this.#failure) throw this.#failure;
    for (const node of nodes) {
      if (node.node && !node.hasFailed) continue;
      node.kill();
      await this.#start(node);
    }
    for (const name of SPACES) await this.#oneLeads(name);
    await this.#check();
  }

  /** Where nobody leads an operator promotes, or etcd sees to it; then everybody follows. */
  async #oneLeads(name: string): Promise<void> {
    const { clock, nodes } = this.#cluster;
    const end = clock.nowMs + HEAL_MS;
    for (;;) {
      if (this.#failure) throw this.#failure;
      const leaders = this.#leaderAmong(name);
      const status = leaders[0]?.node?.space(name).status();
      if (leaders.length === 1 && status?.isReplicated(2)) return;
      if (clock.nowMs > end) {
        const all = nodes.map((n) => JSON.stringify(n.node?.space(name).status()));
        throw new Violation(`${name} is not whole: ${all.join('\n')}`);
      }
      if (leaders.length === 0 && !this.#hasLeases) {
        for (const node of nodes) {
          const work = clock.as(node.owner, () => node.node!.promote(name));
          const done = await this.#cluster.within(SETTLE_MS, `promoting ${name}`, settled(work));
          this.#note(`${node.name}: ${name} ${done}`);
          if (done === 'done') break;
        }
      }
      await clock.runFor(200);
    }
  }

  async #check(): Promise<void> {
    this.#cluster.assertSound();
    const kept = await this.#quarantined();
    for (const name of SPACES) {
      const logs: string[][] = [];
      for (const node of this.#cluster.nodes) {
        const work = this.#cluster.clock.as(node.owner, () => contentOf(node.node!, name));
        logs.push(await this.#cluster.within(SETTLE_MS, `reading ${name}`, work));
      }
      const [log] = logs;
      for (const [i, other] of logs.entries()) {
        if (other.join('\n') !== log!.join('\n')) {
          throw new Violation(`${name} on ${IDS[i]} is not what it is on a (I2)`);
        }
      }
      for (const { sequence, payload, replicas } of this.#acked.get(name)!) {
        if (log![sequence - 1] === payload) continue;
        if (replicas === 0 && kept.has(payload)) continue;
        throw new Violation(`${name} ${sequence}, acknowledged by ${replicas} replicas, is gone`);
      }
    }
  }

  async #quarantined(): Promise<Set<string>> {
    const kept = new Set<string>();
    for (const { disk } of this.#cluster.nodes) {
      const mount = disk.mount();
      const work = (async () => {
        for (const { file } of (await listQuarantine(mount, '/data')).rewinds) {
          for await (const entry of readQuarantine(mount, '/data', file)) {
            kept.add(Buffer.from(entry.payload).toString());
          }
        }
      })();
      await this.#cluster.within(SETTLE_MS, 'reading a quarantine', work);
    }
    return kept;
  }
}

function roleOf(node: Node, name: string): string | undefined {
  return node.spaces.find((s) => s.name === name)?.status().role;
}

async function settled(work: Promise<unknown>): Promise<string> {
  return await work.then(
    () => 'done',
    (error) => (error as Error).message.split('\n')[0]!,
  );
}

/** Payloads by sequence, from the first on. */
async function contentOf(node: Node, name: string): Promise<string[]> {
  const found: string[] = [];
  for await (const entry of node.space(name).read()) {
    if (entry.sequence !== found.length + 1) throw new Violation(`${name}: no ${found.length + 1}`);
    found.push(Buffer.from(entry.payload).toString());
  }
  return found;
}
