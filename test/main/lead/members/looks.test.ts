/** How often changes of members look at spaces: counted, where there are very many. */
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { type ChangeParts, MemberChanges } from '#src/main/lead/members/changes.js';
import type { SpaceState } from '#src/main/log/space-table.js';
import { newSpaceFacts } from '#src/shared/log/space-facts.js';
import type { MembersRow } from '#src/shared/members/members.js';

const SPACES = 5_000;
const id = (nodeId: string): string => nodeId.padStart(32, '0');

/** A primary with one replica that counts, r1, and another one that is away, r2. */
function made(members: readonly string[]): {
  spaces: SpaceState[];
  changes: MemberChanges;
  looks: () => number;
  /** How often a space was held against what is wished. */
  wishes: () => number;
} {
  const next = { members: members.map((nodeId) => ({ nodeId, directoryId: id(nodeId) })), keep: 1 };
  const spaces = Array.from({ length: SPACES }, (_, slot) => {
    const facts = newSpaceFacts(id(String(slot)), `space-${slot}`);
    const sets = [{ epoch: 1, sequence: 0, next, old: undefined }];
    Object.assign(facts, { role: 'primary', epoch: 1, primary: 'p', sets });
    return { slot, facts, replicas: members.filter((m) => m !== 'p') } as unknown as SpaceState;
  });
  const shipper = (nodeId: string, isConnected: boolean) => ({
    replica: { nodeId },
    isConnected,
    link: { directoryId: id(nodeId), version: 2 },
    progress: { epoch: () => 1 },
    flushedOf: () => 0,
  });
  let looks = 0;
  let wishes = 0;
  const parts = {
    nodeId: 'p',
    spaces: { spaces },
    wal: {
      get refusal() {
        looks++;
        return undefined;
      },
    },
    replication: {
      directoryId: id('p'),
      shippers: [shipper('r1', true), shipper('r2', false)],
      mayCome: () => {
        wishes++;
        return true;
      },
    },
  };
  const changes = new MemberChanges(parts as unknown as ChangeParts);
  return { spaces, changes, looks: () => looks, wishes: () => wishes };
}

beforeEach(() => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'setImmediate', 'performance'] });
});
afterEach(() => {
  vi.useRealTimers();
});

test('spaces that are made as they are to be are never looked at', async () => {
  const { spaces, changes, looks } = made(['p', 'r1', 'r2']);
  for (const space of spaces) changes.led(space);
  await vi.advanceTimersByTimeAsync(10_000);
  expect(looks()).toBe(0);
  changes.close();
});

test('while a node is away each new space costs a look or two, not one at all', async () => {
  const { spaces, changes, looks } = made(['p', 'r1']);
  for (const space of spaces) {
    changes.want(space, ['r1', 'r2']);
    if (space.slot % 50 === 49) await vi.advanceTimersByTimeAsync(1);
  }
  await vi.advanceTimersByTimeAsync(10);
  expect(looks()).toBeGreaterThanOrEqual(SPACES);
  expect(looks()).toBeLessThan(3 * SPACES);
  changes.close();
});

test('spaces that are led on and are alike are held against their wish once', async () => {
  const { spaces, changes, looks, wishes } = made(['p', 'r1', 'r2']);
  const [{ facts, replicas }] = spaces as [SpaceState];
  const [row] = facts.sets as [MembersRow];
  for (const space of spaces) Object.assign(space, { replicas }).facts.sets = [row];
  changes.leadOn(spaces);
  changes.linked('r1');
  expect(wishes()).toBeLessThan(10);
  // In one of them, between those alike, another directory counts than the one that is linked.
  const members = row.next.members.map((m) =>
    m.nodeId === 'r1' ? { ...m, directoryId: id('other') } : m,
  );
  spaces[70]!.facts.sets = [{ ...row, next: { ...row.next, members } }];
  changes.linked('r1');
  expect(wishes()).toBeLessThan(30);
  await vi.advanceTimersByTimeAsync(10);
  expect(looks()).toBe(1);
  changes.close();
});
