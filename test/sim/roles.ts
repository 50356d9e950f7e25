/**
 * One seed: three nodes that may each lead two spaces, promoted and handed over under all faults of
 * a cluster, and cut off from each other, so that now and then two of them lead. In half of the
 * seeds operators promote, in the others etcd's leases decide: then nobody acknowledges in an
 * epoch once another has in a later one. Then everything heals, one leads, all hold the same, and
 * nothing that was acknowledged is gone: what a replica had flushed too is in the log, the rest at
 * least in a quarantine, or where it was, on a node that was removed (I1, I2, I5, P3, P8). Hosts
 * and subscribers read along.
 */
import type { Appended, Node, SpaceStatus } from '#src/main/index.js';
import { listQuarantine, readQuarantine } from '#src/main/snapshot/quarantine.js';
import { assertDurable } from '../support/durable-log.js';
import { chanceFrom } from '../support/fake-disk.js';
import { Acknowledged } from './acknowledged.js';
import { Cluster, isPassing, portOf, type SimNode, Violation } from './cluster.js';
import { type DrillHost, drills } from './drills.js';
import { ETCD_ENDPOINT } from './etcd.js';
import { Faults } from './faults.js';
import { Followers, type FollowerWorld } from './followers.js';
import { contentOf, Histories, type Seen } from './histories.js';
import { RoleHost, type RoleHostWorld } from './role-host.js';
import {
  fetchedMeanwhile,
  isolations,
  leaseFaults,
  type RolesFaultHost,
  takenBackTwice,
} from './roles-faults.js';
import {
  beginsWith,
  countingIn,
  FIRST_MS,
  isSettled,
  leaderOf,
  lostIn,
  type MembersHost,
  memberFaults,
  statusOn,
} from './roles-members.js';
import { hasTokens, NO_TOKENS, Tokens, type TokensWorld } from './tokens.js';

const IDS = ['a', 'b', 'c'];
/** Where members change there is one more, which is none in the beginning. */
const SPARE = 'd';
const SPACES = ['red', 'green'];
const HEAL_MS = 90_000;
const SETTLE_MS = 30_000;
const TTL_MS = 2_000;
/** A host that does not return for so long is not waited for. */
const HOST_TIMEOUT_MS = 3_000;
/** So often is a space looked at that is handed over meanwhile. */
const LOOKS = 5;
/** Rounds of operators who do not force anything. */
const PATIENT_ROUNDS = 9;
/** What has not settled by itself until then is waited for in vain, or not: an operator decides. */
const GIVE_UP_ROUNDS = 100;

export interface RolesReport {
  readonly seed: number;
  readonly acked: number;
  readonly promotions: number;
  readonly switchovers: number;
  /** Directories that were emptied. */
  readonly wiped: number;
  readonly rewinds: number;
  /** Times at which a subscriber was told so. */
  readonly told: number;
  /** That have resolved, for a replica at least. */
  readonly waits: number;
  /** Appends that were taken, and refused, by a condition. */
  readonly conditions: number;
  readonly conflicts: number;
  /** Waits for tokens that found them, and that were told that they are gone. */
  readonly awaited: number;
  readonly outdated: number;
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
  readonly #acknowledged: Acknowledged;
  readonly #histories = new Histories();
  readonly #hosts = new Map<string, RoleHost>();
  readonly #followers: Followers;
  /** What hosts expect, and wait for; undefined: they do not, and are not handed what they lead. */
  readonly #tokens: Tokens | undefined;
  readonly #hasLeases: boolean;
  /** Members are wiped, added, removed. */
  readonly #areChanging: boolean;
  readonly #report = { acked: 0, promotions: 0, switchovers: 0, rewinds: 0, wiped: 0, faults: 0 };
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
    this.#areChanging = this.#chance(2) === 0;
    this.#acknowledged = new Acknowledged(this.#hasLeases);
    this.#followers = new Followers(this.#world);
    this.#tokens = hasTokens(seed) ? new Tokens(this.#tokensWorld) : undefined;
    const ids = this.#areChanging ? [...IDS, SPARE] : IDS;
    for (const [i, id] of ids.entries()) this.#add(id, i);
  }

  get #world(): FollowerWorld & RoleHostWorld {
    return {
      isBeingOpened: (id) => this.#cluster.nodes.some((n) => n.name === id && n.isStarting),
      clock: this.#cluster.clock,
      chance: this.#chance,
      histories: this.#histories,
      isHealing: () => this.#isHealing,
      note: (line) => this.#note(line),
      failed: (error) => {
        this.#note(`VIOLATION ${error.message}`);
        this.#failure ??= error;
      },
    };
  }

  get #tokensWorld(): TokensWorld {
    const applied = (node: SimNode, space: string): number =>
      this.#hosts.get(node.name)!.handed(space).next - 1;
    return { chance: this.#chance, note: (line) => this.#note(line), applied };
  }

  #add(id: string, index: number): void {
    const at = (i: number) => ({ host: '127.0.0.1', port: portOf(i) });
    const replicas = IDS.map((nodeId, i) => ({ nodeId, ...at(i) })).filter((m) => m.nodeId !== id);
    const etcd = { kind: 'etcd', endpoints: [ETCD_ENDPOINT], ttlMs: TTL_MS } as const;
    const host = new RoleHost(id, this.#world, this.#tokens !== undefined);
    this.#hosts.set(id, host);
    this.#cluster.add(id, {
      listen: at(index),
      ...(this.#hasLeases ? { coordinator: etcd } : { replicas, lead: id === 'a' }),
      hostTimeoutMs: HOST_TIMEOUT_MS,
      ...host.callbacks,
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
        if (clock.nowMs < Math.max(nextFault, this.#quietUntilMs)) continue;
        this.#report.faults++;
        faults.one();
        nextFault = Math.max(this.#quietUntilMs, clock.nowMs + this.#chance(1_500));
      }
      await this.#heal();
      const virtualMs = Math.round(clock.nowMs);
      const { epochs, waits } = this.#acknowledged;
      const rest = { told: this.#followers.rewinds, hasLeases: this.#hasLeases };
      const of = { epochs, waits, ...rest, ...(this.#tokens?.counts ?? NO_TOKENS) };
      return { seed: this.#seed, ...this.#report, ...of, virtualMs };
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
    for (const space of SPACES) {
      this.#followers.start(node, space);
      if (roleOf(open, space) === 'primary') this.#hosts.get(node.name)!.leads(space);
    }
    const told = (space: string, epoch: number): void =>
      this.#acknowledged.told(node, space, epoch);
    open.on('fenced', ({ space, epoch }) => told(space, epoch));
    open.on('space-role', ({ space, epoch, role, primaryId }) => {
      this.#note(`${node.name}: ${space} ${role} in ${epoch}, of ${primaryId}`);
      this.#hosts.get(primaryId)?.leads(space);
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
    const { nodes } = this.#cluster;
    const node = nodes[this.#chance(nodes.length)]!;
    if (!node.isRunning) return;
    // Where a fault is to take its course nobody else says who leads.
    const isQuiet = this.#cluster.clock.nowMs < this.#quietUntilMs;
    const what = isQuiet ? 2 + this.#chance(58) : this.#chance(60);
    // Two operators at once, now and then.
    const isRace = what === 0 && this.#chance(2) === 0;
    for (const at of isRace ? nodes : [node]) {
      if (!at.isRunning) continue;
      this.#do(at, () => {
        if (what === 0) return this.#promote(at, name);
        if (what === 1) return this.#switchover(at, name);
        if (what < 8) return this.#waitFlushed(at, name);
        if (this.#tokens && what < 20) return this.#tokens.wait(at, name);
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

  async #append(
    node: SimNode,
    name: string,
    replicas = this.#chance(2),
    timeoutMs = 2_000,
  ): Promise<void> {
    const space = node.node!.space(name);
    if (roleOf(node.node!, name) !== 'primary') return;
    const payload = `${name} ${++this.#count} `.padEnd(this.#chance(200), '.');
    const bytes = Buffer.from(payload);
    const ack = replicas > 0 ? { ack: { replicas, timeoutMs } } : undefined;
    const taken = (token: Appended): void => this.#taken(node, name, payload, replicas, token);
    const tokens = this.#tokens;
    // Half of them behind what they expect, where hosts expect anything.
    if (!tokens || this.#isHealing || this.#chance(2) === 0) {
      taken(await space.append(1, bytes, ack));
      return;
    }
    const expected = tokens.expected(name, space);
    await tokens.append(node, name, bytes, expected, { ...ack }, taken);
  }

  #taken(node: SimNode, name: string, payload: string, replicas: number, token: Appended): void {
    const { sequence, epoch } = token;
    if (node.owner.isDead) return;
    this.#report.acked++;
    assertDurable(node.disk, '/data', node.node!.status().durableLsn);
    if (typeof node.options.fsync !== 'object')
      this.#hosts.get(node.name)!.appended(name, sequence);
    // By a timer it is written and no more, unless a replica has it.
    if (replicas === 0 && typeof node.options.fsync === 'object') return;
    this.#acknowledged.append(node, name, epoch, { sequence, payload, replicas });
    this.#tokens?.acknowledged(name, { sequence, epoch });
  }

  /** A consumer waits until its place is on replicas: near the end, or behind it. */
  async #waitFlushed(node: SimNode, name: string): Promise<void> {
    const { owner } = node;
    if (roleOf(node.node!, name) !== 'primary') return;
    const { lastSequence } = node.node!.space(name).status();
    const sequence = Math.max(1, lastSequence + 2 - this.#chance(10));
    await this.#flushed(node, name, sequence, 1 + this.#chance(2));
    if (owner.isDead) return;
    if (this.#isHealing || this.#chance(20) > 0) return;
    // Whoever leads next must have it.
    this.#note(`fault: crash, ${node.name} has ${name} ${sequence} flushed`);
    node.kill();
    this.#restart(node, this.#chance(8_000));
  }

  async #flushed(node: SimNode, name: string, sequence: number, replicas: number): Promise<void> {
    const { owner } = node;
    const space = node.node!.space(name);
    const { durableSequence, epoch } = space.status();
    let of: number | undefined;
    if (sequence <= durableSequence) {
      for await (const entry of space.read({ from: sequence, to: sequence })) of = entry.epoch;
    }
    // It may have changed while the entry was read.
    const { epoch: begun } = space.status();
    await space.flushed(sequence, { replicas, timeoutMs: 3_000 }).catch((error) => {
      const { epoch: now } = space.status();
      if (owner.isDead || now === begun || error.code !== 'AckTimeout') throw error;
      throw new Violation(
        `${node.name} waits for ${name} of ${begun}, untold that it is in ${now}`,
      );
    });
    if (owner.isDead) return;
    // It leads in the same epoch still, so what stands there is what stood there.
    const now = space.status().epoch;
    this.#acknowledged.flushed(node, name, {
      sequence,
      epoch: now,
      of: now === epoch ? of : undefined,
    });
  }

  async #promote(node: SimNode, name: string): Promise<void> {
    const { owner } = node;
    const status = statusOf(node.node!, name);
    if (!status) return;
    // One that was fenced still calls itself the primary.
    const isLed = status.role === 'primary' && !status.refusal;
    const { epoch } = await node.node!.promote(name, { dryRun: isLed && this.#chance(2) === 0 });
    if (owner.isDead) return;
    // Whoever leads says the epoch, too: it acknowledges nothing below it any more (row 111).
    this.#acknowledged.told(node, name, epoch);
    if (isLed) return;
    this.#note(`${node.name} was promoted: ${name} in ${epoch}`);
    this.#report.promotions++;
  }

  async #switchover(node: SimNode, name: string): Promise<void> {
    if (roleOf(node.node!, name) !== 'primary') return;
    const others = this.#cluster.nodes.filter((n) => n !== node);
    const chosen = this.#chance(2 * others.length);
    const to = others[chosen % others.length]!.name;
    const ask = () => node.node!.switchover(name, to, { timeoutMs: 1_000 });
    const first = ask();
    // Two operators at once, now and then.
    if (chosen >= others.length) ask().catch(() => undefined);
    const { epoch } = await first;
    this.#note(`${node.name} has handed ${name} to ${to} in ${epoch}`);
    // A node that is still being opened tells its host so only when it is open.
    this.#hosts.get(to)!.leads(name);
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
    const { clock } = this.#cluster;
    const host: RolesFaultHost = {
      cluster: this.#cluster,
      chance: this.#chance,
      ttlMs: TTL_MS,
      isHealing: () => this.#isHealing,
      note: (line) => this.#note(line),
      later: (ms, what, work) => this.#later(ms, what, work),
      restartLater: (node, ms) => this.#restart(node, ms),
      disturb: () => undefined,
      leader: () => this.#leaderAmong(SPACES[this.#chance(SPACES.length)]!)[0],
      promote: (node, led) => {
        for (const name of SPACES) {
          this.#do(node, async () => {
            await this.#promote(node, name);
            if (roleOf(node.node!, name) === 'primary') led?.();
          });
        }
      },
      wait: (node, other, isThere) => {
        for (const name of SPACES) {
          const { durableSequence = 0 } = statusOf(other.node!, name) ?? {};
          this.#do(node, async () => {
            await this.#flushed(node, name, durableSequence + 1, 1);
            if (!node.owner.isDead) isThere();
          });
        }
      },
      stick: ({ name }, ms) => {
        this.#hosts.get(name)!.stuckUntilMs = clock.nowMs + ms;
      },
      stand: (node, ms) => this.#followers.stand(node, ms),
      load: (node) => {
        for (const name of [...SPACES, ...SPACES]) this.#do(node, () => this.#append(node, name));
      },
      quiet: (ms) => {
        this.#quietUntilMs = clock.nowMs + ms;
      },
      faults: () => faults,
    };
    const ofEtcd = this.#hasLeases ? leaseFaults(host) : [];
    const members = this.#membersHost(host);
    const ofMembers = this.#areChanging ? memberFaults(members) : [];
    const faults = new Faults(host, [...isolations(host), ...ofEtcd, ...ofMembers]);
    if (this.#hasLeases) return faults;
    if (this.#areChanging) beginsWith(members);
    else if (this.#seed % 4 === 0) this.#later(FIRST_MS, 'play', () => takenBackTwice(host));
    else if (this.#seed % 8 === 6) this.#later(FIRST_MS, 'play', () => fetchedMeanwhile(host));
    return faults;
  }

  #membersHost(host: RolesFaultHost): MembersHost {
    return {
      ...host,
      spaces: SPACES,
      hasOperators: !this.#hasLeases,
      ask: (node, work) => this.#do(node, work),
      wiped: ({ name }) => {
        this.#hosts.get(name)!.wiped();
        this.#acknowledged.wiped(name);
        this.#report.wiped++;
      },
    };
  }

  // --- the end -----------------------------------------------------------------------------

  async #heal(): Promise<void> {
    const { nodes, clock } = this.#cluster;
    this.#note('heal');
    this.#isHealing = true;
    this.#cluster.heal();
    for (const host of this.#hosts.values()) host.stuckUntilMs = 0;
    // One host may go on to be stuck: it keeps nobody from leading.
    const stuck = this.#hosts.get(IDS[this.#chance(6)] ?? '');
    if (stuck && !this.#hasLeases) stuck.stuckUntilMs = Number.POSITIVE_INFINITY;
    await clock.runFor(SETTLE_MS);
    if (this.#failure) throw this.#failure;
    for (const node of nodes) {
      if (node.node && !node.hasFailed) continue;
      node.kill();
      await this.#start(node);
    }
    for (const name of SPACES) await this.#oneLeads(name);
    if (stuck) stuck.stuckUntilMs = 0;
    await this.#check();
    if (!this.#hasLeases) await drills(this.#drillHost, SPACES[this.#chance(SPACES.length)]!);
    if (this.#failure) throw this.#failure;
  }

  get #drillHost(): DrillHost {
    return {
      cluster: this.#cluster,
      note: (line) => this.#note(line),
      start: (node) => this.#start(node),
      whole: (name) => this.#oneLeads(name),
      append: (...of) => this.#append(...of),
    };
  }

  /** Where nobody leads an operator promotes, or etcd sees to it; then everybody follows. */
  async #oneLeads(name: string): Promise<void> {
    const { clock, nodes } = this.#cluster;
    const end = clock.nowMs + HEAL_MS;
    for (let round = 0; ; round++) {
      if (this.#failure) throw this.#failure;
      const leader = leaderOf(nodes, name);
      const counting = countingIn(nodes, name);
      const status = leader && statusOn(leader, name);
      const isWhole = isSettled(nodes, name) && status?.isReplicated(counting.length - 1);
      // Who was removed while it was away may not know that it leads no more.
      const leaders = this.#leaderAmong(name).filter((n) => counting.includes(n.name));
      if (leaders.length === 1 && isWhole) return;
      if (clock.nowMs > end) {
        const all = nodes.map((n) => JSON.stringify(statusOn(n, name)));
        throw new Violation(`${name} is not whole: ${all.join('\n')}`);
      }
      if (!leader && !this.#hasLeases) await this.#promoteOne(name, round);
      if (leader && !this.#hasLeases && round % GIVE_UP_ROUNDS === GIVE_UP_ROUNDS - 1) {
        await this.#giveUp(name, leader);
      }
      await clock.runFor(200);
    }
  }

  /** An operator says that directories are lost which too few are left to replace. */
  async #giveUp(name: string, leader: SimNode): Promise<void> {
    const { clock, nodes } = this.#cluster;
    const lost = lostIn(nodes, name);
    if (lost.includes(leader.name)) {
      const work = clock.as(leader.owner, () => leader.node!.promote(name, { force: true }));
      const done = await this.#cluster.within(SETTLE_MS, 'settling by force', settled(work));
      this.#note(`${leader.name}: its own disk is settled by force: ${done}`);
    }
    for (const id of lost.filter((one) => one !== leader.name)) {
      const { port } = nodes.find((n) => n.name === id)!;
      const led = SPACES.filter((space) => leaderOf(nodes, space) === leader);
      const sets = led.map((space) => [space, countingIn(nodes, space)] as const);
      const work = clock.as(leader.owner, async () => {
        await leader.node!.removeReplica(id, { force: true });
        await leader.node!.addReplica({ nodeId: id, host: '127.0.0.1', port });
        for (const [space, counting] of sets) {
          const replicas = counting.filter((n) => n !== leader.name);
          await leader.node!.openSpace(space, { replicas });
        }
      });
      const done = await this.#cluster.within(SETTLE_MS, `giving up ${id}`, settled(work));
      this.#note(`${leader.name}: ${id} is given up and taken in: ${done}`);
    }
  }

  /**
   * One operator tries one node after the other, or two do so at the same moments. Where only
   * `force` leads without a host that does not return, it is used, since all members are there.
   */
  async #promoteOne(name: string, round: number): Promise<void> {
    const { clock, nodes } = this.#cluster;
    const isForced = round >= PATIENT_ROUNDS;
    const isDuel = !isForced && this.#chance(2) === 0;
    const tried = isDuel ? [round, round + 1] : [round];
    const work = tried.map(async (i) => {
      const node = nodes[i % nodes.length]!;
      const force = isForced && this.#hosts.get(node.name)!.stuckUntilMs > clock.nowMs;
      const done = settled(clock.as(node.owner, () => node.node!.promote(name, { force })));
      this.#note(`${node.name}: ${name} ${await done}`);
    });
    await this.#cluster.within(SETTLE_MS, `promoting ${name}`, Promise.all(work));
  }

  async #check(): Promise<void> {
    this.#cluster.assertSound();
    const kept = await this.#quarantined();
    for (const name of SPACES) {
      for (let look = 1; !(await this.#isSound(name, kept)); look++) {
        this.#note(`${name} was handed over, looked at ${look} times`);
        if (look === LOOKS) throw new Violation(`${name} is handed over again and again`);
      }
    }
  }

  /**
   * Who has been calm with etcd for a while shares its spaces out, by itself and at any time (see
   * lead/sharing.ts): between two moments nobody leads, and then the log is one entry longer.
   * @returns false where that came while this looked at it: it says nothing then
   */
  async #isSound(name: string, kept: ReadonlySet<string>): Promise<boolean> {
    await this.#oneLeads(name);
    const led = this.#ledBy(name);
    const { nodes, clock } = this.#cluster;
    const counting = countingIn(nodes, name);
    const [leader] = led.split(' ');
    const logs: [string, Seen[]][] = [];
    for (const node of nodes.filter((n) => counting.includes(n.name))) {
      const work = clock.as(node.owner, () => contentOf(node.node!, name));
      const log = await this.#cluster.within(SETTLE_MS, `reading ${name}`, work);
      logs.push([node.name, log]);
    }
    if (this.#ledBy(name) !== led) return false;
    const [[first, log]] = logs as [[string, Seen[]]];
    for (const [id, other] of logs) {
      if (JSON.stringify(other) === JSON.stringify(log)) continue;
      throw new Violation(`${name} on ${id} is not what it is on ${first} (I2)`);
    }
    for (const [i, one] of log.entries()) this.#histories.saw(name, one, log[i - 1], 'the log');
    const handed = counting.filter((id) => this.#tokens || id !== leader);
    const readers = handed.map((id) => this.#hosts.get(id)!.handed(name));
    readers.push(...this.#followers.of(name, counting));
    const end = clock.nowMs + SETTLE_MS;
    // Whoever reads along has come to the end by then, and has nothing else.
    for (const reader of readers) {
      while (reader.next <= log.length) {
        if (this.#failure) throw this.#failure;
        if (this.#ledBy(name) !== led) return false;
        if (clock.nowMs > end) {
          throw new Violation(`${reader.who}: ${name} up to ${reader.next - 1} of ${log.length}`);
        }
        await clock.runFor(100);
      }
    }
    const left = await this.#leftOn(name, counting);
    if (this.#ledBy(name) !== led) return false;
    for (const reader of readers) reader.assertIn(log);
    this.#acknowledged.check(name, log, new Set([...kept, ...left]));
    return true;
  }

  /**
   * Who was removed while it was cut off has led on alone, and nobody ships to it any more: what it
   * has acknowledged by itself stands in its own log still, where others have it in a quarantine.
   */
  async #leftOn(name: string, counting: readonly string[]): Promise<string[]> {
    const { nodes, clock } = this.#cluster;
    const left: string[] = [];
    for (const node of nodes.filter((n) => !counting.includes(n.name) && statusOn(n, name))) {
      const work = clock.as(node.owner, async () => {
        for await (const { payload } of node.node!.space(name).read()) {
          left.push(Buffer.from(payload).toString());
        }
      });
      await this.#cluster.within(SETTLE_MS, `reading ${name} on ${node.name}`, work);
    }
    return left;
  }

  /** Who leads the space, and in which epoch; '': nobody does. */
  #ledBy(name: string): string {
    const leader = leaderOf(this.#cluster.nodes, name);
    return leader ? `${leader.name} ${statusOn(leader, name)!.epoch}` : '';
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

function statusOf(node: Node, name: string): SpaceStatus | undefined {
  return node.spaces.find((s) => s.name === name)?.status();
}

function roleOf(node: Node, name: string): string | undefined {
  return statusOf(node, name)?.role;
}

async function settled(work: Promise<unknown>): Promise<string> {
  return await work.then(
    () => 'done',
    (error) => (error as Error).message.split('\n')[0]!,
  );
}
