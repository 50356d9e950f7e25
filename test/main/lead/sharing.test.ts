/** Who leads more than others gives some of it back: by itself, or only when it is asked to. */
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import type { Coordinator } from '#src/main/lead/coordinator.js';
import { Sharing, type SharingParts } from '#src/main/lead/sharing.js';
import { REBALANCE_CALM_MS, REBALANCE_EVERY_MS } from '#src/shared/limits.js';

beforeEach(() => void vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'performance'] }));
afterEach(() => void vi.useRealTimers());

/** A node that leads six spaces beside one that leads none. */
function six(autoRebalance: boolean, linkedMs = 0, takesMs = 0) {
  const spaces = [...Array(6).keys()].map((n) => {
    return { facts: { name: `s${n}`, role: 'primary', primary: 'a' }, replicas: ['b'] };
  });
  const led = (): ReadonlyMap<string, number> => {
    const own = spaces.filter(({ facts }) => facts.role === 'primary').length;
    const other = performance.now() >= takesMs ? [['b', 6 - own] as const] : [];
    return new Map([['a', own], ...other]);
  };
  const coordinator = { kind: 'etcd', led, drain: async () => undefined } as unknown as Coordinator;
  const parts = {
    config: { nodeId: 'a', coordinator: { kind: 'etcd', autoRebalance } },
    spaces: { spaces },
    replication: {
      isConnected: () => performance.now() >= linkedMs,
      mayConnect: () => performance.now() < linkedMs,
      members: [],
    },
    coordinator,
    stop: new AbortController().signal,
    switchover: async (space: (typeof spaces)[number]) => {
      space.facts.role = 'replica';
    },
  } as unknown as SharingParts;
  return { sharing: new Sharing(parts), led };
}

test('gives back by itself, once the nodes have been the same for a while', async () => {
  const { sharing, led } = six(true);
  sharing.start();
  await vi.advanceTimersByTimeAsync(REBALANCE_CALM_MS / 2);
  expect(led().get('a')).toBe(6);
  await vi.advanceTimersByTimeAsync(REBALANCE_CALM_MS + 4 * REBALANCE_EVERY_MS);
  expect(led().get('a')).toBe(3);
});

test('told not to, only when it is asked to', async () => {
  const { sharing, led } = six(false);
  sharing.start();
  await vi.advanceTimersByTimeAsync(20 * REBALANCE_CALM_MS);
  expect(led().get('a')).toBe(6);
  await sharing.rebalance();
  expect(led().get('a')).toBe(3);
});

test('who asks while links or nodes come up waits for them, for a while', async () => {
  const soon = six(false, performance.now() + 1_000);
  const asked = soon.sharing.rebalance();
  await vi.advanceTimersByTimeAsync(1_100);
  expect((await asked).handed).toEqual({ b: 3 });
  const started = six(false, 0, performance.now() + 1_000);
  const drained = started.sharing.drain();
  await vi.advanceTimersByTimeAsync(1_100);
  expect((await drained).handed).toEqual({ b: 6 });
  const late = six(false, performance.now() + 60_000);
  const given = late.sharing.drain();
  await vi.advanceTimersByTimeAsync(3_000);
  const { led, kept } = await given;
  expect({ led, of: kept.length }).toEqual({ led: 6, of: 6 });
});
