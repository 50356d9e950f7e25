/**
 * The etcd coordinator: who lives, who leads which space in which epoch, and what to do where
 * nobody does. etcd decides by compare-and-swap; shared/lead/placement.ts has the records and the
 * order of candidates; the session has lease and view. This file holds the two against each other.
 *
 * Keys below `<prefix>/<clusterId>/`:
 *   nodes/<node id>/<lease>   address, with the node's lease: gone when the node is
 *   spaces/<space id>         name, nodes, epoch, leader and its lease: stays
 */
import { type EngramError, failure } from '../../../shared/errors.js';
import { encodeSpaceRow, leads, nextEpoch, type SpaceRow } from '../../../shared/lead/placement.js';
import { COORDINATOR_TICK_MS } from '../../../shared/limits.js';
import type { Floor } from '../../../shared/members/quorum.js';
import type { Epoch } from '../../../shared/position.js';
import { within } from '../../runtime/deadline.js';
import type {
  CoordinatedNode,
  Coordinator,
  CoordinatorEvent,
  Leader,
  Placement,
} from '../coordinator.js';
import { EtcdCandidacy } from './candidacy.js';
import type { MakeLink } from './link.js';
import { EtcdOwnRow } from './own-row.js';
import { EtcdPlacing } from './placing.js';
import { EtcdRecords, type Known } from './records.js';
import { type EtcdOptions, EtcdSession } from './session.js';
import { EtcdTold } from './told.js';

/** A claim that has not become a leadership by then is given up. */
const CLAIM_MS = 15_000;
/** How long a new space waits for this node's lease. */
const LEASE_WAIT_MS = 5_000;
/** How long `start` waits for etcd before the node opens without its word. */
const FIRST_WORD_MS = 2_000;

export class EtcdCoordinator implements Coordinator {
  readonly kind = 'etcd';
  readonly #nodeId: string;
  readonly #own: EtcdOwnRow;
  readonly #records: EtcdRecords;
  readonly #session: EtcdSession;
  readonly #candidacy: EtcdCandidacy;
  #node: CoordinatedNode | undefined;
  /** What this node leads, or has claimed, by the word of etcd. */
  readonly #led = new Map<string, { readonly epoch: Epoch; readonly sinceMs: number }>();
  /** Claims on their way to etcd, and what was given and is not led yet: who asked is at work. */
  readonly #claims = new Map<string, 'asked' | 'given'>();
  readonly #placing: EtcdPlacing;
  /** What this node has led without etcd is known there. */
  #hasAdopted = false;
  readonly #told = new EtcdTold();
  /** The nodes of led spaces, as the node was last told. */
  readonly #replicated = new Map<string, string>();
  /** The key of this node stands in etcd, with the lease of now. */
  #announced: string | undefined;
  #isAnnouncing = false;
  /** Who waits for the lease. */
  readonly #awaiting = new Set<() => void>();
  #tick: NodeJS.Timeout | undefined;
  #isClosed = false;
  #firstWord!: () => void;
  readonly #hasWord = new Promise<void>((resolve) => {
    this.#firstWord = resolve;
  });

  /**
   * @param place names where this node's directory is locked, see NodeRow
   * @param makeLink how etcd is reached; as a rule by its own client
   */
  constructor(
    clusterId: string,
    nodeId: string,
    place: string,
    options: EtcdOptions,
    makeLink?: MakeLink,
  ) {
    this.#nodeId = nodeId;
    const prefix = `${options.prefix}/${clusterId}/`;
    const session = new EtcdSession(
      { ...options, prefix },
      {
        up: () => void this.#up(),
        changed: (keys) => this.#changed(keys),
        lapsed: (reason) => this.#stop(reason),
        lost: (reason) => {
          this.#announced = undefined;
          this.#stop(reason);
        },
        link: (connected, reason) => this.#event({ kind: 'link', connected, reason }),
      },
      makeLink,
    );
    this.#session = session;
    this.#records = new EtcdRecords(prefix, session.view);
    this.#own = new EtcdOwnRow(nodeId, place, this.#records, session);
    this.#placing = new EtcdPlacing(nodeId, options.replicasPerSpace, this.#records, {
      put: async (known, row) => {
        if (!this.#isAnnounced) throw this.#noLease(row.name);
        return await this.#put(known, row);
      },
      written: () => this.#compare(),
    });
    this.#candidacy = new EtcdCandidacy(nodeId, this.#records, {
      mayTry: () => this.#isAnnounced,
      standingOf: (space) => this.#node!.standingOf(space),
      resume: (known, epoch) => this.#resume(known, epoch),
      promote: (space) => this.#node!.promote(space, this.#placing.othersOf(space)),
      done: ({ id }) => this.#compareOne(id),
      waiting: (space, reason) => this.#tellWaiting(space, reason),
    });
  }

  get ackUntilMs(): number {
    return this.#session.ackUntilMs;
  }

  async start(node: CoordinatedNode): Promise<void> {
    this.#node = node;
    // Whatever this node led when it was last open, it leads nothing until etcd has said so.
    for (const { space, role } of node.standings()) {
      if (role === 'primary') node.stepDown(space, 'etcd has not yet been heard');
    }
    this.#session.start();
    this.#tick = setInterval(() => this.#look(), COORDINATOR_TICK_MS);
    this.#tick.unref();
    await within(this.#hasWord, FIRST_WORD_MS);
  }

  #event(event: CoordinatorEvent): void {
    if (!this.#isClosed) this.#node?.event(event);
  }

  // --- lease and membership ----------------------------------------------------------------

  get #isAnnounced(): boolean {
    // Asked for each space: what it leads to is checked by etcd itself.
    const { lease, knownUntilMs } = this.#session;
    return (
      !this.#isClosed &&
      lease !== undefined &&
      this.#announced === lease &&
      performance.now() < knownUntilMs
    );
  }

  async #up(): Promise<void> {
    await this.#announce();
    this.#compare();
    this.#firstWord();
  }

  /** Puts this node's key where everybody sees it, unless another process is this node. */
  async #announce(): Promise<void> {
    const { lease } = this.#session;
    const { address } = this.#node!;
    if (lease === undefined || this.#isAnnouncing || this.#isClosed || !address) return;
    const isAgain = this.#announced === lease;
    if (isAgain && this.#own.isShown(lease, address)) {
      this.#event({ kind: 'lease', held: true, reason: 'kept' });
      return;
    }
    this.#isAnnouncing = true;
    try {
      const others = this.#records.sessionsOf(this.#nodeId).filter((n) => n.session !== lease);
      const foreign = this.#own.foreign(lease);
      if (foreign) {
        this.#tellWaiting('', `another living node calls itself ${this.#nodeId}, at ${foreign}`);
        return;
      }
      await this.#own.write(lease, address);
      if (this.#session.lease !== lease || !this.#own.isShown(lease, address)) return;
      this.#announced = lease;
      // It may be another etcd, or one that has lost what it had.
      this.#hasAdopted = false;
      this.#records.refresh();
      // A life before this one, in this very directory: its lock was free, so it is over.
      for (const { session } of others) await this.#session.revoke(session).catch(() => undefined);
      const reason = isAgain ? 'others have changed its row in etcd: put back' : 'granted';
      this.#event({ kind: 'lease', held: true, reason });
      for (const wake of this.#awaiting) wake();
    } catch {
      // The link is gone; `up` comes again.
    } finally {
      this.#isAnnouncing = false;
    }
  }

  async drain(isDrained: boolean): Promise<void> {
    if (!this.#isAnnounced) throw this.#noLease('drain');
    await this.#own.drain(isDrained, this.#session.lease!, this.#node!.address!);
  }

  /** Resolves when the lease is held, or when that has been waited for long enough. */
  async #whenAnnounced(): Promise<void> {
    if (this.#isAnnounced) return;
    let timer: NodeJS.Timeout | undefined;
    let wake!: () => void;
    const late = new Promise<void>((resolve) => {
      wake = resolve;
      timer = setTimeout(resolve, LEASE_WAIT_MS);
    });
    this.#awaiting.add(wake);
    await late;
    clearTimeout(timer);
    this.#awaiting.delete(wake);
  }

  /** From now on nothing is acknowledged here. */
  #stop(reason: string): void {
    this.#candidacy.stop();
    if (this.#led.size > 0 || this.#announced !== undefined) {
      this.#event({ kind: 'lease', held: false, reason });
    }
    for (const space of this.#led.keys()) this.#node?.stepDown(space, reason);
    this.#led.clear();
    this.#replicated.clear();
  }

  // --- what etcd says against what this node does --------------------------------------------

  #changed(keys: readonly string[]): void {
    this.#records.changed(keys);
    if (!this.#node || this.#isClosed) return;
    if (this.#records.takeNodesChanged()) {
      this.#node.setMembers(this.#records.members());
      // Whoever led is gone, or may be: that is every space's business.
      this.#compare();
      return;
    }
    for (const id of this.#records.spacesOf(keys)) this.#compareOne(id);
  }

  /** Also whether what this node has written is there: once a tick, whoever takes it away. */
  #look(): void {
    const { lease, isUp, view } = this.#session;
    const address = this.#node?.address;
    if (isUp && lease !== undefined && address && !this.#own.isShown(lease, address)) {
      void this.#announce();
    }
    const keys = [...this.#led.keys()].map((name) => this.#records.keyOf(name));
    if (keys.some((key) => !view.has(key))) this.#hasAdopted = false;
    this.#compare();
  }

  #compare(): void {
    if (!this.#node || this.#isClosed || !this.#session.isUp) return;
    if (this.#session.lease !== undefined && this.#announced !== this.#session.lease) {
      void this.#announce();
    }
    for (const id of this.#records.spaceIds()) this.#compareOne(id, false);
    this.#adoptOwn();
  }

  #compareOne(id: string, isNews = true): void {
    if (!this.#node || this.#isClosed) return;
    const known = this.#records.space(id);
    if (!known) return;
    const { row } = known;
    const isLed = leads(row, this.#records.sessions);
    this.#tellLeader(row, isLed);
    if (row.leader && row.leader.nodeId !== this.#nodeId) {
      const leader = isLed ? this.#records.leaderOf(row) : undefined;
      this.#node.heard(row.name, row.epoch, leader, isNews);
    }
    if (isLed && row.leader!.nodeId === this.#nodeId && this.#isOwn(row)) {
      this.#compareLed(known);
      return;
    }
    if (this.#led.has(row.name)) {
      this.#led.delete(row.name);
      this.#replicated.delete(row.name);
      const by = isLed ? `${row.leader!.nodeId} leads it` : 'it was given up';
      this.#node!.stepDown(row.name, `${by}, epoch ${row.epoch}`);
    }
    if (isLed) this.#candidacy.withdraw(row.name);
    else if (this.#isAnnounced) this.#candidacy.consider(known);
  }

  #isOwn(row: SpaceRow): boolean {
    const { lease } = this.#session;
    return lease !== undefined && row.leader?.session === lease && !row.released;
  }

  #tellLeader(row: SpaceRow, isLed: boolean): void {
    if (!this.#told.leader(row, isLed)) return;
    if (isLed) this.#candidacy.hasBegun(row.leader!.nodeId);
    this.#event({ kind: 'leader', space: row.name, leader: this.leaderOf(row.name) });
  }

  #tellWaiting(space: string, reason: string): void {
    if (this.#told.waiting(space, reason)) this.#event({ kind: 'waiting', space, reason });
  }

  /** A space that etcd says this node leads, with the lease of now. */
  #compareLed(known: Known): void {
    const { row } = known;
    const standing = this.#node!.standingOf(row.name);
    const isPrimary = standing?.role === 'primary' && standing.epoch === row.epoch;
    let led = this.#led.get(row.name);
    if (!led) {
      if (!this.#isAnnounced || this.#claims.get(row.name) === 'asked') return;
      led = this.#leads(row.name, row.epoch);
      // Led before the lease lapsed for us; etcd has never ceased to think so.
      if (isPrimary && !standing.refusal) this.#node!.resume(row.name, row.epoch);
    }
    const isLeading = isPrimary && (this.#node!.standingOf(row.name)?.leads ?? false);
    // What etcd gave, and could not say so or be told that it came to nothing, is nobody's work.
    const isClaimed = this.#claims.has(row.name) && performance.now() - led.sinceMs <= CLAIM_MS;
    const isWorkedOn = isClaimed || this.#candidacy.isTrying(row.name);
    // Its disk, a replica ahead of it, a higher epoch: others are to lead then.
    if ((isPrimary && standing.refusal) || !(isLeading || isWorkedOn)) {
      void this.release(row.name, row.epoch).catch(() => undefined);
    } else if (isLeading) {
      this.#claims.delete(row.name);
      this.#replicate(known);
    }
  }

  #leads(space: string, epoch: Epoch): { epoch: Epoch; sinceMs: number } {
    const led = { epoch, sinceMs: performance.now() };
    this.#led.set(space, led);
    return led;
  }

  /** Its nodes: as many as it should have, once so many live; the node is told. */
  #replicate(known: Known): void {
    const { row } = known;
    if (this.#placing.complete(known)) return;
    const nodes = row.nodeIds.join();
    if (this.#replicated.get(row.name) === nodes) return;
    this.#replicated.set(row.name, nodes);
    this.#node!.setReplicas(row.name, row.nodeIds).catch(() => {
      // Tried again with the next comparison.
      this.#replicated.delete(row.name);
    });
  }

  /**
   * Spaces that this node has led without etcd, or that etcd has lost: made known there, and led
   * from then on by whoever is promoted, in an epoch above all that any of their nodes has seen.
   */
  #adoptOwn(): void {
    if (!this.#isAnnounced || this.#hasAdopted) return;
    this.#hasAdopted = true;
    for (const { space: name, role, epoch } of this.#node!.standings()) {
      const id = this.#records.idOf(name);
      if (role !== 'primary' || this.#records.space(id)) continue;
      const nodeIds = this.#node!.nodesOf(name);
      const row: SpaceRow = { name, nodeIds, epoch, leader: undefined, released: true };
      this.#hasAdopted = false;
      this.#placing.writeSoon({ id, row, revision: 0 }, row);
    }
  }

  // --- changes -----------------------------------------------------------------------------

  /**
   * Writes a space's record, if it is still as known, this node lives, and the leader that the
   * record names does not (or is this node, or hands it over). @returns whether it was written
   */
  async #put(known: Known, row: SpaceRow, mayLive = true): Promise<boolean> {
    const { lease } = this.#session;
    if (lease === undefined) throw failure('CoordinatorUnavailable', 'there is no lease of etcd');
    const key = this.#records.spaceKey(known.id);
    const conditions = [
      { key, revision: known.revision },
      { key: this.#records.nodeKey(this.#nodeId, lease), exists: true },
    ];
    const before = known.row.leader;
    if (!mayLive && before && !known.row.released) {
      const leader = this.#records.nodeKey(before.nodeId, before.session);
      conditions.push({ key: leader, exists: false });
    }
    const value = encodeSpaceRow(row);
    const revision = await this.#session.write(conditions, [{ key, value }]);
    if (revision === undefined) {
      // Somebody was quicker: what they wrote is what counts.
      await this.#session.get(key).catch(() => undefined);
      return false;
    }
    this.#records.changed([key]);
    return true;
  }

  /** Goes on in the epoch that this node was given last, and nobody has been given one since. */
  async #resume(known: Known, epoch: Epoch): Promise<void> {
    const leader = { nodeId: this.#nodeId, session: this.#session.lease ?? '' };
    const isOwnLife = known.row.leader?.nodeId === this.#nodeId;
    const row = { ...known.row, leader, released: false };
    if (!(await this.#put(known, row, isOwnLife))) return;
    if (this.#session.lease !== leader.session) return;
    this.#leads(row.name, epoch);
    this.#node!.resume(row.name, epoch);
  }

  async claim(space: string, above: Epoch, from?: string): Promise<Epoch> {
    if (!this.#isAnnounced) throw this.#noLease(space);
    const known = this.#records.space(this.#records.idOf(space));
    if (!known) throw failure('SpaceUnknown', `etcd knows no space ${space}`);
    const { row } = known;
    const mayLive = row.leader?.nodeId === this.#nodeId || row.leader?.nodeId === from;
    if (leads(row, this.#records.sessions) && !mayLive) throw this.#notPrimary(row);
    const epoch = nextEpoch(row, above);
    const leader = { nodeId: this.#nodeId, session: this.#session.lease! };
    const next = { ...row, epoch, leader, released: false };
    this.#claims.set(space, 'asked');
    try {
      const isDone = await this.#put(known, next, mayLive);
      if (!isDone) throw this.#notPrimary(this.#records.space(known.id)?.row ?? row);
      if (this.#session.lease !== leader.session) throw this.#noLease(space);
      this.#claims.set(space, 'given');
      this.#leads(space, epoch);
      return epoch;
    } catch (error) {
      this.#claims.delete(space);
      throw error;
    }
  }

  #noLease(space: string): EngramError {
    return failure('CoordinatorUnavailable', `no lease of etcd is held: ${space} waits for it`);
  }

  #notPrimary(row: SpaceRow): EngramError {
    const { nodeId, address } = this.leaderOf(row.name) ?? {};
    const who = nodeId === undefined ? 'another node was quicker' : `${nodeId} leads it`;
    return failure('NotPrimary', `${row.name} is not for ${this.#nodeId} to lead: ${who}`, {
      details: { primaryNodeId: nodeId, address },
    });
  }

  async release(space: string, epoch: Epoch): Promise<void> {
    this.#claims.delete(space);
    const known = this.#records.space(this.#records.idOf(space));
    if (!known || known.row.epoch !== epoch || !this.#isOwn(known.row)) return;
    this.#led.delete(space);
    this.#replicated.delete(space);
    this.#node?.stepDown(space, 'given up');
    await this.#put(known, { ...known.row, released: true });
  }

  #rowOf(space: string): SpaceRow | undefined {
    return this.#records.space(this.#records.idOf(space))?.row;
  }

  floorOf(space: string): Floor | undefined {
    return this.#rowOf(space)?.floor;
  }

  async writeFloor(space: string, floor: Floor): Promise<void> {
    const row = this.#rowOf(space);
    if (row && this.#isOwn(row)) await this.#placing.writeFloor(space, floor);
  }

  async holds(space: string, epoch: Epoch): Promise<boolean> {
    await this.#session.get(this.#records.spaceKey(this.#records.idOf(space)));
    const row = this.#rowOf(space);
    return this.#isAnnounced && row !== undefined && row.epoch === epoch && this.#isOwn(row);
  }

  lives(nodeId: string): boolean {
    return !this.#session.isUp || this.#records.living.has(nodeId);
  }

  leaderOf(space: string): Leader | undefined {
    const row = this.#rowOf(space);
    if (!row?.leader || !leads(row, this.#records.sessions)) return undefined;
    const { nodeId } = row.leader;
    const at = this.#records.living.get(nodeId);
    return { nodeId, epoch: row.epoch, address: at && { host: at.host, port: at.port } };
  }

  async place(space: string, lead: boolean | undefined): Promise<Placement> {
    await this.#whenAnnounced();
    const { nodeIds } = await this.#placing.place(space, lead);
    this.#compareOne(this.#records.idOf(space));
    return { nodeIds, leader: this.leaderOf(space) };
  }

  led(): ReadonlyMap<string, number> | undefined {
    return this.#isAnnounced ? this.#records.led() : undefined;
  }

  removeNode(nodeId: string): Promise<void> {
    return this.#placing.removeNode(nodeId);
  }

  async close(): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    clearInterval(this.#tick);
    for (const wake of this.#awaiting) wake();
    this.#candidacy.stop();
    this.#led.clear();
    await this.#session.close();
  }
}
