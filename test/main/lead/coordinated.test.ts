/** What a node makes of its coordinator's word that a space is given to another node. */
import { expect, test } from 'vitest';
import { Coordinated, type CoordinatedParts } from '#src/main/lead/coordinated.js';

function heardBy(role: 'primary' | 'replica', linked: readonly string[], isNews: boolean): boolean {
  const space = { facts: { role, primary: 'a', members: [] } };
  let isHeard = false;
  const heard = (): void => {
    isHeard = true;
  };
  const parts = {
    config: { nodeId: 'c', clusterId: 'test' },
    spaces: { spaces: [space], byName: () => space },
    leadership: { fencing: { heard } },
    isLinked: (nodeId: string) => linked.includes(nodeId),
  };
  const coordinated = new Coordinated(parts as unknown as CoordinatedParts);
  coordinated.heard('s', 2, undefined, isNews);
  return isHeard;
}

test('FAULT-115 a replica that nobody ships to leaves the news of an epoch to its promise', () => {
  expect(heardBy('replica', [], true)).toBe(false);
  // No promise came within a second, or never will: it is seen all the same.
  expect(heardBy('replica', [], false)).toBe(true);
});

test('FAULT-111 who leads, or gets entries of the epoch before, hears of it at once', () => {
  expect(heardBy('primary', [], true)).toBe(true);
  expect(heardBy('replica', ['a'], true)).toBe(true);
});
