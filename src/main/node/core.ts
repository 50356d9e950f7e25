/** A node behind its handle: puts its parts together, and takes them down again. */
import { randomBytes } from 'node:crypto';
import path from 'node:path';
import type { Address } from '../../shared/address.js';
import { failure } from '../../shared/errors.js';
import { frameBytesOf, MAIN_BEAT_MS } from '../../shared/limits.js';
import type { Hole } from '../../shared/log/state.js';
import type { NodeMemory } from '../../shared/memory/slab.js';
import type { Lsn } from '../../shared/position.js';
import { Applier, manyListeners } from '../follow/apply.js';
import { CheckpointFollower } from '../follow/checkpoint-follower.js';
import { PrimaryLinks } from '../follow/primary-links.js';
import { ReceiverServer } from '../follow/server.js';
import { type Coordinator, leaseRefusal } from '../lead/coordinator.js';
import { Leadership } from '../lead/leadership.js';
import type { OpenSpaceOptions } from '../lead/options.js';
import { Renewal } from '../lead/renewal.js';
import type { LostAppends } from '../log/lost-appends.js';
import { Retention } from '../log/retention/retention.js';
import { StateKeeper } from '../log/retention/state-keeper.js';
import { type SpaceState, SpaceTable } from '../log/space-table.js';
import { Wal } from '../log/wal.js';
import { NodeCounts } from '../log/write/counts.js';
import { SealerPool } from '../log/write/sealer-pool.js';
import { LogWriter } from '../log/write/writer.js';
import type { NodeConfig } from '../options/options.js';
import { PeerClient, type PeerIdentity } from '../peer/client.js';
import { peerHandlers } from '../peer/handlers.js';
import { Damage, damagedEntries } from '../read/damage.js';
import type { DamagedEntries } from '../read/events.js';
import { LogReader } from '../read/reader.js';
import { type OpenedNodeFile, settleCopy } from '../recovery/node-file.js';
import type { Openings } from '../recovery/openings.js';
import type { Recovered } from '../recovery/recovery.js';
import { askable, Repairer } from '../repair/repairer.js';
import { stayAlive } from '../runtime/alive.js';
import type { Emit } from '../runtime/emit.js';
import { inTurn } from '../runtime/in-order.js';
import type { DiskInUse } from '../segments/disk-in-use.js';
import { QUARANTINE } from '../segments/log-end.js';
import { Segments } from '../segments/segments.js';
import type { PairGlance } from '../ship/lag-monitor.js';
import { Replication } from '../ship/replication.js';
import { SnapshotIntake } from '../snapshot/intake.js';
import type { NodeEvents } from '../tell/events.js';
import {
  applyEvents,
  primaryEvents,
  replicationEvents,
  snapshotEvents,
  tellOpened,
} from '../tell/part-events.js';
import type { HttpSurface } from '../watch/http-server.js';
import type { MetricParts } from '../watch/metric-facts.js';
import { Metrics, type Scrape } from '../watch/metrics.js';
import type { NodeSummary, SpaceGlance } from '../watch/status.js';
import { Backups } from './backup.js';
import { LedSpaces } from './led-spaces.js';
import type { Platform } from './machine.js';
import { reserveMemory } from './memory.js';
import { glanceAt, type Space } from './space.js';
import { SpaceHandles } from './space-handles.js';
import { type SummaryParts, summaryOf } from './summary.js';

interface Attached {
  /** How often this directory was opened and not closed. */
  readonly openings: Openings;
  readonly http: HttpSurface;
  readonly admin: { close(): Promise<void> };
}

export class NodeCore extends LedSpaces {
  readonly #platform: Platform;
  readonly #coordinator: Coordinator;
  readonly #disk: DiskInUse;
  readonly #salt: number;
  readonly #dir: string;
  readonly #incarnation = randomBytes(8).readBigUInt64LE();
  readonly #memory: NodeMemory;
  readonly #spaces: SpaceTable;
  readonly #segments: Segments;
  readonly #pool: SealerPool;
  readonly #writer: LogWriter;
  readonly #own: PeerIdentity;
  readonly #peers: PeerClient;
  readonly #reader: LogReader;
  readonly #parts: [DiskInUse, string, NodeMemory, SpaceTable, Segments];
  readonly #damage: Damage;
  readonly #state: StateKeeper;
  readonly #counts = new NodeCounts();
  readonly #primaries = new PrimaryLinks();
  readonly #stop = manyListeners(new AbortController());
  readonly #handles = new SpaceHandles(() => ({
    config: this.config,
    memory: this.#memory,
    wal: this.#wal!,
    reader: this.#reader,
    replication: this.#replication!,
    retention: this.retention!,
    ackRefusal: () => leaseRefusal(this.#coordinator),
    stop: this.#stop.signal,
    appliedTo: (space) => this.#appliedTo(space),
    versionOf: (primaryId) => this.#primaries.versionOf(primaryId),
    applier: this.#applier,
    snapshots: this.#snapshots,
    membersOf: (space) => this.leadership!.changes.statusOf(space),
  }));
  readonly #end: Lsn;
  #wal: Wal | undefined;
  #replication: Replication | undefined;
  #receiver: ReceiverServer | undefined;
  #applier: Applier | undefined;
  #snapshots!: SnapshotIntake;
  #address: Address | undefined;
  #metrics: Metrics | undefined;
  #repairer: Repairer | undefined;
  #beat: NodeJS.Timeout | undefined;
  #follower: CheckpointFollower | undefined;
  /** What came when it was open: how people reach it, to the very end. */
  readonly #attached: Partial<Attached> = {};
  #closed: Promise<void> | undefined;

  readonly #emit: Emit<NodeEvents> = (name, event) => this.emit(name, event);

  /** Made by `openNode`. */
  constructor(
    config: NodeConfig,
    disk: DiskInUse,
    platform: Platform,
    dir: string,
    file: OpenedNodeFile,
    recovered: Recovered,
  ) {
    super(config);
    this.#platform = platform;
    this.#coordinator = platform.coordinator(config);
    const { clusterId, nodeId, maxEntryBytes, catchUpBatchBytes, key } = config;
    const maxFrameBytes = frameBytesOf(maxEntryBytes, catchUpBatchBytes);
    const times = { readTimeoutMs: config.readTimeoutMs, keepAliveMs: config.keepAliveMs };
    const told = { maxEntryBytes, maxFrameBytes, directoryId: file.directoryId, ...times };
    this.#own = { clusterId, nodeId, incarnation: this.#incarnation, ...told, key };
    this.#peers = new PeerClient(platform, this.#own, (frame, { nodeId: peerId }) =>
      this.leadership?.heardIn(frame, peerId),
    );
    this.#disk = disk;
    this.#salt = file.logSalt;
    this.#dir = dir;
    this.#end = recovered.end;
    this.#memory = reserveMemory(config);
    this.#spaces = new SpaceTable(this.#memory);
    this.#memory.setAllocated(0, recovered.nodeSequence);
    this.#memory.setDurable(0, recovered.nodeSequence);
    const { segments, spares, leftovers, stateGeneration } = recovered;
    this.#writer = new LogWriter(this.#memory.memory.slabs, this.#counts);
    const files = [segments, spares, leftovers] as const;
    this.#segments = new Segments(disk, dir, config.segmentBytes, ...files, this.#writer);
    this.#pool = new SealerPool(this.#memory, config.sealerThreads);
    this.#parts = [disk, dir, this.#memory, this.#spaces, this.#segments];
    this.#reader = new LogReader(...this.#parts, this.#salt);
    this.#damage = new Damage(
      disk,
      this.#salt,
      this.#segments,
      this.#spaces,
      () => this.#memory.durableLsn,
      (segment) => this.#reader.indexOf(segment),
      recovered.holes,
      {
        members: (s) => askable(s, nodeId, this.#replication?.members ?? config.replicas),
        begun: (event) => this.emit('repair', event),
        found: (holes, entries) => this.#damaged(holes, entries),
      },
    );
    this.#reader.damage = this.#damage;
    const holes = (): readonly Hole[] => this.#damage.holes;
    const refresh = (space: SpaceState): void => this.retention?.refreshSlots(space);
    this.#state = new StateKeeper(...this.#parts, file, stateGeneration, holes, refresh);
  }

  async start(recovered: Recovered, file: OpenedNodeFile): Promise<void> {
    const { fsync: mode, groupBytes, segmentBytes } = this.config;
    await this.#segments.open();
    await this.#spaces.addAll(recovered.spaces, (space) => this.#damage.refuse(space));
    this.#memory.publishDurable(this.#end);
    // Before the segment grows: from now on each group adds itself to its index.
    await this.#reader.indexOf(this.#segments.current);
    const options = { mode, groupBytes, segmentBytes, salt: this.#salt, end: this.#end };
    const [, , ...logParts] = this.#parts;
    this.#wal = new Wal(...logParts, this.#pool, options, this.#counts, {
      ackRefusal: () => leaseRefusal(this.#coordinator),
      displaced: () => this.#disk.displaced(),
      durable: (spaces) => this.#receiver?.flushed(spaces),
      rolled: () => void this.retention!.run(),
      lost: (ranges, error) => this.#appendsLost(ranges, error),
      health: (status) => this.logState(status),
      failed: (error) => {
        this.#receiver?.refuseAll(error);
        this.emit('fatal', { error });
      },
    });
    this.#beat = setInterval(() => this.#memory.beat(), MAIN_BEAT_MS);
    this.#beat.unref();
    const log = [this.#reader, this.#wal, () => this.#applier] as const;
    this.#snapshots = new SnapshotIntake(this.#parts, this.config, ...log, {
      ...snapshotEvents(this.#emit, this.nodeId, this.#dir),
      installed: (space) => {
        this.retention!.noteHostFloor(space);
        void this.retention!.run();
      },
    });
    this.#startReplication();
    this.retention = this.#startRetention();
    const known = (): readonly Hole[] => this.#damage.holes;
    const [, , memory, , segments] = this.#parts;
    this.backups = new Backups(this.#disk, this.#dir, memory, segments, file, this.#state, known);
    this.#follower = CheckpointFollower.of(this.config, this.#memory, this.retention);
    // The list of live segments is durable before the log grows behind it.
    await this.#state.first();
    if (file.copied) await settleCopy(this.#disk, this.#dir, file, this.#state);
    await this.#segments.keepReserve().catch((error) => this.#stateFailed(error));
    await this.#segments.goOn(recovered.empty);
    for (const hole of recovered.missing) await this.#damage.missing(hole);
    tellOpened(this.#emit, this.#dir, file, recovered, damagedEntries(this.#spaces.spaces));
    await this.#writer.ready();
    await this.#startApply();
    this.leadership = this.#startLeadership();
    if (this.config.listen) await this.#listen(this.config.listen);
    this.#repairer = this.#startRepair();
    await this.#repairer.first(this.config.openConfirmMs);
    await this.leadership.start();
    if (recovered.leftovers.length > 0) void this.retention.run();
    this.#metrics = new Metrics(this.#seen, this.#counts.buffer);
  }

  /** By `openNode`, each once. */
  attach(more: Partial<Attached>): void {
    Object.assign(this.#attached, more);
    if (more.openings?.isLoop) this.emit('crash-loop', more.openings.told);
  }

  /** Found by a reader while the node runs. */
  #damaged(holes: readonly Hole[], entries: readonly DamagedEntries[]): void {
    this.emit('damaged', { holes, entries });
    this.#state.write().catch((error) => this.#stateFailed(error));
    this.#repairer?.wake();
  }

  #startRepair(): Repairer {
    const log = [this.#reader, this.#damage, this.retention!, this.#state, this.#wal!] as const;
    const replication = this.#replication!;
    const links = { replication, receiver: () => this.#receiver, peers: this.#peers };
    return new Repairer(...this.#parts, this.#salt, this.config, ...log, links, this.#emit);
  }

  #appendsLost(ranges: readonly LostAppends[], error: Error): void {
    for (const range of ranges) this.emit('appends-lost', range);
    // What primaries have sent is taken back as well: they learn where we stand when they return.
    this.#receiver?.refuseAll(error);
  }

  #startRetention(): Retention {
    const { apply, appliedUpTo } = this.config;
    return new Retention(...this.#parts, this.#reader, this.#state, this.#wal!, this.config, {
      flushed: (space, replicaId) => this.#replication!.flushedOn(space, replicaId),
      directoryOf: (replicaId) => this.#replication!.directoryOf(replicaId),
      isConnected: (replicaId) => this.#replication!.isConnected(replicaId),
      applied: (space) => {
        if (!apply || space.facts.role !== 'replica') return undefined;
        // What a restart begins from.
        return appliedUpTo ? this.#appliedTo(space) : space.facts.applied;
      },
      slotLost: (space, replicaId, flushed, why) => {
        this.#replication!.cut(space, replicaId);
        this.emit('slot-lost', { space: space.facts.name, replicaId, flushed, why });
      },
      failed: (error) => this.#stateFailed(error),
    });
  }

  #stateFailed(error: unknown): void {
    // The log is the truth and goes on; the older generation stays valid.
    this.emit('state-failed', { error });
  }

  async #startApply(): Promise<void> {
    const { apply, rewound } = this.config;
    if (apply || rewound) {
      const keptAt = (name: string): string => path.join(this.#dir, QUARANTINE, name);
      this.#applier = new Applier(this.config, this.#reader, this.#wal!, keptAt, {
        applied: (space, sequence) => this.#receiver?.applied(space, sequence),
        closing: this.#stop.signal,
        ...applyEvents(this.#emit),
      });
    }
    await this.#snapshots.start();
    const followed = this.#spaces.spaces.filter((s) => s.facts.role === 'replica');
    for (const space of followed) this.#applier?.start(space);
  }

  #startReplication(): void {
    const { incarnation, directoryId } = this.#own;
    const facts = { incarnation, directoryId, dataDir: this.#dir, salt: this.#salt };
    const told = [() => this.leadership, () => this.#repairer, () => this.#receiver] as const;
    this.#replication = new Replication(
      this.#platform,
      this.config,
      facts,
      this.#memory,
      this.#spaces,
      this.#segments,
      this.#reader,
      this.#wal!,
      replicationEvents(this.#emit, ...told),
    );
  }

  #startLeadership(): Leadership {
    const [disk, dir, memory, spaces, segments] = this.#parts;
    return new Leadership({
      config: this.config,
      ...{ disk, dir, memory, spaces, segments },
      reader: this.#reader,
      wal: this.#wal!,
      replication: this.#replication!,
      peers: this.#peers,
      coordinator: this.#coordinator,
      applier: this.#applier,
      stop: this.#stop.signal,
      isLinked: (nodeId) => this.#primaries.versionOf(nodeId) !== undefined,
      emit: this.#emit,
      address: () => this.#address,
      receiver: () => this.#receiver,
      appliedTo: (space) => this.#appliedTo(space),
      isInstalling: (space) => this.#snapshots.isInstalling(space),
      floorMoved: (space) => this.retention!.noteHostFloor(space),
    });
  }

  /** What status and metrics are made of; all of it is there once the node is open. */
  get #seen(): MetricParts & SummaryParts {
    return {
      config: this.config,
      directoryId: this.#own.directoryId,
      address: this.#address,
      memory: this.#memory,
      spaces: this.#spaces,
      segments: this.#segments,
      damage: this.#damage,
      writer: this.#writer,
      reader: this.#reader,
      wal: this.#wal!,
      retention: this.retention!,
      replication: this.#replication!,
      applier: this.#applier,
      primaries: this.#primaries,
      ...this.told,
    };
  }

  async #listen(listen: Address): Promise<void> {
    const own = this.#own;
    const [disk, dir, memory, spaces] = this.#parts;
    const renewal = new Renewal({
      ...{ disk, dir, own, spaces, state: this.#state, replication: this.#replication! },
      leadership: () => this.leadership!,
      receiver: () => this.#receiver,
      emit: this.#emit,
    });
    this.#receiver = new ReceiverServer(this.#platform, {
      ...own,
      get directoryId() {
        return own.directoryId;
      },
      wal: this.#wal!,
      snapshots: this.#snapshots,
      spaceById: (id) => this.#spaces.byId(id),
      appliedTo: (space) => this.#appliedTo(space),
      register: (primary, rows) => this.leadership!.roles.register(primary, rows),
      regressed: (...told) => renewal.told(...told),
      leaderOf: (space) => this.leadership!.leaderOf(space),
      heardIn: (...frame) => this.leadership!.heardIn(...frame),
      heard: (space, epoch) => this.leadership!.fencing.heard(space, epoch, undefined),
      told: (space, history) => this.leadership!.told(space, history),
      rejoin: (...asked) => this.leadership!.rejoin(...asked),
      primaries: this.#primaries,
      ...primaryEvents(this.#emit, this.#primaries, () => this.#repairer, this.#replication!),
      checkpointed: (space, sequence) => this.#follower?.told(space, sequence),
      peers: {
        ...peerHandlers({
          ...{ nodeId: this.nodeId, own, memory, spaces },
          reader: this.#reader,
          appliedTo: (space) => this.#appliedTo(space),
          standingOf: (space) => this.#replication!.quorum.standingOf(space),
        }),
        ...this.leadership!.handlers,
      },
    });
    this.#address = await this.#receiver.listen(listen);
  }

  get address(): Address | undefined {
    return this.#address;
  }

  get httpAddress(): Address | undefined {
    return this.#attached.http?.address;
  }

  // --- spaces ------------------------------------------------------------------------------

  async openSpace(name: string, options?: OpenSpaceOptions): Promise<Space> {
    this.checkOpen();
    return this.#handles.of(await stayAlive(this.leadership!.openSpace(name, options)));
  }

  space(name: string): Space {
    this.checkOpen();
    const state = this.#spaces.byName(name);
    if (!state) throw failure('SpaceUnknown', `${name} is not on node ${this.config.nodeId}`);
    return this.#handles.of(state);
  }

  #appliedTo(space: SpaceState): number {
    const { applied, position } = space.facts;
    return this.#applier?.appliedTo(space) ?? Math.min(applied, position.sequence);
  }

  protected checkOpen(): void {
    if (this.#stop.signal.aborted) throw failure('Closed', `node ${this.nodeId} is closed`);
  }

  get isClosing(): boolean {
    return this.#stop.signal.aborted;
  }

  // --- status and end ------------------------------------------------------------------------

  get spaces(): readonly Space[] {
    return this.#spaces.spaces.map((space) => this.#handles.of(space));
  }

  glance(name: string, pair: PairGlance, each: () => void): SpaceGlance {
    return glanceAt(this.space(name), pair, each);
  }

  summary(): NodeSummary {
    return { ...summaryOf(this.#seen), crashes: this.#attached.openings?.crashes ?? 0 };
  }

  async metrics(): Promise<Scrape> {
    this.checkOpen();
    return await stayAlive(this.#metrics!.scrape());
  }

  close(): Promise<void> {
    this.#closed ??= stayAlive(this.#close());
    return this.#closed;
  }

  async #close(): Promise<void> {
    this.#stop.abort();
    const left = this.#reader.streams.close(failure('Closed', `node ${this.nodeId} has closed`));
    this.#peers.close();
    await inTurn([
      () => this.#attached.admin?.close(),
      // First of all: what primaries send would never let the log come to rest.
      () => this.#receiver?.close('the node closes'),
      () => this.#follower?.close(),
      () => this.leadership?.roles.settled,
      () => this.#repairer?.close(),
      () => this.retention?.close(),
      () => this.#wal?.flush().catch(() => undefined),
      () => this.#replication?.close(),
      // What could be shipped has been: whoever leads next has it.
      () => this.#coordinator.close(),
      () => this.#snapshots?.close(),
      () => this.#applier?.close().catch((error) => this.#stateFailed(error)),
      () => this.#wal?.close().catch(() => undefined),
      // The last groups may have begun a segment, and with it a pass.
      () => this.retention?.close(),
      () => this.#lastState(),
      () => (this.#wal ? undefined : this.#segments.close()),
      () => left,
      () => this.#metrics?.close(),
      () => this.#writer.close(),
      () => this.#pool.close(),
      () => this.#attached.http?.close(),
      () => this.#attached.openings?.closed(),
    ]).finally(async () => {
      clearInterval(this.#beat);
      await this.#disk.release();
      this.endLog();
    });
  }

  async #lastState(): Promise<void> {
    if (!this.#wal || this.#wal.failure) return;
    await this.#state.write().catch((error) => this.#stateFailed(error));
  }
}
