/**
 * Retention: which segments may go (shared/log/slot.ts), what a slot may hold back, when the host
 * must checkpoint before it appends more. A pass runs at each roll and each checkpoint. What it
 * costs follows the segments, and what was given up since the last one: not spaces x segments.
 */

import { type EngramError, failure } from '../../../shared/errors.js';
import { HEARTBEAT_MS } from '../../../shared/limits.js';
import type { SegmentIndex } from '../../../shared/log/segment-index.js';
import {
  type Effort,
  floorOf,
  hostFloor,
  isNeeded,
  KeeperSearch,
  type SlotState,
  type SpaceNeeds,
} from '../../../shared/log/slot.js';
import { passCheckpoint } from '../../../shared/log/space-facts.js';
import type { NodeMemory } from '../../../shared/memory/slab.js';
import type { Lsn, Sequence, Slot } from '../../../shared/position.js';
import { nextTurn, Turns } from '../../runtime/turns.js';
import type { Disk } from '../../segments/disk.js';
import { writeIndex } from '../../segments/index-file.js';
import type { Segment, Segments } from '../../segments/segments.js';
import type { SpaceState, SpaceTable } from '../space-table.js';
import type { Wal } from '../wal.js';
import { FarBack } from './far-back.js';
import type { StateKeeper } from './state-keeper.js';

export interface RetentionLimits {
  /** What the host has not checkpointed may take. */
  readonly maxRetainedBytes: number;
  /** What one slot may hold back. */
  readonly maxSlotBytes: number;
  /** For how long its replica may be away. */
  readonly slotIdleTimeoutMs: number;
}

/** How often it is looked at who is away. */
const IDLE_POLL_MS = 60_000;
/** Spaces that one question for `hostBytes` looks at; what is not known then counts as kept. */
const HOST_EFFORT = 8_192;

export interface RetentionHooks {
  /** What a replica is known to have flushed since the node was opened; 0: not heard of. */
  flushed(space: SpaceState, replicaId: string): Sequence;
  /** Of the replica, as it has said last; nobody is asked where no links are. */
  directoryOf?(replicaId: string): string | undefined;
  isConnected(replicaId: string): boolean;
  /** What the host has applied, where entries are applied here. */
  applied(space: SpaceState): Sequence | undefined;
  slotLost(space: SpaceState, replicaId: string, flushed: Sequence, why: 'bytes' | 'idle'): void;
  failed(error: unknown): void;
}

/** What each segment holds of which space. */
interface Indexes {
  indexOf(segment: Segment): Promise<SegmentIndex>;
}

export class Retention {
  readonly #disk: Disk;
  readonly #dir: string;
  readonly #memory: NodeMemory;
  readonly #spaces: SpaceTable;
  readonly #segments: Segments;
  readonly #reader: Indexes;
  readonly #state: StateKeeper;
  readonly #wal: Wal;
  readonly #limits: RetentionLimits;
  readonly #hooks: RetentionHooks;
  /** What lies farther back than a slot may hold, and than half of that. */
  readonly #beyond: FarBack;
  readonly #extended: FarBack;
  /** Who needs a segment: anybody at all, and a host alone. */
  readonly #keepers = new WeakMap<Segment, KeeperSearch>();
  #hostKeepers = new WeakMap<Segment, KeeperSearch>();
  /** By slot: the highest floor of the host that was reckoned with. */
  readonly #hostFloors: Float64Array;
  #refusal: EngramError | undefined;
  /** Something has changed that may end the refusal, or begin one. */
  #isHostStale = true;
  /** Before anybody has given something up, no index is needed. */
  #isAnyGivenUp = false;
  /** A slot is lost, and no durable state says so. */
  #isStateDue = false;
  /** Where the log began when what was void was looked at last. */
  #voidedFrom: Lsn = -1;
  #running: Promise<void> | undefined;
  #isClosed = false;
  /** See `without`. */
  #held: Promise<void> | undefined;
  readonly #poll: NodeJS.Timeout;
  readonly #tell: NodeJS.Timeout;
  #telling: Promise<void> | undefined;
  /** When all slots were looked at last, and whether that goes on now. */
  #lookedMs = performance.now();
  #looking: Promise<void> | undefined;
  #again = false;

  constructor(
    disk: Disk,
    dir: string,
    memory: NodeMemory,
    spaces: SpaceTable,
    segments: Segments,
    reader: Indexes,
    state: StateKeeper,
    wal: Wal,
    limits: RetentionLimits,
    hooks: RetentionHooks,
  ) {
    this.#disk = disk;
    this.#dir = dir;
    this.#memory = memory;
    this.#spaces = spaces;
    this.#segments = segments;
    this.#reader = reader;
    this.#state = state;
    this.#wal = wal;
    this.#limits = limits;
    this.#hooks = hooks;
    this.#hostFloors = new Float64Array(memory.memory.maxSpaces + 1);
    this.#beyond = new FarBack(limits.maxSlotBytes, segments);
    this.#extended = new FarBack(limits.maxSlotBytes / 2, segments);
    const ms = Math.max(1, Math.min(IDLE_POLL_MS, limits.slotIdleTimeoutMs / 4));
    this.#poll = setInterval(() => {
      this.#looking ??= this.#lookAtAll()
        .catch((error) => this.#hooks.failed(error))
        .finally(() => {
          this.#looking = undefined;
        });
    }, ms);
    this.#poll.unref();
    this.#tell = setInterval(() => {
      this.#telling ??= this.#tellFloors().finally(() => {
        this.#telling = undefined;
      });
    }, HEARTBEAT_MS);
    this.#tell.unref();
  }

  // --- slots ---------------------------------------------------------------------------------

  /**
   * Looks at every space, a few in a turn. A replica that is away for too long keeps nothing any
   * more (row 55).
   */
  async #lookAtAll(): Promise<void> {
    const nowMs = performance.now();
    const passedMs = nowMs - this.#lookedMs;
    const turns = new Turns();
    for (const space of this.#spaces.spaces) {
      if (turns.isOver) await turns.next();
      if (this.#isClosed) return;
      turns.spaces--;
      this.refreshSlots(space);
      for (const [replicaId, slot] of space.facts.slots) {
        slot.idleMs = this.#hooks.isConnected(replicaId) ? 0 : slot.idleMs + passedMs;
        if (!slot.lost && slot.idleMs >= this.#limits.slotIdleTimeoutMs) {
          this.#lose(space, replicaId, 'idle');
        }
      }
      this.#loseFar(space);
      this.noteHostFloor(space);
    }
    this.#lookedMs = nowMs;
    if (this.#isStateDue) void this.run();
  }

  #lose(space: SpaceState, replicaId: string, why: 'bytes' | 'idle'): void {
    const slot = space.facts.slots.get(replicaId)!;
    slot.lost = true;
    this.#isStateDue = true;
    this.#hooks.slotLost(space, replicaId, slot.flushed, why);
  }

  /** Slots that hold back what lies too far back are lost (row 54). */
  #loseFar(space: SpaceState): void {
    const last = this.#beyond.last(space);
    if (last === 0) return;
    for (const [replicaId, slot] of space.facts.slots) {
      if (!slot.lost && slot.flushed <= last) this.#lose(space, replicaId, 'bytes');
    }
  }

  /** Brings the slots of a space up to what its replicas are, and have flushed. */
  refreshSlots(space: SpaceState): void {
    const { slots, role } = space.facts;
    for (const id of slots.keys()) {
      if (role !== 'primary' || !space.replicas.includes(id)) slots.delete(id);
    }
    if (role !== 'primary') return;
    for (const id of space.replicas) {
      const flushed = this.#hooks.flushed(space, id);
      const directoryId = this.#hooks.directoryOf?.(id);
      const slot = slots.get(id);
      if (slot) {
        if (flushed > 0) [slot.flushed, slot.directoryId] = [flushed, directoryId];
        continue;
      }
      // The next look at all spaces adds the whole time since the last one.
      const idleMs = this.#lookedMs - performance.now();
      slots.set(id, { flushed, lost: false, idleMs, directoryId });
    }
  }

  /** How safe what a replica lacks is. */
  slotState(space: SpaceState, replicaId: string): SlotState {
    // Made by the first pass; nothing was freed before it.
    const slot = space.facts.slots.get(replicaId) ?? { flushed: 0, lost: false };
    if (slot.lost) return 'lost';
    if (this.#memory.durable(space.slot) <= slot.flushed) return 'reserved';
    const durable = this.#memory.durableLsn;
    if (!this.#extended.has(space, slot.flushed, durable)) return 'reserved';
    return this.#beyond.has(space, slot.flushed, durable) ? 'unreserved' : 'extended';
  }

  // --- the host ------------------------------------------------------------------------------

  /** The host needs nothing below `sequence` any more: durable when it resolves. */
  async checkpoint(space: SpaceState, sequence: Sequence): Promise<void> {
    const { facts } = space;
    const apply = (): void => {
      passCheckpoint(facts, sequence);
      facts.skipped = facts.skipped.filter((s) => s >= facts.checkpoint);
      this.#isAnyGivenUp = true;
      this.#isHostStale = true;
    };
    if (sequence > facts.checkpoint && this.#wal.health.refusal) {
      // No room for a record; the state keeps it as well, and what is freed makes room.
      apply();
      await this.#state.write();
    } else if (sequence > facts.checkpoint) {
      await this.#wal.record({ kind: 'checkpoint', id: facts.id, sequence }, apply);
    }
    void this.run();
    // Whoever has waited for this is not refused for what has only not been looked at yet.
    while (this.refusal && this.#isHostStale) await nextTurn();
  }

  /**
   * Tells the replicas that follow this node's checkpoints what is needed no more by the host, nor
   * by any slot: who lags or is away finds what it lacks when one of them leads.
   */
  async #tellFloors(): Promise<void> {
    const turns = new Turns();
    for (const { facts, slot } of this.#spaces.spaces) {
      if (turns.isOver) await turns.next();
      if (this.#isClosed) return;
      turns.spaces--;
      const { checkpoint, role } = facts;
      if (checkpoint === 0 || role !== 'primary') continue;
      if (this.#memory.checkpoint(slot) >= checkpoint) continue;
      this.#memory.publishCheckpoint(slot, Math.min(checkpoint, this.#floor(slot)));
    }
  }

  /** Why appends are refused: the host has to checkpoint first (DESIGN 8). */
  get refusal(): EngramError | undefined {
    if (this.#isHostStale) this.#checkHost();
    return this.#refusal;
  }

  #checkHost(): void {
    const { maxRetainedBytes } = this.#limits;
    this.#isHostStale = false;
    this.#refusal = undefined;
    if (maxRetainedBytes === Number.POSITIVE_INFINITY) return;
    const { bytes, isSure } = this.#hostNeeds();
    if (bytes <= maxRetainedBytes) return;
    this.#isHostStale = !isSure;
    this.#refusal = failure(
      'RetentionFull',
      `${bytes} bytes are not checkpointed by the host, maxRetainedBytes ${maxRetainedBytes}`,
    );
  }

  /** Bytes of the log that the host has not checkpointed. */
  get hostBytes(): number {
    return this.#hostNeeds().bytes;
  }

  #hostNeeds(): { bytes: number; isSure: boolean } {
    const durable = this.#memory.durableLsn;
    const effort = { spaces: HOST_EFFORT };
    let bytes = 0;
    let isSure = true;
    for (const segment of this.#segments.list) {
      const { start, size, end } = segment;
      const found = this.#hostNeed(segment, effort);
      if (found === 'passed') continue;
      if (found === 'unknown') isSure = false;
      bytes += Math.min(end ?? durable, start + size) - start;
    }
    return { bytes, isSure };
  }

  #hostNeed(segment: Segment, effort: Effort): 'kept' | 'passed' | 'unknown' {
    const { index, end } = segment;
    // An index that was not needed yet: nothing was checkpointed.
    if (!index) return 'kept';
    // One that grows may get more of a space that was passed: it is not remembered who was.
    if (end === undefined || end > this.#memory.durableLsn) {
      return isNeeded(index, this.#hostFloor) ? 'kept' : 'passed';
    }
    return searchOf(this.#hostKeepers, segment).look(index, this.#hostFloor, effort);
  }

  readonly #hostFloor = (slot: Slot): Sequence => {
    const floor = hostFloor(this.#needsOf(this.#spaces.bySlot[slot]!));
    if (floor > this.#hostFloors[slot]!) this.#hostFloors[slot] = floor;
    return floor;
  };

  /** A floor that has fallen (a rewind, another role) makes what was passed needed again. */
  noteHostFloor({ slot }: SpaceState): void {
    const floor = this.#hostFloor(slot);
    if (floor === this.#hostFloors[slot]) return;
    this.#hostFloors[slot] = floor;
    this.#hostKeepers = new WeakMap();
    this.#isHostStale = true;
  }

  // --- passes --------------------------------------------------------------------------------

  /** A pass now, or once more when one is running. Resolves when nothing is left to do. */
  run(): Promise<void> {
    // A roll while the node closes: a pass would go on behind the end of the node.
    if (this.#isClosed) return Promise.resolve();
    this.#again = true;
    // The log has grown by a segment: what the host may retain does not wait for a slow pass.
    this.#isHostStale = true;
    this.#running ??= this.#runAll().finally(() => {
      this.#running = undefined;
    });
    return this.#running;
  }

  /** Does something while no pass runs: nothing is freed, and no index written. */
  async without<T>(work: () => Promise<T>): Promise<T> {
    while (this.#running || this.#held) await (this.#running ?? this.#held);
    const done = work();
    this.#held = done.then(
      () => undefined,
      () => undefined,
    );
    try {
      return await done;
    } finally {
      this.#held = undefined;
    }
  }

  async #runAll(): Promise<void> {
    while (this.#again) {
      // One pass for all that a turn gives up.
      await nextTurn();
      this.#again = false;
      await this.#held;
      try {
        await this.#pass();
      } catch (error) {
        // The log goes on; the next pass tries again.
        this.#hooks.failed(error);
      }
    }
  }

  async #pass(): Promise<void> {
    await this.#storeIndexes();
    await this.#lookBack();
    await this.#freePassed();
    this.#forgetVoided();
    this.#isHostStale = true;
    while (this.#isStateDue || this.#segments.isStateWanted) {
      this.#isStateDue = false;
      await this.#state.write().catch((error) => {
        this.#isStateDue = true;
        throw error;
      });
    }
  }

  /** The sealed ones whose entries are all durable: their index is complete. */
  get #sealed(): Segment[] {
    const durable = this.#memory.durableLsn;
    return this.#segments.list.filter((s) => s.end !== undefined && s.end <= durable);
  }

  async #storeIndexes(): Promise<void> {
    for (const segment of this.#sealed) {
      if (segment.isIndexStored || !segment.index) continue;
      const { index, start, end } = segment;
      const idOf = (slot: Slot): string => this.#spaces.bySlot[slot]!.facts.id;
      await writeIndex(this.#disk, this.#dir, index, start, end!, idOf);
      segment.isIndexStored = true;
    }
  }

  /** What has come to lie too far back; whose slots hold it back is lost. */
  async #lookBack(): Promise<void> {
    const durable = this.#memory.durableLsn;
    const turns = new Turns();
    const indexOf = (segment: Segment) => this.#reader.indexOf(segment);
    const spaceOf = (slot: Slot): SpaceState => this.#spaces.bySlot[slot]!;
    const common = [this.#sealed, durable, turns, indexOf, spaceOf] as const;
    await this.#extended.advance(...common);
    await this.#beyond.advance(...common, (space) => {
      this.refreshSlots(space);
      this.#loseFar(space);
    });
  }

  #needsOf(space: SpaceState): SpaceNeeds {
    const { checkpoint, slots, first } = space.facts;
    return { checkpoint, applied: this.#hooks.applied(space), slots: slots.values(), first };
  }

  readonly #floor = (slot: Slot): Sequence => {
    const space = this.#spaces.bySlot[slot]!;
    this.refreshSlots(space);
    this.#loseFar(space);
    return floorOf(this.#needsOf(space));
  };

  /** Frees the segments that nobody needs, one in a turn. */
  async #freePassed(): Promise<void> {
    const turns = new Turns();
    if (!this.#hasGivenUp()) return;
    for (const segment of this.#sealed) {
      const index = await this.#reader.indexOf(segment);
      const search = searchOf(this.#keepers, segment);
      let found = search.look(index, this.#floor, turns);
      while (found === 'unknown') {
        await turns.next();
        found = search.look(index, this.#floor, turns);
      }
      if (found === 'passed') {
        while (this.#state.isDrafting) await nextTurn();
        // In the turn in which it is freed everybody is asked: a floor may have fallen since.
        if (isNeeded(index, this.#floor)) search.restart(index);
        else this.#free(segment);
        await turns.next();
      }
      if (turns.isOver) await turns.next();
    }
  }

  #hasGivenUp(): boolean {
    this.#isAnyGivenUp ||= this.#spaces.spaces.some(
      ({ facts }) => facts.checkpoint > 0 || facts.first > 1,
    );
    return this.#isAnyGivenUp;
  }

  /** What stands in a segment is not to be read any more. */
  #free(segment: Segment): void {
    for (const slot of segment.index?.slots ?? []) {
      const space = this.#spaces.bySlot[slot]!;
      const { facts } = space;
      const last = segment.index!.last(slot)!;
      this.#beyond.freed(space, last);
      this.#extended.freed(space, last);
      facts.first = Math.max(facts.first, last + 1);
      if (facts.damage.length === 0) continue;
      facts.damage = facts.damage.filter((d) => d.to === 0 || d.to >= facts.first);
    }
    this.#segments.free([segment]);
  }

  /** What was void is freed with its segments. */
  #forgetVoided(): void {
    const { start } = this.#segments.list[0]!;
    if (start === this.#voidedFrom) return;
    this.#voidedFrom = start;
    for (const { facts } of this.#spaces.spaces) {
      if (facts.voided.length > 0) facts.voided = facts.voided.filter((v) => v.lsn > start);
    }
  }

  async close(): Promise<void> {
    clearInterval(this.#poll);
    clearInterval(this.#tell);
    this.#isClosed = true;
    await this.#looking;
    await this.#telling;
    await this.#running;
  }
}

function searchOf(searches: WeakMap<Segment, KeeperSearch>, segment: Segment): KeeperSearch {
  let search = searches.get(segment);
  if (!search) {
    search = new KeeperSearch();
    searches.set(segment, search);
  }
  return search;
}
