/** What the host holds of a node: its parts are behind it, out of reach. */

import type { Address } from '../../shared/address.js';
import { failure } from '../../shared/errors.js';
import { readGiven } from '../../shared/host-input.js';
import type { Member } from '../../shared/log/node-record.js';
import type { SwitchoverOptions, SwitchoverReport } from '../lead/handover.js';
import type { Located } from '../lead/leadership.js';
import type { OpenSpaceOptions, RemoveOptions } from '../lead/options.js';
import type { PromoteOptions } from '../lead/promotion/promotion.js';
import type { PromotionReport } from '../lead/promotion/report.js';
import type { SharingReport } from '../lead/sharing.js';
import type { SpaceState } from '../log/space-table.js';
import { checkReplica } from '../options/relations.js';
import { AppendCalls } from '../peer/append-calls.js';
import { type Abortable, abortable, withoutSignal } from '../runtime/abort.js';
import { stayAlive } from '../runtime/alive.js';
import type { EventStream } from '../tell/event-waits.js';
import type { NodeEventName, NodeEvents } from '../tell/events.js';
import type { RecentEvent } from '../tell/logger.js';
import type { Scrape } from '../watch/metrics.js';
import type { NodeStatus, NodeSummary } from '../watch/status.js';
import type { BackupOptions, BackupReport } from './backup.js';
import type { FollowPart } from './follow-part.js';
import type { LeadPart } from './lead-part.js';
import type { LogPart } from './log-part.js';
import { type MemberAppendOptions, MemberAppends } from './member-appends.js';
import { endAll, type Ground, type Parts } from './parts.js';
import { type Codec, checkCodec, type WithCodec } from './space/codec.js';
import type { Appended } from './space/options.js';
import { TypedSpace } from './space/typed.js';
import type { Space } from './space.js';
import type { SpaceHandles } from './space-handles.js';
import type { WatchPart } from './watch-part.js';

/** For `openNode`; no host can reach it. */
export let handleTo: (ground: Ground, parts: Parts, release: () => Promise<void>) => Node;

/** Made by `openNode`. */
export class Node {
  readonly #ground: Ground;
  readonly #log: LogPart;
  readonly #follow: FollowPart;
  readonly #lead: LeadPart;
  readonly #watch: WatchPart;
  readonly #handles: SpaceHandles;
  readonly #appends: MemberAppends;
  readonly #end: () => Promise<void>;
  readonly #closed: { yet?: Promise<void> } = {};

  static {
    handleTo = (ground, parts, release) => new Node(ground, parts, release);
  }

  private constructor(ground: Ground, parts: Parts, release: () => Promise<void>) {
    this.#ground = ground;
    this.#log = parts.log;
    this.#follow = parts.follow;
    this.#lead = parts.lead;
    this.#watch = parts.watch;
    this.#handles = parts.handles;
    const { nodeId, maxEntryBytes, readTimeoutMs, applyWhenLeading } = ground.config;
    const { log, lead, handles } = parts;
    const calls = new AppendCalls(lead.peers, readTimeoutMs / 2);
    const own = { nodeId, maxEntryBytes, applyWhenLeading, spaces: log.spaces };
    this.#appends = new MemberAppends({ ...own, lead, handles, calls });
    this.#end = () => endAll(ground, parts).finally(release);
  }

  get nodeId(): string {
    return this.#ground.config.nodeId;
  }

  /** Where this node listens, with the port that was bound; undefined without `listen`. */
  get address(): Address | undefined {
    return this.#follow.address;
  }

  /** Where this node answers over HTTP, with the port that was bound; undefined without `http`. */
  get httpAddress(): Address | undefined {
    return this.#watch.http?.address;
  }

  /** `close()` was called: it takes no more work. */
  get isClosing(): boolean {
    return this.#ground.stop.signal.aborted;
  }

  /** Throws Configuration for an event that there is not, or a listener that is no function. */
  on<K extends NodeEventName>(name: K, listener: (event: NodeEvents[K]) => void): this {
    this.#ground.emitter.on(name, listener);
    return this;
  }

  off<K extends NodeEventName>(name: K, listener: (event: NodeEvents[K]) => void): this {
    this.#ground.emitter.off(name, listener);
    return this;
  }

  /**
   * The next event of a name. Rejects Configuration, Aborted, and Closed when the node closes
   * before.
   */
  async once<K extends NodeEventName>(name: K, options?: Abortable): Promise<NodeEvents[K]> {
    const [signal] = withoutSignal('once', options, []);
    return await this.#ground.emitter.once(name, signal);
  }

  /**
   * Events from the call on, in order, each with its name: of these names, or of all. Ends when the
   * signal is aborted, the loop is left or the node closes; throws Backpressure where 1,000 wait.
   * Throws Configuration.
   */
  events<K extends NodeEventName>(names?: readonly K[], options?: Abortable): EventStream<K> {
    const [signal] = withoutSignal('events', options, []);
    return this.#ground.emitter.events(names, signal);
  }

  /** The last events, oldest first, as people are told of them. */
  get recentEvents(): readonly RecentEvent[] {
    return this.#watch.recentEvents;
  }

  // --- spaces ------------------------------------------------------------------------------

  /**
   * Opens a space: the one that is here or, where this node leads, a new one. Before the first
   * append of a led space its reachable replicas have told where they stand.
   * With a `codec` its entries are values of the host's.
   * Rejects Configuration, SpaceUnknown, ReplicaNotFound, StalePrimary, WalFailed, Aborted, Closed.
   */
  openSpace<T>(
    name: string,
    options: OpenSpaceOptions & WithCodec<T> & Abortable,
  ): Promise<TypedSpace<T>>;
  openSpace(name: string, options?: OpenSpaceOptions & Abortable): Promise<Space>;
  async openSpace<T>(
    name: string,
    options?: OpenSpaceOptions & Abortable & Partial<WithCodec<T>>,
  ): Promise<Space | TypedSpace<T>> {
    this.#checkOpen();
    const [signal, given] = withoutSignal<OpenSpaceOptions & WithCodec<T>>('openSpace', options, [
      'lead',
      'replicas',
      'codec',
    ]);
    const { codec, ...asked } = given;
    if (codec !== undefined) checkCodec(codec);
    const { leadership } = this.#lead;
    const state = await waited('openSpace', signal, () => leadership.openSpace(name, asked));
    return this.#handle(state, codec);
  }

  /**
   * Appends to a space whoever leads it: here where this node does, else it is led there, once, on
   * a connection between members. `timeoutMs` (5,000) is for all of it. Where the connection is
   * lost before the answer is here it rejects OutcomeUnknown, and nobody tries again. With `here`
   * it resolves when this member has flushed the entry too, with `until: 'applied'` when its own
   * `apply` has returned for it; AckTimeout has `details.sequence` then.
   * Rejects as `Space.append` does on the node that leads; SpaceUnknown, Backpressure (256 of this
   * node, or 16 MiB, are on their way), and as `locate` does, where nothing was sent.
   */
  async append(
    space: string,
    type: number,
    payload: Uint8Array,
    options?: MemberAppendOptions,
  ): Promise<Appended> {
    this.#checkOpen();
    return await this.#appends.append(space, type, payload, options);
  }

  /** A handle to a space that is here. Throws SpaceUnknown, Closed, Configuration. */
  space<T>(name: string, options: WithCodec<T>): TypedSpace<T>;
  space(name: string): Space;
  space<T>(name: string, options?: Partial<WithCodec<T>>): Space | TypedSpace<T> {
    this.#checkOpen();
    const { codec } = readGiven<WithCodec<T>>('space', options, ['codec']);
    if (codec !== undefined) checkCodec(codec);
    const state = this.#log.spaces.byName(name);
    if (!state) throw failure('SpaceUnknown', `${name} is not on node ${this.nodeId}`);
    return this.#handle(state, codec);
  }

  #handle<T>(state: SpaceState, codec: Codec<T> | undefined): Space | TypedSpace<T> {
    const space = this.#handles.of(state);
    return codec === undefined ? space : new TypedSpace(space, codec);
  }

  /** Handles to all spaces that are here. */
  get spaces(): readonly Space[] {
    return this.#watch.spaces;
  }

  // --- who leads, and who follows ------------------------------------------------------------

  /**
   * Ships to one more node: every led space that goes to all the others goes to it as well, and
   * is durably its. It counts, for acknowledgements and promotions, once it has caught up and the
   * members have agreed; that goes on by itself (`status().spaces[].members`, `members-changed`).
   * One that is shipped to already, under another address: it has moved, and is dialled there.
   * Rejects Configuration, WalFailed, DiskFull, Closed.
   */
  async addReplica(replica: Member): Promise<void> {
    this.#checkOpen();
    const { config, emitter } = this.#ground;
    if (config.coordinator.kind === 'etcd') {
      throw failure('Configuration', 'addReplica: etcd says which nodes a space is on');
    }
    const member = checkReplica(replica, config);
    await stayAlive(this.#lead.leadership.replicas.add(member));
    emitter.emit('replica-set', { replicaId: member.nodeId, change: 'added' });
  }

  /**
   * Ships to this node no more and keeps nothing for it: its slots are gone (row 55). Resolves when
   * the members have agreed that it does not count any more. With etcd: a node that is lost for
   * good is on no space any more, and others take its place.
   * Rejects ReplicaNotFound, NotEnoughReplicas (too few of the members answer: it goes on, and
   * `force` does it without them), Configuration (etcd, and it lives), WalFailed, DiskFull, Closed.
   */
  async removeReplica(replicaId: string, options?: RemoveOptions & Abortable): Promise<void> {
    this.#checkOpen();
    const { leadership } = this.#lead;
    const [signal, asked] = withoutSignal<RemoveOptions>('removeReplica', options, ['force']);
    await waited('removeReplica', signal, () => leadership.removeReplica(replicaId, asked));
    this.#ground.emitter.emit('replica-set', { replicaId, change: 'removed' });
    await stayAlive(this.#log.retention.run());
  }

  /**
   * Reads the files of `keyFile` and `tls` now; they are looked at every 5 s anyway. Connections
   * that stand go on, but for those that were made by a key or an authority that was taken away;
   * new ones are made with what was read.
   * Rejects Configuration where a file is wrong: what was in force stays so. Closed.
   */
  async reloadCredentials(): Promise<void> {
    this.#checkOpen();
    await stayAlive(this.#ground.credentials.reload());
  }

  /**
   * Copies this directory while the node runs: what is durable now, verified as a whole before the
   * target gets its name. The copy has a directory id of its own; opened, it follows whoever leads,
   * and leads by force alone. What it is copied from is kept until it is done.
   * @param target a directory that is not there yet
   * Rejects Configuration, CorruptionDetected (the copy is not sound), DiskFull, Io, Closed.
   */
  async backup(target: string, options?: BackupOptions & Abortable): Promise<BackupReport> {
    this.#checkOpen();
    const [signal, given] = withoutSignal<BackupOptions>('backup', options, ['nodeId']);
    return await waited('backup', signal, () => this.#log.backups.take(target, given));
  }

  /**
   * Makes this node the primary of a space that it has (DESIGN 9): where enough members answer and
   * none is ahead of it; with `force` anyway. Resolves when appends are taken here, and tells what
   * is lost.
   * Rejects PromotionRefused (it says what would be lost, against whom), SpaceUnknown, WalFailed.
   */
  async promote(space: string, options?: PromoteOptions & Abortable): Promise<PromotionReport> {
    this.#checkOpen();
    const known = ['force', 'dryRun', 'replicas'] as const;
    const [signal, asked] = withoutSignal<PromoteOptions>('promote', options, known);
    return await waited('promote', signal, () => this.#lead.leadership.promote(space, asked));
  }

  /**
   * Hands a space that this node leads to one of its replicas: nothing is lost, appends are refused
   * (SwitchingOver) for the time that the report tells. Eight go to one node at a time, others wait
   * for their turn. Who has just been added is waited for until it counts. Rejects NotPrimary,
   * ReplicaNotFound, NotEnoughReplicas, AckTimeout, SwitchingOver (it is handed over already),
   * PromotionRefused; then this node leads on.
   */
  async switchover(
    space: string,
    to: string,
    options?: SwitchoverOptions & Abortable,
  ): Promise<SwitchoverReport> {
    this.#checkOpen();
    const { leadership } = this.#lead;
    const [signal, asked] = withoutSignal<SwitchoverOptions>('switchover', options, ['timeoutMs']);
    return await waited('switchover', signal, () => leadership.switchover(space, to, asked));
  }

  /**
   * Before this node is worked on: hands every space that it leads to one of its replicas, to whom
   * of them leads least; nothing is lost. With etcd it leads nothing that another node can until it
   * is opened again, or until `rebalance`. What could not be handed over is led here still, and
   * named in the report. Rejects CoordinatorUnavailable, Aborted, Closed.
   */
  async drain(options?: Abortable): Promise<SharingReport> {
    this.#checkOpen();
    const [signal] = withoutSignal('drain', options, []);
    return await waited('drain', signal, () => this.#lead.leadership.sharing.drain());
  }

  /**
   * Hands over as many of the spaces that this node leads as it leads more than others, to whom
   * leads least. With etcd nodes do it by themselves, slowly. Rejects as `drain`.
   */
  async rebalance(options?: Abortable): Promise<SharingReport> {
    this.#checkOpen();
    const [signal] = withoutSignal('rebalance', options, []);
    return await waited('rebalance', signal, () => this.#lead.leadership.sharing.rebalance());
  }

  /** Who leads a space, and where: asks its members. Rejects SpaceUnknown, NotPrimary (nobody). */
  async locate(space: string, options?: Abortable): Promise<Located> {
    this.#checkOpen();
    const [signal] = withoutSignal('locate', options, []);
    return await waited('locate', signal, () => this.#lead.leadership.locate(space));
  }

  // --- status and end ------------------------------------------------------------------------

  /** The figures of this node and all its spaces, as of now: plain objects. */
  status(): NodeStatus {
    return { ...this.summary(), spaces: this.spaces.map((space) => space.status()) };
  }

  /** `status()` without the spaces: it costs the same however many there are. */
  summary(): NodeSummary {
    return this.#watch.summary();
  }

  /**
   * All metrics as of now, in the text format of Prometheus (or of the host's own registry): to be
   * served as it is. Rejects WorkerLost, Closed.
   */
  async metrics(options?: Abortable): Promise<Scrape> {
    this.#checkOpen();
    const [signal] = withoutSignal('metrics', options, []);
    return await waited('metrics', signal, () => this.#watch.metrics());
  }

  /**
   * Stops intake, makes durable what was appended, ships it up to a deadline of 5 s, and frees the
   * directory. Callbacks of the host that are under way have 5 s to return; what they were given
   * comes again. Safe to call twice. What could not be flushed has rejected already.
   */
  close(): Promise<void> {
    this.#closed.yet ??= stayAlive(this.#end());
    return this.#closed.yet;
  }

  /** `await using node = await openNode(...)`: closes it. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  #checkOpen(): void {
    if (this.isClosing) throw failure('Closed', `node ${this.nodeId} is closed`);
  }
}

/** The process lives until it has settled, or the host waits no more. */
function waited<T>(what: string, signal: AbortSignal | undefined, work: () => Promise<T>) {
  return stayAlive(abortable(what, signal, work));
}
