import fc from 'fast-check';
import { expect, test } from 'vitest';
import { conflictWith, lastHostSequence } from '#src/main/log/host-entries.js';
import type { SpaceState } from '#src/main/log/space-table.js';
import { newSpaceFacts } from '#src/shared/log/space-facts.js';
import type { MembersRow } from '#src/shared/members/members.js';
import type { NodeMemory } from '#src/shared/memory/slab.js';

/** What stands at each sequence: `e` an epoch's first entry, `m` members, `h` a host's. */
type Log = readonly ('e' | 'm' | 'h')[];

function factsOf(log: Log): ReturnType<typeof newSpaceFacts> {
  const facts = newSpaceFacts('00', 's');
  // Version 0 of the members stands in no entry.
  const row = { epoch: 1, next: { members: [], keep: 1 }, old: undefined };
  facts.sets.push({ ...row, sequence: 0 } satisfies MembersRow);
  facts.history.push({ epoch: 1, startSequence: 1, primaryNodeId: '' });
  log.forEach((kind, i) => {
    const sequence = i + 1;
    const epoch = facts.history.length + 1;
    if (kind === 'm') facts.sets.push({ ...row, sequence });
    if (kind !== 'e') return;
    if (sequence === 1) facts.history.pop();
    facts.history.push({ epoch, startSequence: sequence, primaryNodeId: '' });
  });
  return facts;
}

test('the last entry of a host, up to any end of any log', () => {
  const logs = fc.array(fc.constantFrom('e' as const, 'm' as const, 'h' as const));
  fc.assert(
    fc.property(logs, (log) => {
      const facts = factsOf(log);
      for (let end = 0; end <= log.length; end++) {
        expect(lastHostSequence(facts, end)).toBe(log.slice(0, end).lastIndexOf('h') + 1);
      }
    }),
  );
});

test('what a conflict names is no conflict, also where the epoch there is forgotten', () => {
  const facts = factsOf(['h', 'h', 'e', 'e', 'e']);
  // A snapshot brings the last epochs alone.
  facts.history.splice(0, 2);
  const space = { facts, slot: 1, stagedOwn: [] as number[] } as unknown as SpaceState;
  const memory = { durable: () => 5, allocated: () => 5 } as unknown as NodeMemory;
  const conflict = conflictWith(space, memory, { sequence: 2, epoch: 1 });
  expect(conflict).toEqual({ last: 3, epoch: 0 });
  expect(conflictWith(space, memory, { sequence: 3, epoch: 0 })).toBeUndefined();
});
