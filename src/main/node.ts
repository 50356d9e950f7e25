/** A node: puts its parts together, and takes them down again. */
import { randomBytes } from 'node:crypto';
import { failure } from '../shared/errors.js';
import { frameBytesOf } from '../shared/limits.js';
import { type Member, sameMembers } from '../shared/node-record.js';
import type { Lsn } from '../shared/position.js';
import type { PositionRow, SpaceRow } from '../shared/protocol.js';
import { allocateMemory, NodeMemory } from '../shared/slab.js';
import { newSpaceFacts, roleRecord, type SpaceFacts } from '../shared/state.js';
import { Applier, manyListeners } from './apply.js';
import { type Address, type NodeConfig, refuseUnknown } from './config.js';
import type { Disk, Lock } from './disk.js';
import { NodeEmitter } from './events.js';
import { idOf, spaceIdOf } from './names.js';
import type { NodeStatus, OpenSpaceOptions } from './node-types.js';
import { LogReader } from './reader.js';
import { ReceiverServer } from './receiver-server.js';
import type { Recovered } from './recovery.js';
import { Replication, type SpaceAnswer } from './replication.js';
import { SealerPool } from './sealer-pool.js';
import { Segments } from './segments.js';
import { Space, type SpaceParts } from './space.js';
import { type SpaceState, SpaceTable } from './space-table.js';
import { StateKeeper } from './state-keeper.js';
import { Wal } from './wal.js';

export class Node extends NodeEmitter {
  readonly #config: NodeConfig;
  readonly #lock: Lock;
  readonly #salt: number;
  readonly #dir: string;
  readonly #incarnation = randomBytes(8).readBigUInt64LE();
  readonly #memory: NodeMemory;
  readonly #spaces: SpaceTable;
  readonly #segments: Segments;
  readonly #pool: SealerPool;
  readonly #reader: LogReader;
  readonly #state: StateKeeper;
  readonly #stop = manyListeners(new AbortController());
  readonly #handles = new Map<SpaceState, Space>();
  readonly #end: Lsn;
  #wal: Wal | undefined;
  #replication: Replication | undefined;
  #receiver: ReceiverServer | undefined;
  #applier: Applier | undefined;
  #address: Address | undefined;
  /** Changes of roles come one after the other. */
  #roles: Promise<unknown> = Promise.resolve();
  #closed: Promise<void> | undefined;

  /** Made by `openNode`. */
  constructor(
    config: NodeConfig,
    disk: Disk,
    dir: string,
    salt: number,
    lock: Lock,
    recovered: Recovered,
  ) {
    super();
    this.#config = config;
    this.#lock = lock;
    this.#salt = salt;
    this.#dir = dir;
    this.#end = recovered.end;
    const { groupBytes, memoryBudgetBytes, maxSpaces, segmentBytes } = config;
    this.#memory = new NodeMemory(allocateMemory(groupBytes, memoryBudgetBytes, maxSpaces));
    this.#spaces = new SpaceTable(this.#memory);
    this.#memory.setAllocated(0, recovered.nodeSequence);
    this.#memory.setDurable(0, recovered.nodeSequence);
    const { segments, spares, stateGeneration } = recovered;
    this.#segments = new Segments(disk, dir, segmentBytes, segments, spares);
    this.#pool = new SealerPool(this.#memory.memory, config.sealerThreads);
    const parts = [disk, dir, this.#memory, this.#spaces, this.#segments] as const;
    this.#reader = new LogReader(...parts, salt);
    this.#state = new StateKeeper(...parts, stateGeneration);
  }

  /** Once, by `openNode`. */
  async start(recovered: Recovered): Promise<void> {
    const { fsync: mode, groupBytes, segmentBytes } = this.#config;
    await this.#segments.open();
    for (const facts of recovered.spaces) this.#spaces.add(facts);
    // Before the segment grows: from now on each group adds itself to its index.
    await this.#reader.indexOf(this.#segments.current);
    const options = { mode, groupBytes, segmentBytes, salt: this.#salt, end: this.#end };
    this.#wal = new Wal(this.#memory, this.#spaces, this.#segments, this.#pool, options, {
      durable: (spaces) => this.#receiver?.flushed(spaces),
      rolled: () => void this.#state.write().catch((error) => this.#stateFailed(error)),
      failed: (error) => this.emit('fatal', { error }),
    });
    // The list of live segments is durable before the log grows behind it.
    await this.#state.write();
    await this.#segments.goOn(recovered.empty);
    if (recovered.torn) this.emit('torn-tail', recovered.torn);
    this.#startApply();
    this.#startReplication();
    if (this.#config.listen) await this.#listen(this.#config.listen);
    await this.#confirm(this.#spaces.spaces.filter((s) => s.facts.role === 'primary'));
    this.release();
  }

  #stateFailed(error: unknown): void {
    // The log is the truth and goes on; the older generation stays valid.
    process.emitWarning(`the state was not written: ${String(error)}`, 'EngramWalWarning');
  }

  #startApply(): void {
    const { apply, appliedUpTo } = this.#config;
    if (!apply) return;
    this.#applier = new Applier(apply, appliedUpTo, this.#reader, this.#wal!, {
      applied: (space, sequence) => this.#receiver?.applied(space, sequence),
      failed: (space, from, attempts, error) =>
        this.emit('apply-failed', { space: space.facts.name, from, attempts, error }),
      blocked: (space, applied) =>
        this.emit('apply-blocked', {
          space: space.facts.name,
          applied,
          log: space.facts.position.sequence,
        }),
    });
    for (const space of this.#spaces.spaces) {
      if (space.facts.role === 'replica') this.#applier.start(space);
    }
  }

  #startReplication(): void {
    const config = this.#config;
    const facts = {
      clusterId: config.clusterId,
      nodeId: config.nodeId,
      nodeHash: idOf(config.nodeId),
      incarnation: this.#incarnation,
      dataDir: this.#dir,
      salt: this.#salt,
      maxEntryBytes: config.maxEntryBytes,
      windowBytes: config.windowBytes,
      catchUpBatchBytes: config.catchUpBatchBytes,
      connectTimeoutMs: config.connectTimeoutMs,
      backoffStepsMs: config.backoffStepsMs,
    };
    const spaces = this.#spaces;
    const replication = new Replication(
      config,
      facts,
      this.#memory,
      spaces,
      this.#segments,
      this.#reader,
      this.#wal!,
      {
        state: ({ replica, link }) =>
          this.emit('replica-state', {
            replicaId: replica.nodeId,
            state: link.state,
            reason: link.reason,
            consecutiveFailures: link.failures,
            fatal: link.fatal,
          }),
        lost: ({ replica }, reason) =>
          this.emit('shipper-lost', { replicaId: replica.nodeId, reason }),
        refused: (space, replicaId, verdict) =>
          this.emit('replica-refused', { space: space.facts.name, replicaId, verdict }),
      },
    );
    this.#replication = replication;
    const led = spaces.spaces.filter((s) => s.facts.role === 'primary');
    for (const space of led) space.replicas = replicasOf(config, space.facts);
    replication.lead(led);
  }

  async #listen(listen: Address): Promise<void> {
    const { clusterId, nodeId, maxEntryBytes, catchUpBatchBytes } = this.#config;
    this.#receiver = new ReceiverServer({
      clusterId,
      nodeId,
      incarnation: this.#incarnation,
      maxEntryBytes,
      maxFrameBytes: frameBytesOf(maxEntryBytes, catchUpBatchBytes),
      wal: this.#wal!,
      spaceById: (id) => this.#spaces.byId(id),
      register: (primaryId, rows) => this.#serially(() => this.#register(primaryId, rows)),
      connection: (primaryId, connected, reason) =>
        this.emit('primary-connection', { primaryId, connected, reason }),
    });
    this.#address = await this.#receiver.listen(listen);
  }

  get nodeId(): string {
    return this.#config.nodeId;
  }

  /** Where this node listens, with the port that was bound; undefined without `listen`. */
  get address(): Address | undefined {
    return this.#address;
  }

  // --- spaces ------------------------------------------------------------------------------

  /**
   * Opens a space: the one that is here or, where this node leads, a new one. Before the first
   * append of a led space its reachable replicas have told where they stand.
   * Rejects Configuration, SpaceUnknown, ReplicaNotFound, StalePrimary, WalFailed, Closed.
   */
  async openSpace(name: string, options: OpenSpaceOptions = {}): Promise<Space> {
    this.#checkOpen();
    refuseUnknown('openSpace', options, ['lead', 'replicas']);
    const id = spaceIdOf(name);
    const ids = this.#config.replicas.map((r) => r.nodeId);
    for (const replica of options.replicas ?? []) {
      if (!ids.includes(replica)) {
        const known = ids.join(', ') || 'none';
        throw failure('ReplicaNotFound', `${replica} is none of the replicas: ${known}`);
      }
    }
    const state = await this.#serially(() => this.#open(id, name, options));
    return this.#handle(state);
  }

  async #open(id: string, name: string, options: OpenSpaceOptions): Promise<SpaceState> {
    const known = this.#spaces.byId(id);
    const replicas = options.replicas ?? this.#config.replicas.map((r) => r.nodeId);
    if (known) {
      const { role } = known.facts;
      if (role === 'primary' && replicas.join() !== known.replicas.join()) {
        await this.#replicateTo(known, replicas);
      }
      if (known.refusal) throw known.refusal;
      return known;
    }
    if (!(options.lead ?? this.#config.lead)) {
      throw failure('SpaceUnknown', `${name} is not here, and this node was not told to lead it`);
    }
    const { openConfirmMs } = this.#config;
    const answers = await this.#replication!.ask(id, name, replicas, openConfirmMs);
    if (answers.silent.length > 0) {
      this.emit('unconfirmed-open', { spaces: [name], silent: answers.silent });
    }
    const best = answers.known.sort((a, b) => b.epoch - a.epoch)[0];
    if (best) return await this.#join(id, name, best);
    const facts = newSpaceFacts(id, name);
    facts.role = 'primary';
    facts.epoch = 1;
    facts.epochSeen = 1;
    facts.primary = this.#config.nodeId;
    facts.members = this.#members(replicas);
    const state = await this.#create(facts);
    state.replicas = replicas;
    this.#replication!.lead([state]);
    return state;
  }

  /** Another member knows the space: here it becomes a replica, and waits to be dialled. */
  async #join(id: string, name: string, answer: SpaceAnswer): Promise<SpaceState> {
    if (answer.primary === this.#config.nodeId) {
      throw failure(
        'StalePrimary',
        `${answer.replicaId} has ${name} from this node in epoch ${answer.epoch}; it is not here`,
      );
    }
    const facts = newSpaceFacts(id, name);
    facts.epoch = answer.epoch;
    facts.epochSeen = answer.epoch;
    facts.primary = answer.primary;
    return await this.#create(facts);
  }

  /** Before the first ack: what do the replicas that can be reached say of these spaces? */
  async #confirm(spaces: readonly SpaceState[]): Promise<void> {
    const silent = await this.#replication!.confirm(spaces, this.#config.openConfirmMs);
    if (silent.length === 0) return;
    this.emit('unconfirmed-open', { spaces: spaces.map((s) => s.facts.name), silent });
  }

  /** Gives a led space another set of replicas, durably. */
  async #replicateTo(space: SpaceState, replicas: readonly string[]): Promise<void> {
    const members = this.#members(replicas);
    await this.#wal!.record(roleRecord({ ...space.facts, members }));
    space.facts.members = members;
    space.replicas = replicas;
    this.#replication!.lead([space]);
    await this.#confirm([space]);
  }

  /** This node, where it can be dialled, and the named replicas. */
  #members(replicas: readonly string[]): Member[] {
    const { nodeId } = this.#config;
    const own = this.#address ? [{ nodeId, ...this.#address }] : [];
    return [...own, ...this.#config.replicas.filter((r) => replicas.includes(r.nodeId))];
  }

  /** Makes a space known here, durably. */
  async #create(facts: SpaceFacts): Promise<SpaceState> {
    this.#spaces.reserve(facts);
    await this.#wal!.record(roleRecord(facts)).catch((error) => {
      this.#spaces.unreserve(facts);
      throw error;
    });
    const state = this.#spaces.add(facts);
    this.#roleChanged(state);
    return state;
  }

  #roleChanged(space: SpaceState): void {
    const { name, role, epoch, primary } = space.facts;
    this.emit('space-role', { space: name, role, epoch, primaryId: primary });
    if (role === 'replica') this.#applier?.start(space);
  }

  /** A primary introduces its spaces to this node. */
  async #register(primaryId: string, rows: readonly SpaceRow[]): Promise<PositionRow[]> {
    return await Promise.all(rows.map((row) => this.#registerOne(primaryId, row)));
  }

  async #registerOne(primaryId: string, row: SpaceRow): Promise<PositionRow> {
    const { handle } = row;
    let space = this.#spaces.byId(row.id);
    if (!space) {
      if (spaceIdOf(row.name) !== row.id) {
        throw failure('ProtocolViolation', `the id ${row.id} is not that of ${row.name}`);
      }
      const facts = newSpaceFacts(row.id, row.name);
      facts.epoch = row.epoch;
      facts.epochSeen = row.epoch;
      facts.primary = primaryId;
      facts.members = row.members;
      space = await this.#create(facts);
    }
    const { facts } = space;
    const { epochSeen } = facts;
    if (facts.role === 'primary') return positionRow(handle, 'leads', space, 0);
    if (row.epoch < epochSeen) return positionRow(handle, 'follows', space, 0);
    if (row.epoch === facts.epoch && facts.primary !== primaryId) {
      return positionRow(handle, 'refused', space, 0);
    }
    const isNews = row.epoch !== facts.epoch || !sameMembers(facts.members, row.members);
    if (isNews) {
      const next = { ...facts, epoch: row.epoch, primary: primaryId, members: row.members };
      await this.#wal!.record(roleRecord(next));
      facts.primary = primaryId;
      facts.members = row.members;
      space.primaryId = idOf(primaryId);
      this.#spaces.setEpoch(space, row.epoch);
      this.#roleChanged(space);
    }
    // What an older connection has staged is on its way; the position is what is durable.
    await this.#wal!.whenDurable(space, this.#memory.allocated(space.slot));
    this.#applier?.start(space);
    return positionRow(handle, 'follows', space, this.#appliedTo(space));
  }

  /** A handle to a space that is here. Throws SpaceUnknown, Closed. */
  space(name: string): Space {
    this.#checkOpen();
    const state = this.#spaces.byName(name);
    if (!state) throw failure('SpaceUnknown', `${name} is not on node ${this.#config.nodeId}`);
    return this.#handle(state);
  }

  #handle(state: SpaceState): Space {
    let handle = this.#handles.get(state);
    if (!handle) {
      const parts: SpaceParts = {
        config: this.#config,
        memory: this.#memory,
        wal: this.#wal!,
        reader: this.#reader,
        replication: this.#replication!,
        stop: this.#stop.signal,
        appliedTo: (space) => this.#appliedTo(space),
      };
      handle = new Space(parts, state);
      this.#handles.set(state, handle);
    }
    return handle;
  }

  #appliedTo(space: SpaceState): number {
    return this.#applier?.appliedTo(space) ?? space.facts.applied;
  }

  #serially<T>(work: () => Promise<T>): Promise<T> {
    const done = this.#roles.then(work);
    this.#roles = done.catch(() => undefined);
    return done;
  }

  #checkOpen(): void {
    if (this.#stop.signal.aborted) throw failure('Closed', `node ${this.nodeId} is closed`);
  }

  // --- status and end ------------------------------------------------------------------------

  /** The figures of this node, as of now: plain objects. */
  status(): NodeStatus {
    const { memory } = this.#memory;
    return {
      nodeId: this.#config.nodeId,
      clusterId: this.#config.clusterId,
      address: this.#address,
      durableLsn: this.#memory.durableLsn,
      segments: this.#segments.list.length,
      memory: {
        slabs: memory.slabCount,
        inUse: this.#wal?.slabsInUse ?? 0,
        bytes: memory.slabs.byteLength,
      },
      failure: this.#wal?.failure?.message.split('\n', 1)[0],
      replicas: (this.#replication?.shippers ?? []).map(({ replica, link }) => ({
        replicaId: replica.nodeId,
        state: link.state,
        reason: link.reason,
        consecutiveFailures: link.failures,
      })),
      spaces: this.#spaces.spaces.map((space) => this.#handle(space).status()),
    };
  }

  /**
   * Stops intake, makes durable what was appended, ships it up to a deadline of 5 s, and frees the
   * directory. Safe to call twice. What could not be flushed has rejected already.
   */
  close(): Promise<void> {
    this.#closed ??= this.#close();
    return this.#closed;
  }

  async #close(): Promise<void> {
    this.#stop.abort();
    try {
      // First of all: what primaries send would never let the log come to rest.
      await this.#receiver?.close('the node closes');
      await this.#roles;
      await this.#wal?.flush().catch(() => undefined);
      await this.#replication?.close();
      await this.#applier?.close();
      await this.#wal?.close().catch(() => undefined);
      if (this.#wal && !this.#wal.failure) {
        await this.#state.write().catch((error) => this.#stateFailed(error));
      }
      if (!this.#wal) await this.#segments.close();
    } finally {
      await this.#pool.close();
      this.#lock.release();
    }
  }
}

function positionRow(
  handle: number,
  answer: PositionRow['answer'],
  space: SpaceState,
  applied: number,
): PositionRow {
  const { epochSeen, position } = space.facts;
  return { handle, answer, epochSeen, position, applied };
}

/** The configured replicas that the space's durable members name. */
function replicasOf(config: NodeConfig, facts: SpaceFacts): string[] {
  const members = facts.members.map((m) => m.nodeId);
  return config.replicas.map((r) => r.nodeId).filter((id) => members.includes(id));
}
