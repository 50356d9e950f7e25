/**
 * One seed: a primary and two replicas under load and faults; then everything heals, and within a
 * bounded time every replica streams, and everything that was promised holds (FAULTS.md, I1-I9).
 */
import type { Entry, HostSnapshot, NodeOptions, ReceivedSnapshot, Space } from '#src/main/index.js';
import { DEFAULT_READ_TIMEOUT_MS } from '#src/shared/limits.js';
import { chanceFrom } from '../support/fake-disk.js';
import { Cluster, isPassing, portOf, type SimNode, Violation } from './cluster.js';
import { Faults, type Work } from './faults.js';
import { HostStore, Ledger } from './host.js';
import { Invariants } from './invariants.js';
import { ROTTEN_MAX, rot } from './rot.js';
import { makeSnapshot, type SnapshotWorld, takeSnapshot } from './snapshots.js';
import { hasTokens, NO_TOKENS, Tokens } from './tokens.js';

const SPACES = ['red', 'green', 'blue'];
const SNAPSHOTS = { snapshotChunkBytes: 1_024, snapshotGraceMs: 4_000 };
/** When faults stop, every replica streams again within this virtual time (I9). */
const HEAL_MS = 60_000;
/** An append has an outcome within this time, unless its node has died or been stopped. */
const SETTLE_MS = 30_000;
/** Of a disk that has no fault: what a replica does must not show in it (I6). */
const LOCAL_ACK_MS = 200;

export interface RunReport {
  readonly seed: number;
  readonly events: number;
  readonly virtualMs: number;
  readonly acked: number;
  /** That a replica's host has restored. */
  readonly snapshots: number;
  readonly faults: number;
  /** Appends that were taken, and refused, by a condition; waits that came to an end. */
  readonly conditions: number;
  readonly conflicts: number;
  readonly awaited: number;
  /** Of all that happened, in order. */
  readonly digest: number;
}

interface Pending {
  readonly owner: SimNode['owner'];
  readonly sinceMs: number;
  readonly what: string;
}

export class Run {
  readonly #seed: number;
  readonly #chance;
  readonly #cluster: Cluster;
  readonly #ledgers = new Map(SPACES.map((name) => [name, new Ledger(name)]));
  readonly #stores = new Map<string, HostStore>();
  readonly #invariants = new Invariants(this.#ledgers, this.#stores);
  /** What hosts expect, and wait for; undefined: they do not. */
  readonly #tokens: Tokens | undefined;
  readonly #pending = new Set<Pending>();
  /** What each replica was heard to have flushed, by "replica space" (I3). */
  readonly #flushed = new Map<string, number>();
  readonly #primary: SimNode;
  /** What a replica lacks is soon lost, and it needs a snapshot. */
  readonly #isSlotSmall: boolean;
  readonly #trace: ((line: string) => void) | undefined;
  #spaces = new Map<string, Space>();
  #faults = 0;
  #digest = 0;
  #acked = 0;
  #snapshots = 0;
  #isHealing = false;
  #isRotten = false;
  /** Until then the primary's disk or process is slower than its own. */
  #disturbedUntilMs = 0;
  #failure: Error | undefined;

  constructor(seed: number, trace?: (line: string) => void) {
    this.#seed = seed;
    this.#trace = trace;
    this.#chance = chanceFrom(seed);
    this.#cluster = new Cluster(this.#chance);
    this.#isSlotSmall = this.#chance(2) === 0;
    const replicas = ['b', 'c'].map((nodeId, i) => ({
      nodeId,
      host: '127.0.0.1',
      port: portOf(i + 1),
    }));
    const compression = this.#chance(2) === 0 ? 'lz4' : 'none';
    const maxSlotBytes = this.#isSlotSmall ? 100_000 : 100_000_000;
    const snapshot = (space: string): Promise<HostSnapshot> =>
      makeSnapshot(this.#world, space, this.#spaces.get(space)?.status().durableSequence ?? 0);
    const slots = { maxSlotBytes, snapshot, ...SNAPSHOTS };
    if (hasTokens(seed)) {
      this.#tokens = new Tokens({
        chance: this.#chance,
        note: (line) => this.#note(line),
        applied: ({ name }, space) => this.#stores.get(name)!.appliedUpTo(space),
      });
    }
    const host = this.#tokens ? { ...this.#host('a'), applyWhenLeading: true } : {};
    this.#primary = this.#cluster.add('a', {
      replicas,
      lead: true,
      compression,
      ...slots,
      ...host,
    });
    for (const { nodeId, port } of replicas) this.#addReplica(nodeId, port);
  }

  /** What a node hands its entries to. */
  #host(name: string): Pick<NodeOptions, 'apply' | 'appliedUpTo'> {
    const store = new HostStore(name, this.#ledgers, this.#chance(2) === 0);
    this.#stores.set(name, store);
    const apply = async (entries: Entry[], { space }: { space: string }): Promise<void> => {
      const { clock } = this.#cluster;
      const ms = this.#chance(4);
      await new Promise<void>((resolve) => clock.after(ms, clock.owner, resolve));
      if (!this.#isHealing && this.#chance(50) === 0) throw new Error('the host cannot, now');
      this.#guard(() => store.commit(space, entries));
    };
    const appliedUpTo = (space: string): number => store.appliedUpTo(space);
    return { apply, ...(store.isForgetful ? {} : { appliedUpTo }) };
  }

  #addReplica(name: string, port: number): void {
    const host = this.#host(name);
    const store = this.#stores.get(name)!;
    const restore = async (space: string, snapshot: ReceivedSnapshot): Promise<void> => {
      try {
        await takeSnapshot(this.#world, space, snapshot);
        store.restored(space, snapshot.sequence);
        this.#snapshots++;
      } catch (error) {
        if (error instanceof Violation) this.#failure ??= error;
        throw error;
      }
    };
    this.#cluster.add(name, {
      listen: { host: '127.0.0.1', port },
      ...host,
      restore,
      ...SNAPSHOTS,
    });
  }

  get #world(): SnapshotWorld {
    const { clock } = this.#cluster;
    return {
      chance: this.#chance,
      isHealing: () => this.#isHealing,
      sleep: (ms) => new Promise((resolve) => clock.after(ms, clock.owner, resolve)),
    };
  }

  /** What breaks a promise inside of a node must not be swallowed there. */
  #guard(work: () => void): void {
    try {
      work();
    } catch (error) {
      this.#failure ??= error as Error;
      throw error;
    }
  }

  #note(line: string): void {
    const at = this.#cluster.clock.nowMs.toFixed(3);
    this.#trace?.(`${at} ${line}`);
    for (const c of `${at} ${line}`) {
      this.#digest = (Math.imul(this.#digest, 31) + c.charCodeAt(0)) | 0;
    }
  }

  /** Throws a Violation where a promise is broken. */
  async run(): Promise<RunReport> {
    const { clock } = this.#cluster;
    const uninstall = clock.install();
    try {
      for (const node of this.#cluster.nodes) {
        await this.#cluster.within(SETTLE_MS, `opening ${node.name}`, this.#start(node));
      }
      let end = clock.nowMs + 3_000 + this.#chance(12_000);
      // Longer than a link may be silent, so now and then only.
      const silence: Work = (node, other) => {
        faults.cut(node.name, [other.name], DEFAULT_READ_TIMEOUT_MS + 3_000);
        end = Math.max(end, clock.nowMs + DEFAULT_READ_TIMEOUT_MS + 2_500);
      };
      const host = {
        cluster: this.#cluster,
        chance: this.#chance,
        isHealing: () => this.#isHealing,
        note: (line: string) => this.#note(line),
        later: (ms: number, what: string, work: () => void) => this.#later(ms, what, work),
        restartLater: (node: SimNode, ms: number) => this.#restartLater(node, ms),
        disturb: (node: SimNode, ms: number) => this.#disturb(node, ms),
      };
      const faults = new Faults(host, this.#chance(8) === 0 ? [['silence', silence]] : []);
      let nextFault = clock.nowMs + this.#chance(500);
      while (clock.nowMs < end) {
        await clock.runFor(1 + this.#chance(20));
        this.#checkPending();
        for (let n = this.#chance(4); n > 0; n--) this.#offer();
        if (clock.nowMs < nextFault) continue;
        this.#faults++;
        faults.one();
        nextFault = clock.nowMs + this.#chance(1_200);
      }
      await this.#heal();
      return {
        seed: this.#seed,
        events: clock.events,
        virtualMs: Math.round(clock.nowMs),
        acked: this.#acked,
        snapshots: this.#snapshots,
        faults: this.#faults,
        ...(this.#tokens?.counts ?? NO_TOKENS),
        digest: this.#digest >>> 0,
      };
    } finally {
      for (const node of this.#cluster.nodes) node.kill();
      uninstall();
    }
  }

  // --- nodes -----------------------------------------------------------------------------------

  /** Never resolves when the process is killed before it is open. */
  async #start(node: SimNode): Promise<void> {
    node.options = { ...node.options, fsync: this.#cluster.fsync() };
    const error = await node.start();
    this.#note(`${node.name} is ${error ? `not open: ${error.message.split('\n')[0]}` : 'open'}`);
    if (error && !isPassing(error)) throw error;
    if (!error) await this.#opened(node);
    else this.#restartLater(node, 500);
  }

  async #opened(node: SimNode): Promise<void> {
    const { node: open } = node;
    // Killed while it opened.
    if (!open) return;
    open.on('replica-refused', (e) =>
      this.#fail(`${e.replicaId} was refused ${e.space}: ${e.verdict}`),
    );
    open.on('damaged', (e) => {
      this.#note(`${node.name}: damaged ${JSON.stringify(e.entries)}`);
      if (!this.#isRotten) this.#fail(`${node.name} found damage`);
    });
    open.on('repair', (e) => this.#note(`${node.name}: repair ${JSON.stringify(e)}`));
    open.on('apply-blocked', (e) => this.#fail(`${node.name}: ${e.space} is apply-blocked`));
    open.on('replica-state', (e) =>
      this.#note(`${node.name}: ${e.replicaId} ${e.state} (${e.reason})`),
    );
    this.#invariants.opened(node.name, open);
    open.on('snapshot-started', (e) => {
      this.#note(`${node.name}: snapshot ${JSON.stringify(e)}`);
      if (!this.#isSlotSmall) this.#fail(`${e.replicaId} needs a snapshot of ${e.space} (I4)`);
    });
    open.on('snapshot-failed', (e) => this.#note(`${node.name}: no snapshot ${JSON.stringify(e)}`));
    open.on('snapshot-done', (e) => this.#note(`${node.name}: has snapshot ${JSON.stringify(e)}`));
    for (const space of open.status().spaces) {
      const flushed = this.#flushed.get(`${node.name} ${space.name}`) ?? 0;
      if (space.durableSequence < flushed) {
        throw new Violation(
          `${node.name} has ${space.name} up to ${space.durableSequence}, had told ${flushed} (I3)`,
        );
      }
      if (node === this.#primary && space.durableSequence < this.#ledgers.get(space.name)!.acked) {
        const { acked } = this.#ledgers.get(space.name)!;
        throw new Violation(`${space.name} ends at ${space.durableSequence}, acked ${acked} (I1)`);
      }
    }
    if (node !== this.#primary) return;
    for (const [name, ledger] of this.#ledgers) {
      ledger.opened(open.status().spaces.find((s) => s.name === name)?.durableSequence ?? 0);
    }
    this.#spaces = new Map();
    for (const name of SPACES) void this.#openSpace(node, name);
  }

  async #openSpace(node: SimNode, name: string): Promise<void> {
    const open = node.node!;
    await this.#track(`openSpace ${name}`, async () => {
      const space = await open.openSpace(name);
      if (node.node === open) this.#spaces.set(name, space);
    });
  }

  #fail(what: string): void {
    this.#failure ??= new Violation(what);
  }

  // --- load ------------------------------------------------------------------------------------

  /** Work of the primary's host: it has an outcome, or its process is dead. */
  async #track(what: string, work: () => Promise<void>, node = this.#primary): Promise<void> {
    const { clock } = this.#cluster;
    const { owner } = node;
    const pending: Pending = { owner, sinceMs: clock.nowMs, what };
    this.#pending.add(pending);
    try {
      await clock.as(owner, work);
    } catch (error) {
      if (error instanceof Violation) this.#failure ??= error;
      else if ((error as { code?: string }).code === undefined) this.#failure ??= error as Error;
    } finally {
      this.#pending.delete(pending);
    }
  }

  #checkPending(): void {
    if (this.#failure) throw this.#failure;
    const { clock } = this.#cluster;
    for (const pending of this.#pending) {
      const { owner } = pending;
      if (owner.isDead) this.#pending.delete(pending);
      else if (clock.nowMs - pending.sinceMs > SETTLE_MS + 5_000 && !owner.stopped) {
        throw new Violation(`no outcome for ${SETTLE_MS} ms: ${pending.what}`);
      }
    }
    this.#hear();
  }

  /** What replicas have told so far. */
  #hear(): void {
    for (const node of this.#cluster.nodes) {
      if (node.isRunning) this.#invariants.check(node, node.node!);
    }
    if (!this.#primary.isRunning) return;
    this.#checkSilence();
    for (const space of this.#primary.node!.status().spaces) {
      this.#ledgers.get(space.name)?.covered(space.durableSequence);
      for (const replica of space.replicas) {
        const key = `${replica.replicaId} ${space.name}`;
        const before = this.#flushed.get(key) ?? 0;
        if (replica.ackedSequence > space.durableSequence) {
          throw new Violation(`${key} has ${replica.ackedSequence}, durable is less (P2)`);
        }
        this.#flushed.set(key, Math.max(before, replica.ackedSequence));
      }
    }
  }

  /** A link from which nothing comes is not believed in for longer than that (I8). */
  #checkSilence(): void {
    const { name, owner, node } = this.#primary;
    const { clock, network } = this.#cluster;
    const boundMs = DEFAULT_READ_TIMEOUT_MS + 1_500;
    if (clock.nowMs - owner.sinceMs < boundMs) return;
    for (const { replicaId, state } of node!.status().replicas) {
      if (state !== 'streaming' && state !== 'catching-up') continue;
      const silentMs = network.blockedMs(replicaId, name);
      if (silentMs < boundMs) continue;
      throw new Violation(`${replicaId} is ${state}, silent for ${silentMs} ms (I8)`);
    }
  }

  #offer(): void {
    if (!this.#primary.isRunning || this.#spaces.size === 0) return;
    const names = [...this.#spaces.keys()];
    const name = names[this.#chance(names.length)]!;
    const space = this.#spaces.get(name)!;
    if (this.#tokens && this.#chance(3) === 0) {
      this.#offerTokens(this.#tokens, name, space);
      return;
    }
    switch (this.#chance(12)) {
      case 0:
        void this.#track(`checkpoint ${name}`, () => this.#checkpoint(name, space));
        return;
      case 1:
        void this.#track(`read ${name}`, async () => {
          const { firstSequence, durableSequence: to } = space.status();
          if (to === 0) return;
          const from = firstSequence + this.#chance(Math.max(1, to - firstSequence));
          for await (const entry of space.read({ from, to })) {
            this.#ledgers.get(name)!.seen(entry, 'read');
          }
        });
        return;
      default:
        void this.#append(name, space);
    }
  }

  /** Two that expect the same, at the same moment; or who waits on any node. */
  #offerTokens(tokens: Tokens, name: string, space: Space): void {
    const { nodes } = this.#cluster;
    const node = nodes[this.#chance(nodes.length)]!;
    if (this.#chance(3) === 0) {
      if (node.isRunning) void this.#track(`wait for ${name}`, () => tokens.wait(node, name), node);
      return;
    }
    const expected = tokens.expected(name, space);
    for (let n = this.#chance(3); n >= 0; n--) {
      const payload = this.#ledgers.get(name)!.payload(this.#chance(200));
      const replicas = this.#chance(2);
      const ack = replicas > 0 ? { ack: { replicas, timeoutMs: 3_000 } } : undefined;
      const options = { ...ack, wait: false };
      void this.#track(`append to ${name} behind ${expected.sequence}`, async () => {
        const ledger = this.#ledgers.get(name)!;
        const { lastSequence, durableSequence } = space.status();
        // What is staged may be lost, and this one be judged anew.
        for (let at = durableSequence + 1; at <= lastSequence + 1; at++)
          ledger.offered(at, payload);
        const isDurable = ack !== undefined || typeof this.#primary.options.fsync !== 'object';
        await tokens.append(this.#primary, name, payload, expected, options, (token) => {
          ledger.ack(token.sequence, payload, isDurable);
          // By a timer it may be gone with the power, and another one come in its place.
          if (isDurable) tokens.acknowledged(name, token);
          this.#acked++;
        });
      });
    }
  }

  async #checkpoint(name: string, space: Space): Promise<void> {
    const ledger = this.#ledgers.get(name)!;
    const sequence = Math.max(1, space.status().durableSequence - this.#chance(40));
    ledger.checkpoint = Math.max(ledger.checkpoint, sequence);
    await space.checkpoint(sequence);
  }

  #append(name: string, space: Space): Promise<void> {
    const ledger = this.#ledgers.get(name)!;
    const { clock } = this.#cluster;
    const count = this.#chance(4) === 0 ? 1 + this.#chance(20) : 1;
    const payloads = Array.from({ length: count }, () =>
      ledger.payload(this.#chance(10) === 0 ? this.#chance(1_900) : this.#chance(200)),
    );
    const replicas = this.#chance(3);
    const ack = replicas > 0 ? { ack: { replicas, timeoutMs: 3_000 } } : undefined;
    return this.#track(`append to ${name}`, async () => {
      const startMs = clock.nowMs;
      const { lastSequence } = space.status();
      // Staged at once where there is room: the sequence is known before the outcome is.
      for (const [i, payload] of payloads.entries()) ledger.offered(lastSequence + 1 + i, payload);
      const { firstSequence } = await space.appendBatch(1, payloads, { ...ack, wait: false });
      // By a timer it is written, and what a replica has is durable.
      const isDurable = ack !== undefined || typeof this.#primary.options.fsync !== 'object';
      for (const [i, payload] of payloads.entries()) {
        ledger.ack(firstSequence + i, payload, isDurable);
      }
      this.#acked += payloads.length;
      const tookMs = clock.nowMs - startMs;
      if (!ack && tookMs > LOCAL_ACK_MS && startMs > this.#disturbedUntilMs) {
        throw new Violation(`an append at level local took ${tookMs} ms (I6)`);
      }
      if (ack) this.#hear();
    });
  }

  // --- faults ----------------------------------------------------------------------------------

  #later(ms: number, what: string, work: () => void): void {
    this.#cluster.clock.after(ms, undefined, () => {
      this.#note(what);
      work();
    });
  }

  #restartLater(node: SimNode, ms: number): void {
    this.#later(ms, `start ${node.name}`, () => {
      if (node.node || node.isStarting || this.#isHealing) return;
      this.#start(node).catch((error) => {
        this.#failure ??= error;
      });
    });
  }

  #disturb(node: SimNode, ms: number): void {
    if (node !== this.#primary) return;
    const { nowMs } = this.#cluster.clock;
    this.#disturbedUntilMs = Math.max(this.#disturbedUntilMs, nowMs + ms);
  }

  // --- the end ---------------------------------------------------------------------------------

  async #heal(): Promise<void> {
    const { nodes, clock } = this.#cluster;
    this.#note('heal');
    this.#isHealing = true;
    this.#cluster.heal();
    this.#cluster.assertSound();
    // What was opening may still do so; what failed or is down starts again.
    await clock.runFor(SETTLE_MS);
    this.#checkPending();
    for (const node of nodes) {
      if (node.node && !node.hasFailed) continue;
      if (node.isStarting) throw new Violation(`${node.name} is opening for ${SETTLE_MS} ms`);
      node.kill();
      await this.#cluster.within(SETTLE_MS, `opening ${node.name}`, this.#start(node));
    }
    await this.#until('every replica streams all that is durable (I9)', () => this.#isWhole());
    if (this.#seed % 9 === 8) await this.#flipInSlabs();
    await this.#rot();
    await this.#checkAll();
  }

  /** While a replica is away, bits change in memory of what it lacks: the disk has them still. */
  async #flipInSlabs(): Promise<void> {
    const { nodes, clock } = this.#cluster;
    const node = nodes[1 + this.#chance(nodes.length - 1)]!;
    node.kill();
    for (let n = 2 + this.#chance(10); n > 0; n--) {
      this.#offer();
      await clock.runFor(50);
    }
    const flips = 1 + this.#chance(8);
    for (let n = 0; n < flips; n++) this.#primary.flipInSlab();
    this.#note(`${flips} bits of slabs have changed`);
    await this.#cluster.within(SETTLE_MS, `opening ${node.name}`, this.#start(node));
    await this.#until(`${node.name} has what is on the disk`, () => this.#isWhole());
  }

  /** One copy rots, of what the others have; it is read, and mends itself. */
  async #rot(): Promise<void> {
    const { nodes } = this.#cluster;
    const node = nodes[this.#chance(nodes.length)]!;
    this.#isRotten = true;
    this.#note(`${rot(node, nodes, this.#chance)} bits or pages of ${node.name} are lost`);
    // Reading ends at what is damaged: what lies behind it is found when that is back.
    for (let round = 0; !(await this.#readAll(node)); round++) {
      if (round === 2 * ROTTEN_MAX) throw new Violation(`${node.name} cannot be read to its end`);
      await this.#until(`${node.name} is whole again`, () => {
        const { holes, spaces } = node.node!.status();
        return holes.length === 0 && spaces.every((s) => s.damage.length === 0);
      });
    }
  }

  async #readAll(node: SimNode): Promise<boolean> {
    let isWhole = true;
    const { clock } = this.#cluster;
    for (const { name } of node.node!.status().spaces) {
      const reading = clock.as(node.owner, async () => {
        for await (const _ of node.node!.space(name).read());
      });
      const noted = reading.catch((error) => {
        isWhole = false;
        this.#note(`${name}: ${error.message}`);
      });
      await this.#cluster.within(SETTLE_MS, `reading ${name}`, noted);
    }
    return isWhole;
  }

  async #until(what: string, check: () => boolean): Promise<void> {
    const { clock } = this.#cluster;
    const end = clock.nowMs + HEAL_MS;
    while (!check()) {
      this.#checkPending();
      if (clock.nowMs > end) {
        for (const { name, node } of this.#cluster.nodes) {
          this.#note(`status of ${name}: ${JSON.stringify(node?.status(), null, 1)}`);
        }
        throw new Violation(`not within ${HEAL_MS} ms: ${what}`);
      }
      await clock.runFor(50);
    }
  }

  #isWhole(): boolean {
    const status = this.#primary.node!.status();
    if (status.log.state !== 'ok' || this.#spaces.size < SPACES.length) return false;
    const own = this.#stores.get(this.#primary.name);
    const isApplied = status.spaces.every(
      ({ name, durableSequence }) => !own || own.appliedUpTo(name) === durableSequence,
    );
    if (!isApplied) return false;
    return status.spaces.every((space) =>
      space.replicas.every((r) => {
        const host = this.#stores.get(r.replicaId)!.appliedUpTo(space.name);
        const { durableSequence } = space;
        return (
          r.state === 'streaming' &&
          r.ackedSequence === durableSequence &&
          r.appliedSequence === durableSequence &&
          r.lagEntries === 0 &&
          host === durableSequence
        );
      }),
    );
  }

  async #checkAll(): Promise<void> {
    const { nodes, clock } = this.#cluster;
    this.#cluster.assertSound();
    for (const node of nodes) {
      for (const name of SPACES) {
        const ledger = this.#ledgers.get(name)!;
        const reading = clock.as(node.owner, async () => {
          const space = node.node!.status().spaces.find((s) => s.name === name);
          return space ? await ledger.check(node.node!.space(name), node.name) : 0;
        });
        const last = await this.#cluster.within(SETTLE_MS, `reading ${name}`, reading);
        if (last < ledger.acked) {
          throw new Violation(`${node.name} has ${name} up to ${last}, acked was ${ledger.acked}`);
        }
      }
    }
    await this.#checkDisk();
  }

  /** What nobody needs is freed, and what is needed is not (I4, I7). */
  async #checkDisk(): Promise<void> {
    const space = this.#spaces.get(SPACES[0]!)!;
    const ledger = this.#ledgers.get(space.name)!;
    for (let round = 0; round < 4; round++) {
      for (const node of this.#cluster.nodes) {
        const work = this.#cluster.clock.as(node.owner, async () => {
          for (const { name, durableSequence } of node.node!.status().spaces) {
            if (durableSequence === 0) continue;
            const given = this.#ledgers.get(name)!;
            given.checkpoint = Math.max(given.checkpoint, durableSequence + 1);
            await node.node!.space(name).checkpoint(durableSequence + 1);
          }
        });
        await this.#cluster.within(SETTLE_MS, 'checkpoints', work);
      }
      // Enough for a roll: retention looks at what it may free.
      const payloads = Array.from({ length: 20 }, () => ledger.payload(1_800));
      const { lastSequence } = space.status();
      for (const [i, payload] of payloads.entries()) ledger.offered(lastSequence + 1 + i, payload);
      const rolled = this.#cluster.clock.as(this.#primary.owner, async () => {
        await space.appendBatch(1, payloads, { ack: { replicas: 2, timeoutMs: SETTLE_MS } });
      });
      await this.#cluster.within(SETTLE_MS, 'appends at the end', rolled);
      await this.#cluster.clock.runFor(3_000);
      this.#checkPending();
    }
    for (const node of this.#cluster.nodes) {
      const { segments } = node.node!.status();
      if (segments > 6)
        this.#note(`status of ${node.name}: ${JSON.stringify(node.node!.status())}`);
      if (segments > 6) throw new Violation(`${node.name} keeps ${segments} segments (I7)`);
    }
  }
}
