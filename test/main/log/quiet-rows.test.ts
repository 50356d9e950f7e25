/** What publication looks at: of a space that is quiet its rows alone, whatever ends that. */
import { beforeEach, expect, test } from 'vitest';
import { SpaceTable } from '#src/main/log/space-table.js';
import type { LogGroup } from '#src/main/log/write/open-group.js';
import { publishGroup } from '#src/main/log/write/publication.js';
import { RunEnds } from '#src/main/log/write/run-ends.js';
import type { Segments } from '#src/main/segments/segments.js';
import { idWords } from '#src/shared/bytes.js';
import { ENTRY_HEADER_BYTES } from '#src/shared/limits.js';
import { sealLocal, stageHeader } from '#src/shared/log/entry.js';
import { newSpaceFacts } from '#src/shared/log/space-facts.js';
import {
  allocateMemory,
  NodeMemory,
  RUN_BYTES,
  RUN_COUNT,
  RUN_FIRST,
  RUN_LAST,
  RUN_OFFSET,
  RUN_SLOT,
} from '#src/shared/memory/slab.js';

const ID = '0123456789abcdef0123456789abcdef';
const NO_INDEX = { at: () => undefined } as unknown as Segments;

let memory: NodeMemory;
let spaces: SpaceTable;
let looked: number;

beforeEach(() => {
  memory = new NodeMemory(allocateMemory(1 << 16, 1 << 18, 4));
  spaces = new SpaceTable(memory);
  const space = spaces.add(newSpaceFacts(ID, 's'));
  spaces.add(newSpaceFacts(`${ID.slice(1)}0`, 'neighbour'));
  looked = 0;
  Object.defineProperty(spaces.bySlot, space.slot, {
    get() {
      looked++;
      return space;
    },
  });
  space.facts.epoch = 1;
});

const space = () => spaces.byId(ID)!;

/** A group with one run becomes durable. @returns whether the space itself was looked at */
function publish(first: number, { epoch = 1, count = 1, holdsMembers = false } = {}): boolean {
  const slab = memory.slabs[0]!;
  const { bytes, view, runs } = slab;
  const size = ENTRY_HEADER_BYTES + 4;
  for (let n = 0; n < count; n++) {
    stageHeader(view, n * size, first + n, 100 + first + n, 0, 1, 4, epoch);
    sealLocal(bytes, view, n * size, idWords(ID), 0, n * size, 0);
  }
  runs[RUN_SLOT] = space().slot;
  runs[RUN_FIRST] = first;
  runs[RUN_COUNT] = count;
  runs[RUN_OFFSET] = 0;
  runs[RUN_BYTES] = count * size;
  runs[RUN_LAST] = (count - 1) * size;
  memory.withdrawSlab(0);
  const place = { previousEnd: 0, startLsn: 0, bytes: count * size, runs: 1, entries: count };
  const group = { slab, aside: undefined, holdsMembers, ...place } as unknown as LogGroup;
  const before = looked;
  const ends = new RunEnds();
  publishGroup(group, memory, NO_INDEX, spaces, 0, ends);
  const isLookedAt = looked > before;
  const last = first + count - 1;
  expect([ends.length, ends.slot(0), ends.last(0)]).toEqual([1, space().slot, last]);
  expect(space().facts.position).toMatchObject({ epoch, sequence: last });
  expect(space().facts.timestamp).toBe(BigInt(100 + last));
  expect(memory.durable(space().slot)).toBe(last);
  return isLookedAt;
}

test('a space that nobody waits for is looked at once in an epoch', () => {
  expect([publish(1), publish(2, { count: 3 }), publish(5)]).toEqual([true, false, false]);
  expect(space().facts.history.map((row) => [row.epoch, row.startSequence])).toEqual([[1, 1]]);
  expect([publish(6, { epoch: 2 }), publish(7, { epoch: 2 })]).toEqual([true, false]);
  expect(space().facts.history.map((row) => [row.epoch, row.startSequence])).toEqual([
    [1, 1],
    [2, 6],
  ]);
});

test('who waits for an entry is woken by it', async () => {
  publish(1);
  const woken = new Promise<void>((resolve, reject) => {
    space().addWait({ sequence: 3, resolve, reject });
  });
  expect([publish(2), publish(3)]).toEqual([true, true]);
  await woken;
  expect(publish(4)).toBe(false);
});

test('who is given its runs is given each of them, and none when it is gone', () => {
  publish(1);
  const given: number[][] = [];
  const consumer = {
    run: (_: unknown, first: number, count: number) => given.push([first, count]),
  };
  space().consumers = [consumer as never];
  expect([publish(2, { count: 2 }), publish(4)]).toEqual([true, true]);
  space().consumers = [];
  expect([publish(5), publish(6)]).toEqual([true, false]);
  expect(given).toEqual([
    [2, 2],
    [4, 1],
  ]);
});

test('what the library has staged of it is looked for, and whoever counts is', () => {
  publish(1);
  // As when it is staged: an entry of the library's own.
  space().stagedOwn.push(3);
  space().lookAt();
  expect([publish(2), publish(3), publish(4)]).toEqual([true, true, false]);
  expect(space().stagedOwn).toEqual([]);
  expect([publish(5, { holdsMembers: true }), publish(6)]).toEqual([true, false]);
});

test('a space that stands elsewhere, or is to be looked at, is', () => {
  publish(1);
  space().facts.position = { epoch: 1, sequence: 0, headerCrc: 0 };
  expect([publish(1), publish(2)]).toEqual([true, false]);
  space().lookAt();
  expect([publish(3), publish(4)]).toEqual([true, false]);
  // Epoch 0, of Engram's own files, is no epoch to be quiet in.
  spaces.rows.quiet(space().slot, 0);
  expect(spaces.rows.isQuiet(space().slot, 0)).toBe(false);
});

test('what a neighbour does changes nothing of it', () => {
  publish(1);
  const other = spaces.byId(`${ID.slice(1)}0`)!;
  other.lookAt();
  other.facts.position = { epoch: 9, sequence: 9, headerCrc: 9 };
  spaces.rows.quiet(other.slot, 9);
  expect(publish(2)).toBe(false);
});
