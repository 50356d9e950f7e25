/**
 * Retention alone, over a log that exists as a list of segments with their indexes: so many spaces
 * and segments as one likes, at the cost of an index row each. Nothing is written.
 */

import { Retention, type RetentionLimits } from '#src/main/log/retention/retention.js';
import type { StateKeeper } from '#src/main/log/retention/state-keeper.js';
import { type SpaceState, SpaceTable } from '#src/main/log/space-table.js';
import type { Wal } from '#src/main/log/wal.js';
import type { LogReader } from '#src/main/read/reader.js';
import type { Disk } from '#src/main/segments/disk.js';
import { newSegment, type Segment, Segments } from '#src/main/segments/segments.js';
import { SegmentIndex } from '#src/shared/log/segment-index.js';
import { newSpaceFacts } from '#src/shared/log/space-facts.js';
import { allocateMemory, NodeMemory } from '#src/shared/memory/slab.js';
import type { Sequence } from '#src/shared/position.js';

export const SEGMENT_BYTES = 1024 * 1024;

/** Does nothing, and says so of nothing. */
const noFile = new Proxy({}, { get: (_, name) => (name === 'then' ? undefined : async () => 0) });
const noDisk = new Proxy(
  {},
  {
    get: (_, name) => async () => (name === 'list' ? [] : noFile),
  },
) as Disk;

export class RetentionWorld {
  readonly memory: NodeMemory;
  readonly spaces: SpaceTable;
  readonly segments: Segments;
  readonly retention: Retention;
  /** By space and replica: what the replica has flushed. */
  readonly flushed = new Map<SpaceState, Map<string, Sequence>>();
  readonly applied = new Map<SpaceState, Sequence>();
  readonly connected = new Set<string>();
  states = 0;
  /** Where the next entry stands. */
  end = 0;

  /** @param stateOf the real one, where it matters what is in a state */
  constructor(
    maxSpaces: number,
    limits: Partial<RetentionLimits> = {},
    stateOf?: (world: RetentionWorld) => StateKeeper,
  ) {
    this.memory = new NodeMemory(allocateMemory(4096, 4 * 4096, maxSpaces));
    this.spaces = new SpaceTable(this.memory);
    const first = { ...newSegment(0, SEGMENT_BYTES), index: new SegmentIndex() };
    this.segments = new Segments(noDisk, '', SEGMENT_BYTES, [first], [], [], undefined as never);
    const reader = { indexOf: async (segment: Segment) => this.#load(segment) };
    const state = stateOf?.(this) ?? {
      write: async () => {
        await new Promise((resolve) => setImmediate(resolve));
        this.states++;
        this.segments.stateBegins()();
      },
    };
    const wal = {
      health: { refusal: undefined },
      record: async (_: unknown, apply: () => void) => {
        await new Promise((resolve) => setImmediate(resolve));
        apply();
      },
    };
    this.retention = new Retention(
      noDisk,
      '',
      this.memory,
      this.spaces,
      this.segments,
      reader as unknown as LogReader,
      state as unknown as StateKeeper,
      wal as unknown as Wal,
      {
        maxRetainedBytes: Number.POSITIVE_INFINITY,
        maxSlotBytes: Number.MAX_SAFE_INTEGER,
        slotIdleTimeoutMs: Number.MAX_SAFE_INTEGER,
        ...limits,
      },
      {
        flushed: (space, id) => this.flushed.get(space)?.get(id) ?? 0,
        isConnected: (id) => this.connected.has(id),
        applied: (space) => (space.facts.role === 'primary' ? undefined : this.applied.get(space)),
        slotLost: () => undefined,
        failed: (error) => {
          throw error;
        },
      },
    );
  }

  /** Indexes that are not in memory, as after a restart: asked for, they are there again. */
  readonly away = new Map<Segment, SegmentIndex>();

  #load(segment: Segment): SegmentIndex {
    segment.index ??= this.away.get(segment)!;
    this.away.delete(segment);
    return segment.index;
  }

  addSpace(name: string, replicas: readonly string[] = []): SpaceState {
    const number = this.spaces.bySlot.length.toString(16).padStart(32, '0');
    const facts = newSpaceFacts(number, name);
    facts.role = 'primary';
    facts.epoch = 1;
    facts.primary = 'own';
    const space = this.spaces.add(facts);
    space.replicas = replicas;
    return space;
  }

  /** Durable entries of one space, in the segment that is written. */
  append(space: SpaceState, count: number, bytes = 64 * count): void {
    const { current } = this.segments;
    const { facts, slot } = space;
    const first = facts.position.sequence + 1;
    current.index!.add(slot, first, count, this.end, bytes);
    facts.position = { epoch: 1, sequence: first + count - 1, headerCrc: 0 };
    this.memory.setDurable(slot, facts.position.sequence);
    this.end += bytes;
    this.memory.publishDurable(this.end);
  }

  /** Seals the segment that is written, and begins the next one. */
  roll(): void {
    const { current } = this.segments;
    current.end = this.end;
    // Stored, as far as anybody asks.
    current.isIndexStored = true;
    this.end = current.start + current.size;
    const next = newSegment(this.end, SEGMENT_BYTES);
    this.segments.list.push({ ...next, index: new SegmentIndex() });
    this.memory.publishDurable(this.end);
  }
}

/** The most that `work` counts in one turn of the event loop, and in all of them. */
export class TurnCount {
  #turn = 0;
  most = 0;
  all = 0;
  #isCounting = false;

  add(count = 1): void {
    this.#turn += count;
    this.all += count;
    this.most = Math.max(this.most, this.#turn);
    if (this.#isCounting) return;
    this.#isCounting = true;
    // Runs when this turn is over: before timers, sockets and files have theirs.
    setImmediate(() => {
      this.#turn = 0;
      this.#isCounting = false;
    });
  }
}
