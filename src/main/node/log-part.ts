/**
 * The log of a node, whole: its files and memory, its only writer, reading, damage, what may go.
 * What later parts of the node are to do about it, they say themselves (`later`).
 */

import { failure } from '../../shared/errors.js';
import { MAIN_BEAT_MS } from '../../shared/limits.js';
import type { Member } from '../../shared/log/node-record.js';
import type { Hole, StateOwner } from '../../shared/log/state.js';
import { allocateMemory, NodeMemory } from '../../shared/memory/slab.js';
import type { Sequence } from '../../shared/position.js';
import type { WalHooks } from '../log/hooks.js';
import { Retention } from '../log/retention/retention.js';
import { StateKeeper } from '../log/retention/state-keeper.js';
import { type SpaceState, SpaceTable } from '../log/space-table.js';
import { Wal } from '../log/wal.js';
import { NodeCounts } from '../log/write/counts.js';
import type { RunEnds } from '../log/write/run-ends.js';
import { SealerPool } from '../log/write/sealer-pool.js';
import { LogWriter } from '../log/write/writer.js';
import type { NodeConfig } from '../options/options.js';
import { Damage, damagedEntries } from '../read/damage.js';
import { LogReader } from '../read/reader.js';
import { type OpenedNodeFile, settleNodeFile } from '../recovery/node-file.js';
import type { Recovered } from '../recovery/recovery.js';
import { askable } from '../repair/repairer.js';
import type { Emit } from '../runtime/emit.js';
import { inTurn } from '../runtime/in-order.js';
import type { DiskInUse } from '../segments/disk-in-use.js';
import { Segments } from '../segments/segments.js';
import type { NodeEvents } from '../tell/events.js';
import { tellOpened } from '../tell/part-events.js';
import { Backups } from './backup.js';

/** What parts that come later do about the log, and know of it. Until they are there: nothing. */
export interface LogLater {
  /** As WalHooks. */
  durable(ends: RunEnds): void;
  /** What was staged is taken back. */
  refused(error: Error): void;
  /** The log takes entries again. */
  writable(): void;
  /** Damage was found by who reads. */
  damaged(): void;
  /** The nodes that this one ships to. */
  members(): readonly Member[];
  flushed(space: SpaceState, replicaId: string): Sequence;
  directoryOf(replicaId: string): string | undefined;
  isConnected(replicaId: string): boolean;
  /** A replica has lost its slot. */
  cut(space: SpaceState, replicaId: string): void;
  /** What applying begins from after a restart; undefined: nothing of the space is applied. */
  applied(space: SpaceState): Sequence | undefined;
}

export interface LogGiven {
  readonly config: NodeConfig;
  readonly disk: DiskInUse;
  readonly dir: string;
  readonly file: OpenedNodeFile;
  readonly recovered: Recovered;
  /** The generation of state that the last close has left durable; undefined: none is known. */
  readonly settled: number | undefined;
  /** Why nothing may be acknowledged at this moment. */
  readonly ackRefusal: WalHooks['ackRefusal'];
  readonly emit: Emit<NodeEvents>;
}

/** All that needs no segment that is open. */
function prepared({ config, disk, dir, file, recovered }: LogGiven) {
  const memory = reserveMemory(config);
  const spaces = new SpaceTable(memory);
  // The table begins with the node's own space, and with an empty one.
  memory.setAllocated(0, recovered.nodeSequence);
  memory.setDurable(0, recovered.nodeSequence);
  const counts = new NodeCounts();
  const writer = new LogWriter(memory.memory.slabs, counts);
  const files = [recovered.segments, recovered.spares, recovered.leftovers] as const;
  const segments = new Segments(disk, dir, config.segmentBytes, ...files, writer);
  const pool = new SealerPool(memory, config.sealerThreads);
  const reader = new LogReader(disk, dir, memory, spaces, segments, file.logSalt);
  return { memory, spaces, counts, writer, segments, pool, reader };
}

export class LogPart {
  readonly disk: DiskInUse;
  readonly dir: string;
  readonly salt: number;
  readonly memory: NodeMemory;
  readonly spaces: SpaceTable;
  readonly segments: Segments;
  readonly writer: LogWriter;
  readonly counts: NodeCounts;
  readonly reader: LogReader;
  readonly damage: Damage;
  readonly state: StateKeeper;
  readonly wal: Wal;
  readonly retention: Retention;
  readonly backups: Backups;
  readonly later: LogLater;
  readonly #pool: SealerPool;
  readonly #emit: Emit<NodeEvents>;
  readonly #beat: NodeJS.Timeout;

  /** Rejects as the disk does. What has begun by then has ended. */
  static async open(given: LogGiven): Promise<LogPart> {
    const { recovered } = given;
    const made = prepared(given);
    const { segments, spaces, memory, reader, writer, pool } = made;
    let part: LogPart | undefined;
    try {
      await segments.open(recovered.end);
      part = new LogPart(given, made);
      const { damage } = part;
      await spaces.addAll(recovered.spaces, (space) => damage.refuse(space));
      memory.publishDurable(recovered.end);
      // Before the segment grows: from now on each group adds itself to its index.
      await reader.indexOf(segments.current);
      await part.#begin(given);
      return part;
    } catch (error) {
      const left = [() => segments.close(), () => writer.close(), () => pool.close()];
      await (part?.close() ?? inTurn(left)).catch(() => undefined);
      throw error;
    }
  }

  private constructor(
    { config, disk, dir, file, recovered, ackRefusal, emit }: LogGiven,
    { memory, spaces, counts, writer, segments, pool, reader }: ReturnType<typeof prepared>,
  ) {
    const { nodeId, fsync: mode, groupBytes, segmentBytes } = config;
    const { logSalt: salt } = file;
    this.disk = disk;
    this.dir = dir;
    this.salt = salt;
    this.memory = memory;
    this.spaces = spaces;
    this.counts = counts;
    this.writer = writer;
    this.segments = segments;
    this.#pool = pool;
    this.reader = reader;
    this.#emit = emit;
    const later: LogLater = nobodyYet(config);
    this.later = later;
    this.damage = new Damage(
      disk,
      salt,
      segments,
      spaces,
      () => memory.durableLsn,
      (segment) => reader.indexOf(segment),
      recovered.holes,
      {
        members: (space) => askable(space, nodeId, later.members()),
        begun: (event) => emit('repair', event),
        found: (holes, entries) => {
          emit('damaged', { holes, entries });
          this.state.write().catch((error) => this.stateFailed(error));
          later.damaged();
        },
      },
    );
    reader.damage = this.damage;
    const parts = [disk, dir, memory, spaces, segments] as const;
    const holes = (): readonly Hole[] => this.damage.holes;
    const refresh = (space: SpaceState): void => this.retention.refreshSlots(space);
    this.state = new StateKeeper(...parts, file, recovered.stateGeneration, holes, refresh);
    const options = { mode, groupBytes, segmentBytes, salt, end: recovered.end };
    this.wal = new Wal(memory, spaces, segments, pool, options, counts, {
      ackRefusal,
      displaced: () => disk.displaced(),
      durable: (durable) => later.durable(durable),
      rolled: () => void this.retention.run(),
      lost: (ranges, error) => {
        for (const range of ranges) emit('appends-lost', range);
        // What primaries have sent is taken back, too: they learn where we stand on their return.
        later.refused(error);
      },
      health: ({ state, reason }) => {
        emit('log-state', { state, reason });
        if (state === 'ok') later.writable();
      },
      failed: (error) => {
        later.refused(error);
        emit('fatal', { error });
      },
    });
    this.#beat = setInterval(() => memory.beat(), MAIN_BEAT_MS);
    this.#beat.unref();
    this.retention = new Retention(...parts, reader, this.state, this.wal, config, {
      flushed: (space, replicaId) => later.flushed(space, replicaId),
      directoryOf: (replicaId) => later.directoryOf(replicaId),
      isConnected: (replicaId) => later.isConnected(replicaId),
      applied: (space) => later.applied(space),
      slotLost: (space, replicaId, flushed, why) => {
        later.cut(space, replicaId);
        emit('slot-lost', { space: space.facts.name, replicaId, flushed, why });
      },
      failed: (error) => this.stateFailed(error),
    });
    this.backups = new Backups(disk, dir, memory, segments, file, this.state, holes);
  }

  async #begin({ file, recovered, settled, emit }: LogGiven): Promise<void> {
    // The list of live segments is durable before the log grows behind it.
    const isDurable = settled === recovered.stateGeneration;
    if (!isDurable || !isOwnersIn(recovered.stated, file)) await this.state.first();
    await settleNodeFile(this.disk, this.dir, file, this.state);
    await this.segments.keepReserve().catch((error) => this.stateFailed(error));
    await this.segments.goOn(recovered.empty);
    for (const hole of recovered.missing) await this.damage.missing(hole);
    tellOpened(emit, this.dir, file, recovered, damagedEntries(this.spaces.spaces));
    await this.writer.ready();
  }

  stateFailed(error: unknown): void {
    // The log is the truth and goes on; the older generation stays valid.
    this.#emit('state-failed', { error });
  }

  /** Makes durable what was appended. */
  async rest(): Promise<void> {
    await this.retention.close();
    await this.wal.flush().catch(() => undefined);
  }

  /** @param reading ends when nobody reads any more */
  async close(reading?: Promise<void>): Promise<void> {
    await inTurn([
      () => this.wal.close().catch(() => undefined),
      // The last groups may have begun a segment, and with it a pass.
      () => this.retention.close(),
      () => this.#lastState(),
      () => reading,
      () => this.writer.close(),
      () => this.#pool.close(),
    ]).finally(() => clearInterval(this.#beat));
  }

  async #lastState(): Promise<void> {
    if (this.wal.failure) return;
    await this.state.write().catch((error) => this.stateFailed(error));
  }
}

/** What both states say is what would be written: of very many spaces that is saved. */
function isOwnersIn(stated: StateOwner | undefined, file: OpenedNodeFile): boolean {
  if (!stated || file.change !== undefined || file.copied) return false;
  return (
    stated.nodeId === file.nodeId &&
    stated.clusterId === file.clusterId &&
    stated.directoryId === file.directoryId &&
    stated.madeAs === file.madeAs
  );
}

function nobodyYet({ replicas }: NodeConfig): LogLater {
  const nothing = (): undefined => undefined;
  return {
    durable: nothing,
    refused: nothing,
    writable: nothing,
    damaged: nothing,
    members: () => replicas,
    flushed: () => 0,
    directoryOf: nothing,
    isConnected: () => false,
    cut: nothing,
    applied: nothing,
  };
}

/** Throws Configuration where the process cannot have as much. */
export function reserveMemory(config: NodeConfig): NodeMemory {
  const { groupBytes, memoryBudgetBytes, maxSpaces } = config;
  try {
    return new NodeMemory(allocateMemory(groupBytes, memoryBudgetBytes, maxSpaces));
  } catch (cause) {
    const wanted = `memoryBudgetBytes ${memoryBudgetBytes} and maxSpaces ${maxSpaces}`;
    const found = `${wanted} are more than this process can have: ${(cause as Error).message}`;
    throw failure('Configuration', found, { cause, details: { option: 'memoryBudgetBytes' } });
  }
}
