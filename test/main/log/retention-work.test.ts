/** What retention costs, counted in spaces looked at; and that it frees what a naive one would. */
import { afterEach, expect, test, vi } from 'vitest';
import { Retention } from '#src/main/log/retention/retention.js';
import type { SpaceState } from '#src/main/log/space-table.js';
import type { Segment } from '#src/main/segments/segments.js';
import { SegmentIndex } from '#src/shared/log/segment-index.js';
import { floorOf, hostFloor, type SpaceNeeds } from '#src/shared/log/slot.js';
import type { SlotFacts } from '#src/shared/log/space-facts.js';
import { applyRewind } from '#src/shared/log/space-facts.js';
import type { Slot } from '#src/shared/position.js';
import { at, EachTest, until } from '../../support/cluster.js';
import { chanceFrom } from '../../support/fake-disk.js';
import { RetentionWorld, SEGMENT_BYTES, TurnCount } from '../../support/retention-world.js';

afterEach(() => {
  vi.restoreAllMocks();
  vi.useRealTimers();
});

/** Counts each row of an index that anybody steps over, or looks up. */
function countLooks(): TurnCount {
  const count = new TurnCount();
  const { last } = SegmentIndex.prototype;
  vi.spyOn(SegmentIndex.prototype, 'last').mockImplementation(function (this: SegmentIndex, slot) {
    count.add();
    return last.call(this, slot);
  });
  const { get } = Object.getOwnPropertyDescriptor(SegmentIndex.prototype, 'slots')!;
  vi.spyOn(SegmentIndex.prototype, 'slots', 'get').mockImplementation(function* (
    this: SegmentIndex,
  ) {
    for (const slot of get!.call(this)) {
      count.add();
      yield slot;
    }
  } as never);
  return count;
}

/** So many spaces with an entry in each of so many segments. */
function filled(spaces: number, segments: number): { world: RetentionWorld; all: SpaceState[] } {
  const world = new RetentionWorld(spaces);
  const all = Array.from({ length: spaces }, (_, n) => world.addSpace(`s${n}`, ['b']));
  for (const space of all) world.flushed.set(space, new Map([['b', segments]]));
  for (let n = 0; n < segments; n++) {
    for (const space of all) world.append(space, 1);
    world.roll();
  }
  return { world, all };
}

test('FAULT-103 a checkpoint looks at what was given up, not at spaces x segments', async () => {
  const { world, all } = filled(4_000, 60);
  const { retention, segments } = world;
  await retention.run();
  const count = countLooks();
  await retention.checkpoint(all[3_999]!, 61);
  await retention.run();
  expect(segments.list.length).toBe(61);
  // One look a segment finds that its first space still needs it.
  expect(count.all).toBeLessThan(1_000);
  await Promise.all(all.map((space) => retention.checkpoint(space, 60)));
  await retention.run();
  // A slot keeps the segment of its own entry.
  expect(segments.list.length).toBe(2);
  expect(count.most).toBeLessThan(20_000);
  // Each space of each segment: passed once, asked once when it is freed, told what is first.
  expect(count.all).toBeLessThan(7 * 4_000 * 60);
});

test('FAULT-103 checkpoints one by one cost as much as they give up', async () => {
  const { world, all } = filled(1_000, 30);
  const { retention, segments } = world;
  const count = countLooks();
  for (const space of all) {
    await retention.checkpoint(space, 31);
    await retention.run();
  }
  expect(segments.list.length).toBe(2);
  // Each pass looks at one space of each segment; and each space of each segment is passed once.
  expect(count.all).toBeLessThan(1_000 * 30 * 10);
  expect(count.most).toBeLessThan(8_000);
});

test('FAULT-103 status of a slot costs the same, however many segments there are', () => {
  const { world, all } = filled(100, 60);
  const behind = { flushed: 58, lost: false, idleMs: 0 };
  for (const { facts } of all) facts.slots.set('b', { ...behind });
  const count = countLooks();
  for (const space of all) world.retention.slotState(space, 'b');
  expect(count.all).toBeLessThan(100 * 4);
  // Nor is the list of segments gone through: where what is far back ends is found by halving.
  let starts = 0;
  for (const segment of world.segments.list) {
    const { start } = segment;
    const get = (): number => {
      starts++;
      return start;
    };
    Object.defineProperty(segment, 'start', { get });
  }
  for (const space of all) world.retention.slotState(space, 'b');
  expect(starts).toBeLessThan(100 * 2 * 10);
});

const each = new EachTest();

test('FAULT-103 retention hears at once of a space that is led elsewhere', async () => {
  const noted = vi.spyOn(Retention.prototype, 'noteHostFloor');
  const listen = { host: '127.0.0.1', port: 0 };
  const b = await each.start('b', { listen });
  const replicas = [at('b', b.address!.port)];
  const a = await each.start('a', { listen, lead: true, replicas });
  const space = await a.openSpace('s');
  await space.append(1, Buffer.from('x'), { ack: { replicas: 1, timeoutMs: 20_000 } });
  noted.mockClear();
  await a.switchover('s', 'b');
  const isLedBy = (id: string) => a.space('s').status().primaryNodeId === id;
  await until('a follows', () => isLedBy('b'));
  // Once here, and once there.
  expect(new Set(noted.mock.contexts).size).toBe(2);
});

// --- the naive twin --------------------------------------------------------------------------

/** What a pass is to leave: computed from everything there is, in one go. */
function naive(world: RetentionWorld, maxSlotBytes: number) {
  const { segments, spaces, memory } = world;
  const durable = memory.durableLsn;
  const slotsOf = new Map<Slot, Map<string, SlotFacts>>();
  for (const space of spaces.spaces) {
    const slots = new Map<string, SlotFacts>();
    slotsOf.set(space.slot, slots);
    if (space.facts.role !== 'primary') continue;
    for (const id of space.replicas) {
      const flushed = world.flushed.get(space)?.get(id) ?? 0;
      const known = space.facts.slots.get(id);
      const kept = known && flushed === 0 ? known.flushed : flushed;
      slots.set(id, { flushed: kept, lost: known?.lost ?? false, idleMs: 0 });
    }
  }
  const needs = (slot: Slot): SpaceNeeds => {
    const space = spaces.bySlot[slot]!;
    const { checkpoint, first, role } = space.facts;
    const applied = role === 'primary' ? undefined : world.applied.get(space);
    return { checkpoint, first, applied, slots: slotsOf.get(slot)!.values() };
  };
  const indexOf = (segment: Segment) => segment.index ?? world.away.get(segment)!;
  const sealed = segments.list.filter((s) => s.end !== undefined && s.end <= durable);
  for (const segment of sealed) {
    if (durable - segment.start <= maxSlotBytes) continue;
    for (const slot of indexOf(segment).slots) {
      for (const facts of slotsOf.get(slot)!.values()) {
        if (indexOf(segment).last(slot)! >= facts.flushed) facts.lost = true;
      }
    }
  }
  const isNeeded = (segment: Segment, floor: (needs: SpaceNeeds) => number): boolean =>
    [...indexOf(segment).slots].some((slot) => indexOf(segment).last(slot)! >= floor(needs(slot)));
  const left = segments.list.filter((s) => !sealed.includes(s) || isNeeded(s, floorOf));
  let hostBytes = 0;
  for (const segment of left) {
    if (!isNeeded(segment, hostFloor)) continue;
    hostBytes += Math.min(segment.end ?? durable, segment.start + segment.size) - segment.start;
  }
  const firsts = spaces.spaces.map(({ slot, facts }) => {
    const gone = segments.list.filter((s) => !left.includes(s)).map((s) => indexOf(s).last(slot));
    return Math.max(facts.first, ...gone.map((last) => (last ?? 0) + 1));
  });
  const lost = spaces.spaces.flatMap(({ slot, facts }) =>
    [...slotsOf.get(slot)!].filter(([, s]) => s.lost).map(([id]) => `${facts.name} ${id}`),
  );
  return { starts: left.map((s) => s.start), hostBytes, firsts, lost: lost.sort() };
}

function found(world: RetentionWorld) {
  const { segments, spaces, retention } = world;
  const lost = spaces.spaces.flatMap(({ facts }) =>
    [...facts.slots].filter(([, s]) => s.lost).map(([id]) => `${facts.name} ${id}`),
  );
  return {
    starts: segments.list.map((s) => s.start),
    hostBytes: retention.hostBytes,
    firsts: spaces.spaces.map(({ facts }) => facts.first),
    lost: lost.sort(),
  };
}

const REPLICAS = ['b', 'c'];

class Life {
  readonly world: RetentionWorld;
  readonly #chance: (below: number) => number;
  readonly #isFarOften: boolean;

  constructor(seed: number, maxSlotBytes: number) {
    this.#chance = chanceFrom(seed);
    this.#isFarOften = maxSlotBytes < 1e9;
    this.world = new RetentionWorld(64, { maxSlotBytes });
    this.world.addSpace('s0', REPLICAS);
  }

  #any(): SpaceState {
    const { spaces } = this.world.spaces;
    return spaces[this.#chance(spaces.length)]!;
  }

  step(): void {
    const { world } = this;
    const space = this.#any();
    const { facts } = space;
    const { sequence } = facts.position;
    switch (this.#chance(16)) {
      case 0:
        if (world.spaces.spaces.length < 40) {
          world.addSpace(`s${world.spaces.spaces.length}`, REPLICAS.slice(this.#chance(3)));
        }
        return;
      case 1:
        world.roll();
        return;
      case 2:
      case 3:
      case 4:
        facts.checkpoint = Math.max(facts.checkpoint, 1 + this.#chance(sequence + 1));
        // As `checkpoint` does once its record is durable.
        void world.retention.checkpoint(space, facts.checkpoint + 1);
        return;
      case 5:
      case 6:
      case 7: {
        const id = REPLICAS[this.#chance(2)]!;
        const before = world.flushed.get(space)?.get(id) ?? 0;
        const flushed = before + this.#chance(sequence - before + 1);
        world.flushed.set(space, new Map(world.flushed.get(space)).set(id, flushed));
        return;
      }
      case 8:
        this.#otherReplicas(space);
        return;
      case 9:
        this.#rewind(space);
        return;
      case 10:
        this.#otherRole(space);
        return;
      case 11:
        this.#unload();
        return;
      case 12:
        this.#replace();
        return;
      default:
        for (let n = this.#chance(6); n >= 0; n--) world.append(this.#any(), 1 + this.#chance(9));
    }
  }

  #otherReplicas(space: SpaceState): void {
    if (space.facts.role !== 'primary') return;
    space.replicas = REPLICAS.filter(() => this.#chance(2) === 1);
    // A replica that has come back is taken up where it stands: a lost slot keeps again.
    for (const slot of space.facts.slots.values()) {
      if (!this.#isFarOften && this.#chance(3) === 0) slot.lost = false;
    }
  }

  #rewind(space: SpaceState): void {
    const { facts, slot } = space;
    const { sequence } = facts.position;
    if (facts.role === 'primary' || sequence <= facts.first) return;
    const last = facts.first + this.#chance(sequence - facts.first);
    const position = { epoch: 1, sequence: last, headerCrc: 0 };
    const rewind = { position, timestamp: 0n, to: sequence, quarantine: '' };
    applyRewind(facts, rewind, this.world.memory.durableLsn);
    for (const index of this.world.away.values()) index.rewind(slot, last + 1);
    this.world.segments.rewindIndexes(slot, last + 1);
    space.truth.takeBack(last + 1);
    this.world.memory.setDurable(slot, last);
    for (const flushed of this.world.flushed.get(space)?.keys() ?? []) {
      this.world.flushed.get(space)!.set(flushed, 0);
    }
    this.world.applied.set(space, Math.min(this.world.applied.get(space) ?? 0, last));
    this.world.retention.noteHostFloor(space);
  }

  #otherRole(space: SpaceState): void {
    const { facts } = space;
    facts.role = facts.role === 'primary' ? 'replica' : 'primary';
    space.replicas = facts.role === 'primary' ? REPLICAS : [];
    if (facts.role === 'replica') {
      this.world.applied.set(space, this.#chance(facts.position.sequence + 1));
    }
    this.world.retention.noteHostFloor(space);
  }

  /** As after a restart: the index is not in memory. */
  #unload(): void {
    const { list } = this.world.segments;
    const segment = list[this.#chance(list.length)]!;
    if (segment.end === undefined || !segment.index) return;
    this.world.away.set(segment, segment.index);
    segment.index = undefined;
  }

  /** As a repair does: another file, another index, with entries that were lost before. */
  #replace(): void {
    const { list } = this.world.segments;
    const at = this.#chance(list.length);
    const old = list[at]!;
    if (old.end === undefined || !old.index) return;
    const index = new SegmentIndex();
    for (const slot of old.index.slots) {
      const first = old.index.first(slot)!;
      index.add(slot, first, old.index.last(slot)! - first + 1, old.start, 1);
    }
    list[at] = { ...old, index, generation: old.generation + 1 };
  }
}

test.each([
  1e12,
  6 * SEGMENT_BYTES,
])('FAULT-103 frees what a naive pass would (%d)', async (far) => {
  vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval'] });
  let freed = 0;
  let sure = 0;
  for (let seed = 1; seed <= 40; seed++) {
    const life = new Life(seed, far);
    const { world } = life;
    for (let step = 0; step < 60; step++) {
      for (let n = 0; n < 12; n++) life.step();
      // Checkpoints that are on their way become durable; a pass that goes on comes to its end.
      for (let n = 0; n < 3; n++) await new Promise((resolve) => setImmediate(resolve));
      await world.retention.run();
      const wanted = naive(world, far);
      // What has fallen with a role or a rewind was told at once.
      if (found(world).starts.join() === wanted.starts.join()) {
        expect(world.retention.hostBytes, `seed ${seed}, step ${step}`).toBe(wanted.hostBytes);
        sure++;
      }
      const before = world.segments.list.length;
      // What nobody looked at since is looked at by the poll at the latest.
      vi.advanceTimersByTime(60_000);
      await new Promise((resolve) => setImmediate(resolve));
      await world.retention.run();
      expect(found(world), `seed ${seed}, step ${step}`).toEqual(wanted);
      freed += before;
    }
    await world.retention.close();
  }
  expect(freed).toBeGreaterThan(1_000);
  expect(sure).toBeGreaterThan(1_000);
});

test('a host that checkpoints nothing is refused at the roll, however slow a pass is', async () => {
  const world = new RetentionWorld(1, { maxRetainedBytes: 3 * SEGMENT_BYTES });
  const { retention } = world;
  const space = world.addSpace('s');
  expect(retention.refusal).toBeUndefined();
  let goOn: (() => void) | undefined;
  const held = retention.without(() => new Promise<void>((resolve) => (goOn = resolve)));
  for (let n = 0; n < 4; n++) {
    world.append(space, 1, SEGMENT_BYTES);
    world.roll();
    void retention.run();
  }
  expect(retention.refusal).toMatchObject({ code: 'RetentionFull' });
  goOn!();
  await held;
  await retention.run();
});
