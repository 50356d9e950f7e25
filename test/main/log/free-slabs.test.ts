import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { FreeSlabs } from '#src/main/log/write/free-slabs.js';
import type { LogGroup } from '#src/main/log/write/open-group.js';
import { MIN_SLABS, SLAB_KEPT_MS, TRAILER_BYTES } from '#src/shared/limits.js';
import { allocateMemory, NodeMemory, RUN_FIELDS, type Slab } from '#src/shared/memory/slab.js';
import { chanceFrom } from '../../support/chance.js';

const GROUP_BYTES = 64 * 1024;

interface Staged {
  slab: Slab;
  bytes: number;
  runs: number;
  grouped: boolean;
}

type Range = readonly [from: number, to: number];

const asGroup = (staged: Staged): LogGroup => staged as unknown as LogGroup;

/** What the group has of the slabs, and of their tables. */
function rangesOf({ slab, bytes, runs }: Staged): Range[] {
  const at = slab.bytes.byteOffset;
  const table = 2 ** 40 + slab.runs.byteOffset;
  return [
    [at, at + bytes + TRAILER_BYTES],
    [table, table + 8 * RUN_FIELDS * runs],
  ];
}

const meet = (some: Range[], others: Range[]): boolean =>
  some.some(([from, to]) => others.some(([start, end]) => from < end && start < to));

let nowMs = 0;
beforeEach(() => void vi.spyOn(performance, 'now').mockImplementation(() => nowMs));
afterEach(() => void vi.restoreAllMocks());

/** A log over slabs, with groups as chance wants them. */
class World {
  readonly memory: NodeMemory;
  readonly slabs: FreeSlabs;
  open: Staged | undefined;
  readonly closed: Staged[] = [];
  sealing: { readonly staged: Staged; readonly group: Staged } | undefined;
  readonly sealed: Staged[] = [];
  readonly published: { readonly group: Staged; readonly start: number }[] = [];
  #end = 0;

  constructor(count: number, isShipped = true) {
    const budget = count * (GROUP_BYTES + TRAILER_BYTES);
    this.memory = new NodeMemory(allocateMemory(GROUP_BYTES, budget, 4));
    this.slabs = new FreeSlabs(this.memory);
    if (isShipped) this.memory.ship();
  }

  /** Those that main still has to do with. */
  get own(): Staged[] {
    const beside = this.sealing ? [this.sealing.staged, this.sealing.group] : [];
    return [...(this.open ? [this.open] : []), ...this.closed, ...beside, ...this.sealed];
  }

  /** Those that a shipper would still read. */
  get readable(): Staged[] {
    const { memory } = this;
    const there = this.published.filter(({ start }) => memory.groupAt(start)?.start === start);
    return there.map(({ group }) => group);
  }

  stage(bytes: number, runs: number, grouped: boolean): boolean {
    const slab = this.slabs.open(64, 1);
    if (!slab) return false;
    const most = Math.min(GROUP_BYTES, slab.bytes.length - TRAILER_BYTES);
    const rows = Math.min(runs, slab.runs.length / RUN_FIELDS);
    const open = { slab, bytes: Math.min(bytes, most), runs: rows, grouped };
    this.#expectFresh(open);
    this.open = open;
    return true;
  }

  close(): void {
    this.closed.push(this.open!);
    this.slabs.closed(asGroup(this.open!));
    this.open = undefined;
  }

  seal(): void {
    const staged = this.closed[0]!;
    const slab = this.slabs.target(asGroup(staged));
    expect(slab === staged.slab).toBe(staged.grouped);
    if (staged.grouped) this.sealed.push(staged);
    else {
      this.sealing = { staged, group: { ...staged, slab } };
      this.#expectFresh(this.sealing.group);
    }
    this.closed.shift();
  }

  endSeal(): void {
    const { staged, group } = this.sealing!;
    this.sealing = undefined;
    this.sealed.push(group);
    this.slabs.give(staged.slab, false);
  }

  publish(): void {
    const group = this.sealed.shift()!;
    const { bytes, runs, slab } = group;
    const start = this.#end;
    // The next one does not begin where it ends: it is not found by this one's end.
    this.#end += bytes + 64;
    const place = { previousEnd: start, start, bytes, entries: runs, runs };
    this.memory.publishSlab(slab.index, place);
    this.published.push({ group, start });
    this.slabs.give(slab);
  }

  /** It has room, nobody's bytes or rows are in the way, and who reads them has been told. */
  #expectFresh(group: Staged): void {
    expect(group.bytes + TRAILER_BYTES).toBeLessThanOrEqual(group.slab.bytes.length);
    expect(RUN_FIELDS * group.runs).toBeLessThanOrEqual(group.slab.runs.length);
    const its = rangesOf(group);
    const others = [...this.own, ...this.readable].filter((other) => other !== group);
    for (const other of others) expect(meet(its, rangesOf(other))).toBe(false);
  }
}

test.each([MIN_SLABS, 6, 16])('%i slabs, groups of any kind: none is in another one', (count) => {
  for (let seed = 1; seed <= 40; seed++) {
    const below = chanceFrom(seed);
    const world = new World(count, seed % 5 > 0);
    const { slabs } = world;
    expect(world.memory.memory.slabCount).toBe(count);
    const largest = seed % 2 === 0 ? 40 : 1_000;
    for (let step = 0; step < 300; step++) {
      const what = below(5);
      nowMs += below(SLAB_KEPT_MS / 10);
      if (what === 0 && !world.open) {
        const had = slabs.hasRoom;
        const entries = 1 + below(largest);
        expect(world.stage(64 * entries, 1 + below(entries), below(5) > 1)).toBe(had);
      } else if (what === 1 && world.open) world.close();
      else if (what === 2 && world.closed.length > 0 && !world.sealing) world.seal();
      else if (what === 3 && world.sealing) world.endSeal();
      else if (what === 4 && world.sealed.length > 0) world.publish();
    }
    const left = world.own.filter((group) => group !== world.sealing?.group);
    if (world.sealing) slabs.give(world.sealing.group.slab);
    for (const { slab } of left) slabs.give(slab);
    expect(slabs.inUse).toBe(0);
    // At rest all of them are there again, but for the one in which a group could be grouped.
    for (let n = 1; n < count; n++) expect(slabs.open(GROUP_BYTES, 1)).toBeDefined();
    expect(slabs.hasRoom).toBe(false);
  }
});

test.each([true, false])('small groups stay readable, many to a slab (grouped: %s)', (grouped) => {
  const world = new World(MIN_SLABS);
  for (let n = 0; n < 100; n++) {
    expect(world.stage(1_024, 1, grouped)).toBe(true);
    world.close();
    world.seal();
    if (!grouped) world.endSeal();
    world.publish();
  }
  // Eight to a slab; one or two slabs are being filled.
  expect(world.readable.length).toBeGreaterThanOrEqual(2 * 8);
});

test('a group behind others that is sealed needs no other slab, published or not', () => {
  const world = new World(MIN_SLABS);
  for (let n = 0; n < 8; n++) {
    expect(world.stage(1_024, 1, true)).toBe(true);
    world.close();
    world.seal();
  }
  expect(world.slabs.inUse).toBe(1);
});

/** One small group after the other. @returns the slabs that they stood in */
function slabsOf(world: World, groups: number, msEach: number): Set<number> {
  const found = new Set<number>();
  for (let n = 0; n < groups; n++) {
    world.stage(GROUP_BYTES / 4, 1, true);
    found.add(world.open!.slab.index % world.memory.memory.slabCount);
    world.close();
    world.seal();
    world.publish();
    nowMs += msEach;
  }
  return found;
}

test('no more memory is touched than it takes to keep what is not old', () => {
  expect(slabsOf(new World(16), 200, 1).size).toBe(16);
  // Two of them in each slab, in the time for which they are kept.
  const count = SLAB_KEPT_MS / 100 / 2;
  expect(slabsOf(new World(16), 200, 100).size).toBeLessThanOrEqual(count + 3);
  // Nobody reads them: the same one, as long as it is free.
  expect(slabsOf(new World(16, false), 200, 1).size).toBe(1);
});

test('a group that may not find room behind others has a slab of its own', () => {
  const world = new World(MIN_SLABS);
  const sizes: number[] = [];
  for (let n = 0; n < 8; n++) {
    world.stage(64 * 450, 1, true);
    sizes.push(world.open!.slab.bytes.length);
    world.close();
    world.seal();
    world.publish();
  }
  expect(new Set(sizes)).toEqual(new Set([GROUP_BYTES + TRAILER_BYTES]));
});
