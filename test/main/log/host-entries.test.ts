import fc from 'fast-check';
import { expect, test } from 'vitest';
import { lastHostSequence } from '#src/main/log/host-entries.js';
import { newSpaceFacts } from '#src/shared/log/space-facts.js';
import type { MembersRow } from '#src/shared/members/members.js';

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
