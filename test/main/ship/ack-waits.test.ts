/** Main sleeps through acks that are not enough, and through none that is. */
import { expect, test, vi } from 'vitest';
import { type DurableWait, SpaceTable } from '#src/main/log/space-table.js';
import type { Wal } from '#src/main/log/wal.js';
import { AckWaits } from '#src/main/ship/ack-waits.js';
import { Quorum } from '#src/main/ship/quorum.js';
import type { ShipperHandle } from '#src/main/ship/shipper-handle.js';
import { newSpaceFacts } from '#src/shared/log/space-facts.js';
import { allocateMemory, NodeMemory } from '#src/shared/memory/slab.js';
import { chanceFrom } from '../../support/fake-disk.js';

const ID = '0'.repeat(31);
/** Where the tick of acks stands among the words of a node. */
const ACK_TICK = 16;

/** So many replicas, which flush what they are told to, and their primary. */
function acknowledging(replicas: number, tick = 0) {
  const memory = new NodeMemory(allocateMemory(4096, 4 * 4096, 4));
  new Int32Array(memory.memory.control)[ACK_TICK] = tick;
  const facts = newSpaceFacts(`${ID}1`, 's');
  facts.epoch = 1;
  facts.history = [{ epoch: 1, startSequence: 1, primaryNodeId: ID }];
  const state = new SpaceTable(memory).add(facts);
  memory.setDurable(state.slot, 1_000_000);
  const flushed = Array.from({ length: replicas }, () => 0);
  /** What happens in the middle of a look, once: when so many rows have been looked at. */
  const during: { look: (() => void) | undefined; rows: number } = { look: undefined, rows: 0 };
  const shippers = flushed.map((_, n) => ({
    replica: { nodeId: `r${n}` },
    link: { directoryId: undefined },
    flushedOf: () => {
      const found = flushed[n]!;
      if (during.look && during.rows-- === 0) {
        const { look } = during;
        during.look = undefined;
        look();
      }
      return found;
    },
  })) as unknown as ShipperHandle[];
  const wal = { addWait: (_: unknown, wait: DurableWait) => wait.resolve() } as unknown as Wal;
  const own = { nodeId: 'a', directoryId: ID };
  const quorum = new Quorum(
    () => own,
    memory,
    () => shippers,
  );
  const acks = new AckWaits(memory, wal, quorum, () => shippers, false);
  const sleeps = vi.spyOn(memory, 'waitAck');
  const ack = (n: number, sequence: number): void => {
    flushed[n] = Math.max(flushed[n]!, sequence);
    memory.acked();
  };
  let over = 0;
  const wait = (sequence: number, level: number): Promise<void> =>
    acks.flushed(state, sequence, level, 60_000).then(() => {
      over++;
    });
  return { acks, ack, wait, during, flushed, sleeps, over: () => over };
}

/** What has to come has come. */
async function settled(): Promise<void> {
  for (let n = 0; n < 4; n++) await new Promise((resolve) => setImmediate(resolve));
}

test.each([0, 2 ** 31 - 2, -1])('one wake for two acks, from tick %i on', async (tick) => {
  const { acks, ack, wait, sleeps, over } = acknowledging(2, tick);
  for (let sequence = 1; sequence <= 5; sequence++) {
    const done = wait(sequence, 2);
    await settled();
    sleeps.mockClear();
    ack(0, sequence);
    await settled();
    expect([over(), sleeps.mock.calls.length]).toEqual([sequence - 1, 0]);
    ack(1, sequence);
    await done;
    expect(over()).toBe(sequence);
  }
  acks.close();
});

test('one replica that acknowledges twice is not two', async () => {
  const { acks, ack, wait, over } = acknowledging(2);
  const done = wait(10, 2);
  await settled();
  ack(0, 5);
  ack(0, 10);
  await settled();
  ack(0, 11);
  await settled();
  expect(over()).toBe(0);
  ack(1, 10);
  await done;
  acks.close();
});

test('who needs fewer acks than those who wait already is woken by fewer', async () => {
  const { acks, ack, wait } = acknowledging(3);
  const all = wait(10, 3);
  await settled();
  const one = wait(10, 1);
  await settled();
  ack(2, 10);
  await one;
  ack(1, 10);
  ack(0, 10);
  await all;
  acks.close();
});

test('an ack that comes while main looks, and knows nothing of who waits, is heard', async () => {
  const { acks, ack, wait, during } = acknowledging(2);
  const both = wait(10, 2);
  await settled();
  const one = wait(5, 1);
  // Its shipper reads that main sleeps for two; main has looked at its row for this wait already.
  during.look = () => ack(0, 5);
  during.rows = 2;
  await one;
  ack(0, 10);
  ack(1, 10);
  await both;
  acks.close();
});

test.each([
  1, 2, 3, 4,
])('whatever comes in whatever order, nobody waits too long: %i', async (seed) => {
  const chance = chanceFrom(seed);
  const replicas = 2 + (seed % 2);
  const { acks, ack, wait, during, flushed, over } = acknowledging(replicas, 2 ** 31 - 50);
  const waits: { sequence: number; level: number }[] = [];
  const next = (): number => Math.max(...flushed) + chance(8) - 3;
  for (let step = 0; step < 400; step++) {
    const n = chance(replicas);
    if (chance(10) < 7) ack(n, next());
    else {
      const asked = { sequence: Math.max(1, next()), level: chance(5) > 0 ? replicas : 1 };
      waits.push(asked);
      wait(asked.sequence, asked.level).catch(() => undefined);
      // It looks at the end of this turn.
      if (chance(2) > 0) during.look = () => ack(n, next());
      during.rows = chance(4);
    }
    if (chance(5) < 2) continue;
    await settled();
    const have = (sequence: number): number => flushed.filter((f) => f >= sequence).length;
    expect(over()).toBe(waits.filter((w) => have(w.sequence) >= w.level).length);
  }
  acks.close();
});

test('where acks come faster than they are looked at others have their turn', async () => {
  const { wait, sleeps } = acknowledging(1);
  // Endless microtasks would let no test end: at last it sleeps.
  sleeps.mockImplementation(() => {
    return sleeps.mock.calls.length < 100_000 ? undefined : new Promise(() => undefined);
  });
  void wait(1, 1);
  await settled();
  expect(sleeps.mock.calls.length).toBeGreaterThan(10);
  expect(sleeps.mock.calls.length).toBeLessThan(1_000);
  sleeps.mockImplementation(() => new Promise(() => undefined));
});
