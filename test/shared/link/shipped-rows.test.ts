/** What a shipper is told of spaces is what main knows of them, and what they share is shared. */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { packShipped, type ShippedSpace, unpackShipped } from '#src/shared/link/shipped-rows.js';
import { idOf } from '#src/shared/names.js';

const MEMBERS: ShippedSpace['members'][] = ['a', 'b'].map((nodeId) => [
  { nodeId, host: '127.0.0.1', port: 1 },
]);
const NEXT = { members: [{ nodeId: 'a', directoryId: '1'.repeat(32) }], keep: 1 };
const SETS: ShippedSpace['sets'][] = [[], [{ epoch: 1, sequence: 2, next: NEXT, old: undefined }]];
const VOIDED: ShippedSpace['voided'][] = [[], [{ lsn: 64, first: 7 }]];

test('spaces of any kind, in any order, as they come out of a clone of the message', () => {
  const kind = fc.tuple(fc.nat(1), fc.nat(1), fc.nat(1));
  const one = fc.tuple(
    fc.string(),
    fc.nat(2 ** 31),
    fc.integer({ min: 0, max: 2 ** 32 - 1 }),
    kind,
  );
  fc.assert(
    fc.property(fc.array(one, { maxLength: 20 }), (all) => {
      const spaces = all.map(([name, slot, epoch, [m, s, v]]): ShippedSpace => {
        const alike = { members: MEMBERS[m]!, sets: SETS[s]!, voided: VOIDED[v]! };
        return { slot, id: idOf(name), name, epoch, ...alike };
      });
      expect(unpackShipped(structuredClone(packShipped(spaces)))).toEqual(spaces);
    }),
  );
});

test('what spaces behind each other have alike is one object', () => {
  const [members, sets, voided] = [MEMBERS[0]!, [], VOIDED[0]!];
  const spaces = ['x', 'y', 'z'].map((name, slot): ShippedSpace => {
    return { slot, id: idOf(name), name, epoch: 1, members, sets, voided };
  });
  const rows = structuredClone(packShipped(spaces));
  expect(rows.alike).toHaveLength(1);
  const [first, , last] = unpackShipped(rows);
  expect(last!.members).toBe(first!.members);
});
