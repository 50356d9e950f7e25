import { expect, test } from 'vitest';
import { becomeReplica } from '#src/main/lead/fencing.js';
import type { SpaceState } from '#src/main/log/space-table.js';
import { newSpaceFacts } from '#src/shared/log/space-facts.js';

test('what a node led before its host was told so is applied like any other', () => {
  const facts = { ...newSpaceFacts('0'.repeat(32), 's'), role: 'primary' as const, applied: 3 };
  facts.position = { epoch: 2, sequence: 4, headerCrc: 1 };
  const hostWaits = new Set();
  const space = { facts, hasLed: false, replicas: ['b'], hostWaits } as unknown as SpaceState;
  becomeReplica(space);
  expect(space.facts).toMatchObject({ role: 'replica', applied: 3 });
  // What it took appends for its host has applied itself.
  Object.assign(facts, { role: 'primary' });
  space.hasLed = true;
  becomeReplica(space);
  expect(space.facts.applied).toBe(4);
});
