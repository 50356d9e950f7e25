/** What is done for each node is not done for each of thousands of spaces that are on the same. */
import { expect, test, vi } from 'vitest';
import { type KnockingParts, keepKnocking } from '#src/main/lead/knocking.js';
import { RoleQueue } from '#src/main/lead/role-queue.js';
import type { SpaceState } from '#src/main/log/space-table.js';
import { newSpaceFacts, unlike } from '#src/shared/log/space-facts.js';
import { at, EachTest, until } from '../../support/cluster.js';

const each = new EachTest();
const SPACES = 5_000;

function alike(count: number): SpaceState[] {
  const members = [{ nodeId: 'p', host: 'host', port: 1 }];
  const next = { members: [{ nodeId: 'p', directoryId: '1'.repeat(32) }], keep: 1 };
  return Array.from({ length: count }, (_, n) => {
    const facts = newSpaceFacts(n.toString(16).padStart(32, '0'), `space-${n}`);
    const sets = [{ epoch: 1, sequence: 0, next, old: undefined }];
    return {
      facts: Object.assign(facts, { members, sets, primary: 'p' }),
    } as unknown as SpaceState;
  });
}

test('of spaces on the same nodes one is told, of others each', () => {
  const spaces = alike(SPACES);
  expect([...unlike(spaces)]).toEqual([spaces[0]]);
  spaces[10]!.facts.primary = 'q';
  spaces[20]!.facts.members = [];
  spaces[30]!.facts.role = 'primary';
  const { sets } = spaces[40]!.facts;
  const next = { members: [], keep: 1 };
  sets.push({ epoch: 1, sequence: 5, next, old: sets[0]!.next });
  // Each is unlike the one before it, and the one behind it is again.
  const places = [0, 10, 11, 20, 21, 30, 31, 40, 41];
  expect([...unlike(spaces)]).toEqual(places.map((n) => spaces[n]));
});

test('a node that follows thousands of spaces looks once where their members are', async () => {
  const stop = new AbortController();
  let looks = 0;
  const parts = {
    peers: { open: () => Promise.reject(new Error('nobody is there')) },
    stop: stop.signal,
    spaces: () => alike(SPACES),
    isLinked: () => false,
    known: () => [],
    reachable: () => {
      looks++;
      return [{ nodeId: 'p', host: 'host', port: 1 }];
    },
  };
  const knocking = keepKnocking(parts as unknown as KnockingParts);
  stop.abort();
  await knocking;
  expect(looks).toBe(1);
});

test('spaces that a primary leads on are introduced without a change each', async () => {
  const b = await each.start('b', { listen: { host: '127.0.0.1', port: 0 } });
  const options = { replicas: [at('b', b.address!.port)] };
  const a = await each.start('a', options);
  const names = Array.from({ length: 300 }, (_, n) => `tenant-${n}`);
  const spaces = await Promise.all(names.map((name) => a.openSpace(name)));
  await spaces[7]!.append(1, Buffer.from('x'), { ack: { replicas: 1 } });
  await a.close();
  const changes = vi.spyOn(RoleQueue.prototype, 'run');
  const again = await each.start('a', options);
  const states = () => again.status().spaces.map((s) => s.replicas[0]?.state);
  await until('all are streamed', () => states().every((state) => state === 'streaming'));
  expect(states().length).toBe(300);
  expect(changes.mock.calls.length).toBeLessThan(30);
  changes.mockRestore();
  await again.space('tenant-7').append(1, Buffer.from('y'), { ack: { replicas: 1 } });
  expect(b.space('tenant-7').status().durableSequence).toBe(2);
});
