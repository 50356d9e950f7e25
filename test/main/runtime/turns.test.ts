/** What goes on in the background looks at so many spaces a turn, however many there are. */
import { afterEach, expect, test, vi } from 'vitest';
import { StaticCoordinator } from '#src/main/lead/coordinator.js';
import { CoordinatorState } from '#src/main/lead/coordinator-state.js';
import { SpaceTable } from '#src/main/log/space-table.js';
import { MemberGates, nextTurn } from '#src/main/runtime/turns.js';
import { LagMonitor } from '#src/main/ship/lag-monitor.js';
import type { ShipperHandle } from '#src/main/ship/shipper-handle.js';
import { DiskRoom } from '#src/main/watch/health/disk-room.js';
import { type MetricParts, metricFacts } from '#src/main/watch/metric-facts.js';
import { failure } from '#src/shared/errors.js';
import { PairWatch } from '#src/shared/link/pair-watch.js';
import { newSpaceFacts, type SpaceFacts } from '#src/shared/log/space-facts.js';
import { allocateMemory, NodeMemory } from '#src/shared/memory/slab.js';
import { TurnCount } from '../../support/retention-world.js';

afterEach(() => vi.restoreAllMocks());

const SPACES = 4_000;
const LIMITS = {
  lagAlertThresholdMs: 1_000,
  lagDegradedThresholdMs: 5_000,
  lagPollMs: 3_600_000,
  stalledAfterMs: 5_000,
  readTimeoutMs: 5_000,
  maxRetries: 5,
};

class World {
  readonly memory = new NodeMemory(allocateMemory(4096, 4 * 4096, SPACES));
  readonly spaces = new SpaceTable(this.memory);
  readonly shippers: ShipperHandle[];
  readonly monitor: LagMonitor;

  constructor() {
    for (let n = 1; n <= SPACES; n++) {
      const facts = newSpaceFacts(n.toString(16).padStart(32, '0'), `s${n}`);
      facts.role = 'primary';
      facts.slots.set('b', { flushed: 0, lost: n % 2 === 0, idleMs: 0 });
      this.spaces.add(facts).replicas = ['b'];
    }
    this.shippers = ['b', 'c'].map((nodeId) => this.#shipper(nodeId));
    const told = () => undefined;
    const hooks = { lagAlert: told, replicaStatus: told, stalled: told };
    const reader = {
      lookUp: () => Promise.resolve(new Map()),
      bytesOf: () => Promise.resolve(0),
    };
    const shippers = () => this.shippers;
    this.monitor = new LagMonitor(LIMITS, this.memory, this.spaces, shippers, reader, hooks);
  }

  /** A replica that has never been connected. */
  #shipper(nodeId: string): ShipperHandle {
    const watch = new PairWatch(LIMITS, SPACES, performance.now());
    const slots = this.spaces.spaces.map((space) => space.slot);
    for (const slot of slots) watch.follow(slot, true);
    const link = { state: 'connecting', reason: '', failures: 0, sinceMs: 0, openSinceMs: 0 };
    const counters = new SharedArrayBuffer(4096);
    const progress = { heardMs: 0, cursor: 0, bytesPerSecond: 0, streams: 0 };
    const parts = { link, watch, slots, counters, progress, isConnected: false };
    const replica = { nodeId, host: '', port: 0 };
    return { ...parts, replica, flushedOf: () => 0 } as unknown as ShipperHandle;
  }
}

function countLooks(): TurnCount {
  const count = new TurnCount();
  const { look } = PairWatch.prototype;
  vi.spyOn(PairWatch.prototype, 'look').mockImplementation(function (this: PairWatch, ...pair) {
    count.add();
    return look.apply(this, pair);
  });
  return count;
}

test('FAULT-103 the lag poll looks at so many pairs a turn', async () => {
  const { monitor } = new World();
  const looks = countLooks();
  void monitor.tick();
  // One that is under way is not begun again.
  void monitor.tick();
  while (looks.all < 2 * SPACES) await new Promise((resolve) => setImmediate(resolve));
  await new Promise((resolve) => setTimeout(resolve, 5));
  expect(looks.all).toBe(2 * SPACES);
  expect(looks.most).toBeLessThanOrEqual(1_024);
  monitor.close();
});

test('FAULT-103 a scrape looks at so many spaces a turn', async () => {
  const { monitor, spaces, shippers, memory } = new World();
  const looks = countLooks();
  const asked = new TurnCount();
  for (const space of spaces.spaces) {
    const { damage } = space.facts;
    const get = (): SpaceFacts['damage'] => {
      asked.add();
      return damage;
    };
    Object.defineProperty(space.facts, 'damage', { get });
  }
  const parts = {
    config: { nodeId: 'a', clusterId: '' },
    ...{ spaces, memory, events: new Map(), lines: { dropped: 0 } },
    segments: { list: [], spareCount: 0, recycled: 0, retainedBytes: 0 },
    damage: { holes: [] },
    wal: { health: { status: { state: 'ok' } }, slabsInUse: 0, waiting: 0 },
    replication: { monitor, shippers, shippersOf: () => [], quorum: { learning: () => [] } },
    room: new DiskRoom(() => Promise.resolve(0)),
    coordinator: new CoordinatorState(new StaticCoordinator()),
    lastBackupMs: () => Promise.resolve(undefined),
    credentials: { status: { certificate: undefined, refusal: undefined } },
    refusals: { all: [] },
    retention: { hostBytes: 0 },
    primaries: { all: [] },
  } as unknown as MetricParts;
  const facts = await metricFacts(parts);
  expect(facts.spacesLed).toBe(SPACES);
  expect(facts.replicas.map((r) => r.slotsLost)).toEqual([SPACES / 2, 0]);
  expect(looks.all).toBe(2 * SPACES);
  expect(asked.all).toBe(SPACES);
  expect(looks.most).toBeLessThanOrEqual(1_024);
  expect(asked.most).toBeLessThanOrEqual(1_024);
  monitor.close();
});

test('who waits for a turn with a member that is found silent waits no longer', async () => {
  const gates = new MemberGates(2);
  const begun: string[] = [];
  const silent = async (name: string): Promise<void> => {
    begun.push(name);
    await nextTurn();
    throw failure('ConnectionTimeout', 'no answer');
  };
  const told = ['1', '2', '3', '4'].map((n) => gates.through('b', () => silent(n)));
  const other = gates.through('c', async () => 'answered');
  const codes = await Promise.all(told.map((one) => one.catch((error) => error.code)));
  expect(codes).toEqual(Array(4).fill('ConnectionTimeout'));
  expect(begun).toEqual(['1', '2']);
  expect(await other).toBe('answered');
  // Who comes later asks it anew; what is wrong with one space alone is nothing to the others.
  const refused = gates.through('b', () => Promise.reject(failure('PromotionRefused', 'no')));
  const next = ['5', '6'].map((n) => gates.through('b', async () => n));
  await expect(refused).rejects.toMatchObject({ code: 'PromotionRefused' });
  expect(await Promise.all(next)).toEqual(['5', '6']);
});
