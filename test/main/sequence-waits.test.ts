/** Waiting for sequences: woken in their order, at a cost that follows who is woken. */
import { expect, test, vi } from 'vitest';
import { AckWaits } from '#src/main/ack-waits.js';
import { Quorum } from '#src/main/quorum.js';
import { SequenceWaits } from '#src/main/sequence-waits.js';
import type { ShipperHandle } from '#src/main/shipper-handle.js';
import { SpaceTable, wakeDurableWaits } from '#src/main/space-table.js';
import type { Wal } from '#src/main/wal.js';
import { allocateMemory, NodeMemory } from '#src/shared/slab.js';
import { newSpaceFacts } from '#src/shared/state.js';
import { chanceFrom } from '../support/fake-disk.js';

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
  const state = new SpaceTable(memory).add(newSpaceFacts(`${ID}1`, 's'));
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
    }
  }
});
