/** Waiting for sequences: woken in their order, at a cost that follows who is woken. */
import fc from 'fast-check';
import { expect, onTestFinished, test, vi } from 'vitest';
import { becomeReplica } from '#src/main/lead/fencing.js';
import { SequenceWaits } from '#src/main/log/sequence-waits.js';
import {
  type DurableWait,
  type SpaceState,
  SpaceTable,
  takeBack,
  wakeDurableWaits,
} from '#src/main/log/space-table.js';
import type { Wal } from '#src/main/log/wal.js';
import { AckWaits } from '#src/main/ship/ack-waits.js';
import { Quorum } from '#src/main/ship/quorum.js';
import type { ShipperHandle } from '#src/main/ship/shipper-handle.js';
import type { EngramError } from '#src/shared/errors.js';
import { TAKEN_BACK_MAX } from '#src/shared/limits.js';
import {
  addSkip,
  applyRewind,
  newSpaceFacts,
  passCheckpoint,
  type SpaceFacts,
} from '#src/shared/log/space-facts.js';
import { LogTruth } from '#src/shared/log/truth.js';
import { allocateMemory, NodeMemory } from '#src/shared/memory/slab.js';
import { chanceFrom } from '../../support/fake-disk.js';

/** Counts how often anybody asks what it waits for. */
class Counted {
  static asked = 0;
  place?: number;
  readonly #sequence: number;
  constructor(
    sequence: number,
    readonly resolve: () => void = () => undefined,
    readonly reject: () => void = () => undefined,
  ) {
    this.#sequence = sequence;
  }
  get sequence(): number {
    Counted.asked++;
    return this.#sequence;
  }
}

const ID = '0'.repeat(31);

function space() {
  const memory = new NodeMemory(allocateMemory(4096, 4 * 4096, 4));
  const facts = newSpaceFacts(`${ID}1`, 's');
  facts.epoch = 1;
  facts.history = [{ epoch: 1, startSequence: 1, primaryNodeId: ID }];
  const state = new SpaceTable(memory).add(facts);
  return { memory, state };
}

test('FAULT-103 an entry that becomes durable costs those who wait for later ones nothing', () => {
  const { state } = space();
  const count = 4_000;
  let woken = 0;
  for (let n = 1; n <= count; n++) state.durableWaits.add(new Counted(n, () => woken++));
  Counted.asked = 0;
  // One fdatasync for each, as with fsync per-write.
  for (let n = 1; n <= count; n++) {
    wakeDurableWaits(state, n);
    expect(woken).toBe(n);
  }
  // All of them at each were 8,000,000.
  expect(Counted.asked).toBeLessThan(count * 60);
});

test('FAULT-103 an acknowledgement costs those who wait for later ones nothing', async () => {
  const { memory, state } = space();
  let asked = 0;
  let flushed = 0;
  const shipper = {
    replica: { nodeId: 'b' },
    link: { directoryId: undefined },
    flushedOf: () => {
      asked++;
      return flushed;
    },
  } as unknown as ShipperHandle;
  const wal = { addWait: (_: unknown, wait: { resolve(): void }) => wait.resolve() };
  const own = { nodeId: 'a', directoryId: ID };
  const quorum = new Quorum(
    () => own,
    memory,
    () => [shipper],
  );
  const acks = new AckWaits(memory, wal as unknown as Wal, quorum, () => [shipper], false);
  let tick: () => void = () => undefined;
  const next = () => new Promise<void>((resolve) => (tick = resolve));
  vi.spyOn(memory, 'waitAck').mockImplementation(next as never);
  const count = 500;
  memory.setDurable(state.slot, count);
  const done: number[] = [];
  for (let n = 1; n <= count; n++) {
    void acks.flushed(state, n, 1, 60_000).then(() => done.push(n));
  }
  await new Promise((resolve) => setImmediate(resolve));
  asked = 0;
  for (flushed = 1; flushed <= count; flushed++) {
    tick();
    await new Promise((resolve) => setImmediate(resolve));
    expect(done.length).toBe(flushed);
  }
  // Once a tick, and once for each that is woken; all of them at each were 125,000.
  expect(asked).toBeLessThan(4 * count);
  acks.close();
});

/** One replica, and a disk: how far each has come is set by hand. */
function acknowledging() {
  const { memory, state } = space();
  const replica = { flushed: 0 };
  const link = { directoryId: undefined };
  const flushedOf = (): number => replica.flushed;
  const shipper = { replica: { nodeId: 'b' }, link, flushedOf } as unknown as ShipperHandle;
  const addWait = (_: unknown, wait: DurableWait): void => {
    if (memory.durable(state.slot) >= wait.sequence) wait.resolve();
    else state.durableWaits.add(wait);
  };
  const wal = { addWait } as unknown as Wal;
  const own = { nodeId: 'a', directoryId: ID };
  const quorum = new Quorum(
    () => own,
    memory,
    () => [shipper],
  );
  const acks = new AckWaits(memory, wal, quorum, () => [shipper], false);
  let tick: () => void = () => undefined;
  const next = () => new Promise<void>((resolve) => (tick = resolve));
  vi.spyOn(memory, 'waitAck').mockImplementation(next as never);
  const told = async (flushed: number): Promise<void> => {
    replica.flushed = flushed;
    tick();
    await new Promise((resolve) => setImmediate(resolve));
  };
  return { memory, state, acks, told, replica };
}

const outcome = (wait: Promise<unknown>): Promise<string> =>
  wait.then(
    () => 'flushed',
    (error) => (error as EngramError).code,
  );

test('who becomes durable together is looked at together, for replicas as well', async () => {
  const { memory, state, acks, told } = acknowledging();
  const looks = vi.spyOn(Quorum.prototype, 'acknowledgedUpTo');
  onTestFinished(() => looks.mockRestore());
  const waits = Array.from({ length: 500 }, (_, n) =>
    outcome(acks.flushed(state, n + 1, 1, 60_000)),
  );
  expect(looks).not.toHaveBeenCalled();
  memory.setDurable(state.slot, 500);
  wakeDurableWaits(state, 500);
  await told(0);
  // Once that they are durable, once for the loop that hears of replicas, once for the tick.
  expect(looks.mock.calls.length).toBeLessThanOrEqual(3);
  await told(500);
  expect(new Set(await Promise.all(waits))).toEqual(new Set(['flushed']));
  expect(looks.mock.calls.length).toBeLessThanOrEqual(4);
  acks.close();
});

test('who becomes durable when a replica has it already waits for no other tick', async () => {
  const { memory, state, acks, told } = acknowledging();
  const wait = outcome(acks.flushed(state, 3, 1, 60_000));
  memory.setDurable(state.slot, 3);
  // For a second replica, which is none: so the loop runs, and hears of the first one in between.
  const never = outcome(acks.flushed(state, 2, 2, 60_000));
  await told(3);
  wakeDurableWaits(state, 3);
  expect(await wait).toBe('flushed');
  acks.close();
  expect(await never).toBe('Closed');
});

test('a wait ends when so many as it asks for have its entry, no sooner and no later', async () => {
  const step = fc.record({
    kind: fc.constantFrom('wait', 'flush', 'flush', 'write', 'come', 'go'),
    by: fc.nat(4),
    who: fc.nat(3),
  });
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 60 }), fc.boolean(), async (steps, isSet) => {
      const { memory, state } = space();
      const all = ['b', 'c', 'd', 'e'].map((nodeId) => ({ nodeId, flushed: 0, isHere: true }));
      // Of a set e is no member: it has what it has, and counts for nothing.
      const ids = isSet ? ['a', 'b', 'c', 'd'] : [];
      const members = ids.map((nodeId) => ({ nodeId, directoryId: ID }));
      const row = { epoch: 1, sequence: 0, next: { members, keep: 1 }, old: undefined };
      if (isSet) state.facts.sets = [row];
      state.facts.history = [{ epoch: 1, startSequence: 1, primaryNodeId: ID }];
      const here = () => all.filter(({ isHere }) => isHere);
      const shippers = () =>
        here().map((one) => ({
          replica: { nodeId: one.nodeId },
          link: { directoryId: ID },
          progress: { epoch: () => 1 },
          flushedOf: () => one.flushed,
        })) as unknown as ShipperHandle[];
      const addWait = (_: unknown, wait: DurableWait): void => {
        if (memory.durable(state.slot) >= wait.sequence) wait.resolve();
        else state.durableWaits.add(wait);
      };
      const own = { nodeId: 'a', directoryId: ID };
      const quorum = new Quorum(() => own, memory, shippers);
      vi.spyOn(quorum, 'isFounded').mockReturnValue(true);
      const acks = new AckWaits(memory, { addWait } as unknown as Wal, quorum, shippers, false);
      const waits: { sequence: number; level: number; isOver: boolean }[] = [];
      const hasIt = ({ sequence, level }: { sequence: number; level: number }): boolean => {
        const counts = here().filter((one) => !isSet || one.nodeId !== 'e');
        const having = counts.filter((one) => one.flushed >= sequence);
        return memory.durable(state.slot) >= sequence && having.length >= level;
      };
      for (const { kind, by, who } of steps) {
        const durable = memory.durable(state.slot);
        const one = all[who]!;
        if (kind === 'wait') {
          const wait = { sequence: Math.max(1, durable + by - 1), level: who, isOver: false };
          waits.push(wait);
          void acks.flushed(state, wait.sequence, who, 60_000).then(
            () => (wait.isOver = true),
            () => undefined,
          );
        }
        if (kind === 'flush' && one.flushed < durable + by - 2) {
          one.flushed = durable + by - 2;
          if (one.isHere) memory.acked();
        }
        if (kind === 'go') one.isHere = false;
        if (kind === 'come' && !one.isHere) {
          one.isHere = true;
          memory.wakeMain();
        }
        if (kind === 'write') {
          memory.setDurable(state.slot, durable + by);
          wakeDurableWaits(state, durable + by);
        }
        const before = waits.filter(({ isOver }) => isOver);
        const isMissed = () => waits.some((wait) => !wait.isOver && hasIt(wait));
        for (let turns = 0; turns < 2 || (isMissed() && turns < 500); turns++) {
          await new Promise((resolve) => setImmediate(resolve));
        }
        expect(isMissed()).toBe(false);
        for (const wait of waits) {
          if (wait.isOver && !before.includes(wait)) expect(hasIt(wait)).toBe(true);
        }
      }
      acks.close();
    }),
    { numRuns: 200 },
  );
});

test('who waits once nobody has waited for a while is heard of like the first one', async () => {
  const { memory, state, acks, told } = acknowledging();
  for (let n = 1; n <= 3; n++) {
    memory.setDurable(state.slot, n);
    const wait = outcome(acks.flushed(state, n, 1, 60_000));
    await told(n - 1);
    await told(n);
    expect(await wait).toBe('flushed');
  }
  acks.close();
});

test('an ack that comes at whatever moment of a look is seen', async () => {
  for (let moment = 0; moment < 8; moment++) {
    const { memory, state } = space();
    let [flushed, looks] = [0, 0];
    const flushedOf = (): number => {
      const found = flushed;
      // As another thread does, behind what was just read.
      if (looks++ === moment) {
        flushed = 3;
        memory.wakeMain();
      }
      return found;
    };
    const replica = { nodeId: 'b' };
    const shipper = { replica, link: { directoryId: undefined }, flushedOf };
    const shippers = () => [shipper as unknown as ShipperHandle];
    const quorum = new Quorum(() => ({ nodeId: 'a', directoryId: ID }), memory, shippers);
    const wal = { addWait: (_: unknown, wait: DurableWait) => wait.resolve() };
    const acks = new AckWaits(memory, wal as unknown as Wal, quorum, shippers, false);
    memory.setDurable(state.slot, 3);
    const wait = outcome(acks.flushed(state, 3, 1, 60_000));
    // Where nobody looks any more it comes now.
    await new Promise((resolve) => setImmediate(resolve));
    if (looks <= moment) {
      flushed = 3;
      memory.wakeMain();
    }
    expect(await wait).toBe('flushed');
    acks.close();
  }
});

test('a loop that was blocked for longer than a wait looks before that is late', async () => {
  const { memory, state, acks, replica } = acknowledging();
  memory.setDurable(state.slot, 5);
  const waits = [3, 5].map((n) => outcome(acks.flushed(state, n, 1, 20)));
  await new Promise((resolve) => setImmediate(resolve));
  // It has come, and the loop has not heard of it: time-outs come before what other threads say.
  replica.flushed = 4;
  expect(await Promise.all(waits)).toEqual(['flushed', 'AckTimeout']);
  acks.close();
});

test('FAULT-109 what is older than the present epoch counts through its first entry', async () => {
  const { memory, state, acks, told } = acknowledging();
  state.facts.epoch = 3;
  memory.setDurable(state.slot, 5);
  const waits = [4, 5, 6].map((n) => outcome(acks.flushed(state, n, 1, 60_000)));
  const settled: string[] = [];
  for (const wait of waits) void wait.then((how) => settled.push(how));
  // Of epoch 1, and the replica has all of it: the epoch has no entry yet.
  await told(5);
  expect(settled).toEqual([]);
  state.facts.history.push({ epoch: 3, startSequence: 6, primaryNodeId: ID });
  memory.setDurable(state.slot, 6);
  wakeDurableWaits(state, 6);
  await told(5);
  expect(settled).toEqual([]);
  await told(6);
  expect(await Promise.all(waits)).toEqual(['flushed', 'flushed', 'flushed']);
  acks.close();
});

test('FAULT-109 whatever ends the history of a wait ends the wait', async () => {
  const ends: [string, (state: SpaceState, table: SpaceTable) => void][] = [
    ['Rewound', (state) => takeBack(state, 6)],
    ['Fenced', (state, table) => table.setEpoch(state, 2)],
    ['Fenced', (state) => becomeReplica(Object.assign(state, { facts: led(state) }))],
  ];
  for (const [wanted, end] of ends) {
    const { memory, state, acks } = acknowledging();
    memory.setDurable(state.slot, 5);
    // Durable here and on no replica; not even here; here alone is enough, and it is not.
    const waits = [acks.flushed(state, 5, 1, 60_000), acks.flushed(state, 20, 1, 60_000)];
    const all = [...waits, acks.flushed(state, 20, 0, 60_000)].map(outcome);
    end(state, new SpaceTable(memory));
    expect(await Promise.all(all)).toEqual([wanted, wanted, wanted]);
    expect([state.hostWaits.size, state.durableWaits.size]).toEqual([0, 0]);
  }
});

function led({ facts }: SpaceState): SpaceFacts {
  return { ...facts, role: 'primary' };
}

test('FAULT-109 a wait that is over leaves nothing, however it has ended', async () => {
  const { memory, state, acks, told } = acknowledging();
  memory.setDurable(state.slot, 5);
  const late = [acks.flushed(state, 20, 0, 10), acks.flushed(state, 20, 1, 10)];
  const all = [...late, acks.flushed(state, 5, 1, 10)].map(outcome);
  expect(await Promise.all(all)).toEqual(['AckTimeout', 'AckTimeout', 'AckTimeout']);
  expect([state.hostWaits.size, state.durableWaits.size]).toEqual([0, 0]);
  // What comes after all wakes nobody, and is looked at by nobody.
  memory.setDurable(state.slot, 30);
  wakeDurableWaits(state, 30);
  const before = vi.mocked(memory.waitAck).mock.calls.length;
  await told(5);
  await told(5);
  expect(vi.mocked(memory.waitAck).mock.calls.length).toBeLessThanOrEqual(before);
  acks.close();
});

test('FAULT-110 what is said of void entries says nothing of those in their place', () => {
  const { state } = space();
  const { facts } = state;
  facts.position = { epoch: 1, sequence: 10, headerCrc: 1 };
  facts.slots.set('b', { flushed: 9, lost: false, idleMs: 0 });
  facts.slots.set('c', { flushed: 3, lost: false, idleMs: 0 });
  const position = { epoch: 1, sequence: 5, headerCrc: 1 };
  // On their way to the disk when the entries go: a checkpoint, a skip.
  applyRewind(facts, { position, timestamp: 0n, to: 10, quarantine: 'q' }, 1_000);
  passCheckpoint(facts, 9);
  addSkip(facts, 8);
  expect(facts.checkpoint).toBe(6);
  expect(facts.skipped).toEqual([]);
  expect([...facts.slots.values()].map((slot) => slot.flushed)).toEqual([5, 3]);
  facts.position = { epoch: 2, sequence: 12, headerCrc: 1 };
  passCheckpoint(facts, 9);
  addSkip(facts, 8);
  expect([facts.checkpoint, facts.skipped]).toEqual([9, [8]]);
});

test('what was taken back since a mark is what a naive list says', () => {
  for (let seed = 1; seed <= 100; seed++) {
    const chance = chanceFrom(seed);
    const truth = new LogTruth();
    const all: number[] = [];
    for (let step = 0; step < 300; step++) {
      const first = chance(10) === 0 ? Number.POSITIVE_INFINITY : 1 + chance(200);
      truth.takeBack(first);
      all.push(first);
      const mark = chance(all.length + 1);
      const wanted = Math.min(Number.POSITIVE_INFINITY, ...all.slice(mark));
      expect(truth.mark).toBe(all.length);
      // Rewinds that go ever higher are the ones that have to be kept apart.
      expect(truth.voidSince(mark)).toBe(wanted);
    }
  }
});

test('rewinds that are too many to be told apart take back more, never less', () => {
  const truth = new LogTruth();
  const count = 4 * TAKEN_BACK_MAX;
  for (let n = 1; n <= count; n++) truth.takeBack(n);
  for (let mark = 0; mark < count; mark++) {
    expect(truth.voidSince(mark)).toBeLessThanOrEqual(mark + 1);
    if (mark >= count - TAKEN_BACK_MAX + 1) expect(truth.voidSince(mark)).toBe(mark + 1);
  }
  expect(truth.voidSince(count)).toBe(Number.POSITIVE_INFINITY);
});

test('waits are woken in order, whatever was taken out of them', () => {
  for (let seed = 1; seed <= 50; seed++) {
    const chance = chanceFrom(seed);
    const waits = new SequenceWaits<{ sequence: number; place?: number }>();
    const model = new Set<{ sequence: number; place?: number }>();
    for (let step = 0; step < 300; step++) {
      const what = chance(4);
      if (what < 2) {
        const wait = { sequence: chance(100) };
        waits.add(wait);
        model.add(wait);
      } else if (what === 2) {
        const all = [...model];
        const wait = all[chance(all.length || 1)];
        if (!wait) continue;
        waits.delete(wait);
        waits.delete(wait);
        model.delete(wait);
      } else {
        const sequence = chance(100);
        const lowest = Math.min(...[...model].map((w) => w.sequence));
        const wait = waits.take(sequence);
        expect(wait?.sequence).toBe(lowest <= sequence ? lowest : undefined);
        model.delete(wait!);
      }
      expect(waits.size).toBe(model.size);
      expect(waits.lowest).toBe(Math.min(...[...model].map((w) => w.sequence)));
    }
  }
});
