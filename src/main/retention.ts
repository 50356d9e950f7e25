/**
 * Retention: which segments may go (shared/slot.ts), what a slot may hold back, when the host
 * must checkpoint before it appends more. A pass runs at each roll and each checkpoint.
 */
import { type EngramError, failure } from '../shared/errors.js';
import type { Sequence, Slot } from '../shared/position.js';
import type { NodeMemory } from '../shared/slab.js';
import {
  floorOf,
  hostFloor,
  isPastBound,
  keeperOf,
  type SlotState,
  type SpaceNeeds,
  slotStateOf,
} from '../shared/slot.js';
import type { Disk } from './disk.js';
import { writeIndex } from './index-file.js';
import type { LogReader } from './reader.js';
import type { Segment, Segments } from './segments.js';
import type { SpaceState, SpaceTable } from './space-table.js';
import type { StateKeeper } from './state-keeper.js';
import type { Wal } from './wal.js';

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

export interface RetentionHooks {
  /** What a replica is known to have flushed since the node was opened; 0: not heard of. */
  flushed(space: SpaceState, replicaId: string): Sequence;
  isConnected(replicaId: string): boolean;
  /** What the host has applied, where entries are applied here. */
  applied(space: SpaceState): Sequence | undefined;
  slotLost(space: SpaceState, replicaId: string, flushed: Sequence, why: 'bytes' | 'idle'): void;
  failed(error: unknown): void;
}

export class Retention {
  readonly #disk: Disk;
  readonly #dir: string;
  readonly #memory: NodeMemory;
  readonly #spaces: SpaceTable;
  readonly #segments: Segments;
  readonly #reader: LogReader;
  readonly #state: StateKeeper;
  readonly #wal: Wal;
  readonly #limits: RetentionLimits;
  readonly #hooks: RetentionHooks;
  /** Why appends are refused: the host has to checkpoint first. */
  refusal: EngramError | undefined;
  #running: Promise<void> | undefined;
  #isClosed = false;
  /** See `without`. */
  #held: Promise<void> | undefined;
  readonly #poll: NodeJS.Timeout;
  #lookedMs = performance.now();
  #again = false;

  constructor(
    disk: Disk,
    dir: string,
    memory: NodeMemory,
    spaces: SpaceTable,
    segments: Segments,
    reader: LogReader,
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
    const ms = Math.max(1, Math.min(IDLE_POLL_MS, limits.slotIdleTimeoutMs / 4));
    this.#poll = setInterval(() => {
      if (this.#loseIdle()) void this.run();
    }, ms);
    this.#poll.unref();
  }

  /** A replica that is away for too long keeps nothing any more (row 55). @returns whether any */
  #loseIdle(): boolean {
    this.refreshSlots();
    let isAny = false;
    for (const space of this.#spaces.spaces) {
      for (const [replicaId, slot] of space.facts.slots) {
        if (slot.lost || slot.idleMs < this.#limits.slotIdleTimeoutMs) continue;
        slot.lost = true;
        isAny = true;
        this.#hooks.slotLost(space, replicaId, slot.flushed, 'idle');
      }
    }
    return isAny;
  }

  /** How safe what a replica lacks is. */
  slotState(space: SpaceState, replicaId: string): SlotState {
    // Made by the first pass; nothing was freed before it.
    const slot = space.facts.slots.get(replicaId) ?? { flushed: 0, lost: false };
    const needs = (segment: Segment): boolean =>
      (segment.index?.last(space.slot) ?? 0) > slot.flushed;
    const first = this.#segments.list.find(needs);
    const heldBytes = first ? this.#memory.durableLsn - first.start : 0;
    return slotStateOf(slot.lost, heldBytes, this.#limits.maxSlotBytes);
  }

  /** The host needs nothing below `sequence` any more: durable when it resolves. */
  async checkpoint(space: SpaceState, sequence: Sequence): Promise<void> {
    const { facts } = space;
    const apply = (): void => {
      facts.checkpoint = Math.max(facts.checkpoint, sequence);
      facts.skipped = facts.skipped.filter((s) => s >= facts.checkpoint);
      this.checkHost();
    };
    if (sequence > facts.checkpoint && this.#wal.health.refusal) {
      // No room for a record; the state keeps it as well, and what is freed makes room.
      apply();
      await this.#state.write();
    } else if (sequence > facts.checkpoint) {
      await this.#wal.record({ kind: 'checkpoint', id: facts.id, sequence }, apply);
    }
    void this.run();
  }

  /** A pass now, or once more when one is running. Resolves when nothing is left to do. */
  run(): Promise<void> {
    // A roll while the node closes: a pass would go on behind the end of the node.
    if (this.#isClosed) return Promise.resolve();
    this.#again = true;
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
    this.refreshSlots();
    await this.#storeIndexes();
    const free = await this.#passed();
    for (const segment of free) this.#forget(segment);
    this.#segments.free(free);
    this.#forgetVoided();
    this.checkHost();
    do await this.#state.write();
    while (this.#segments.isStateWanted);
  }

  /** Brings what is durable of slots up to what replicas have flushed. */
  refreshSlots(): void {
    const now = performance.now();
    const passedMs = now - this.#lookedMs;
    this.#lookedMs = now;
    for (const space of this.#spaces.spaces) {
      const { slots, role } = space.facts;
      for (const id of slots.keys()) {
        if (role !== 'primary' || !space.replicas.includes(id)) slots.delete(id);
      }
      if (role !== 'primary') continue;
      for (const id of space.replicas) {
        const flushed = this.#hooks.flushed(space, id);
        const slot = slots.get(id);
        if (!slot) {
          slots.set(id, { flushed, lost: false, idleMs: 0 });
          continue;
        }
        if (flushed > 0) slot.flushed = flushed;
        slot.idleMs = this.#hooks.isConnected(id) ? 0 : slot.idleMs + passedMs;
      }
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

  #needsOf(space: SpaceState): SpaceNeeds {
    const { checkpoint, slots, first } = space.facts;
    return { checkpoint, applied: this.#hooks.applied(space), slots: slots.values(), first };
  }

  /** The segments that nobody needs; slots that are too far behind are lost on the way. */
  async #passed(): Promise<Segment[]> {
    const floors = new Map<Slot, Sequence>();
    const floor = (slot: Slot): Sequence => {
      let known = floors.get(slot);
      if (known === undefined) {
        known = floorOf(this.#needsOf(this.#spaces.bySlot[slot]!));
        floors.set(slot, known);
      }
      return known;
    };
    const { maxSlotBytes } = this.#limits;
    const durable = this.#memory.durableLsn;
    const isAny = this.#spaces.spaces.some((s) => s.facts.checkpoint > 0 || s.facts.first > 1);
    const free: Segment[] = [];
    for (const segment of this.#sealed) {
      const isFar = isPastBound(segment.start, durable, maxSlotBytes);
      if (!isAny && !isFar) continue;
      const index = await this.#reader.indexOf(segment);
      if (isFar) {
        for (const slot of index.slots) {
          const space = this.#spaces.bySlot[slot]!;
          if (slot !== 0 && this.#loseSlots(space, index.last(slot)!)) floors.delete(slot);
        }
      }
      segment.keeper = keeperOf(index, floor, segment.keeper);
      if (segment.keeper === undefined) free.push(segment);
    }
    return free;
  }

  /** @returns whether a slot held back the space's entries up to `last` */
  #loseSlots(space: SpaceState, last: Sequence): boolean {
    let isLost = false;
    for (const [replicaId, slot] of space.facts.slots) {
      if (slot.lost || last < slot.flushed) continue;
      slot.lost = true;
      isLost = true;
      this.#hooks.slotLost(space, replicaId, slot.flushed, 'bytes');
    }
    return isLost;
  }

  /** What stands in a segment is not to be read any more. */
  #forget(segment: Segment): void {
    for (const slot of segment.index?.slots ?? []) {
      const { facts } = this.#spaces.bySlot[slot]!;
      facts.first = Math.max(facts.first, segment.index!.last(slot)! + 1);
      facts.damage = facts.damage.filter((d) => d.to === 0 || d.to >= facts.first);
    }
  }

  /** What was void is freed with its segments. */
  #forgetVoided(): void {
    const { start } = this.#segments.list[0]!;
    for (const { facts } of this.#spaces.spaces) {
      if (facts.voided.length > 0) facts.voided = facts.voided.filter((v) => v.lsn > start);
    }
  }

  /** Appends wait for the host where it alone keeps more than it may (DESIGN 8). */
  checkHost(): void {
    const { maxRetainedBytes } = this.#limits;
    const kept = this.hostBytes;
    this.refusal =
      kept <= maxRetainedBytes
        ? undefined
        : failure(
            'RetentionFull',
            `${kept} bytes are not checkpointed by the host, maxRetainedBytes ${maxRetainedBytes}`,
          );
  }

  /** Bytes of the log that the host has not checkpointed. */
  get hostBytes(): number {
    const durable = this.#memory.durableLsn;
    let bytes = 0;
    for (const segment of this.#segments.list) {
      const { start, size, end, index } = segment;
      const isNeeded = (slot: Slot): boolean => {
        const floor = hostFloor(this.#needsOf(this.#spaces.bySlot[slot]!));
        return slot !== 0 && (index?.last(slot) ?? 0) >= floor;
      };
      // An index that was not needed yet: nothing was checkpointed.
      if (index && ![...index.slots].some(isNeeded)) continue;
      bytes += Math.min(end ?? durable, start + size) - start;
    }
    return bytes;
  }

  async close(): Promise<void> {
    clearInterval(this.#poll);
    this.#isClosed = true;
    await this.#running;
  }
}
