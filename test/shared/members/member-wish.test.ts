/** Which set of members comes next, by what is wished and what is known of the nodes. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { MemberId, MemberSet } from '#src/shared/members/members.js';
import { carriedSet, learners, nextSet, type WishedNode } from '#src/shared/members/wish.js';

const OWN: MemberId = { nodeId: 'a', directoryId: 'a'.repeat(32) };
const idOf = (nodeId: string, life = 0): MemberId => {
  return { nodeId, directoryId: `${nodeId}${life}`.padEnd(32, '0') };
};
const setOf = (...members: MemberId[]): MemberSet => ({ members: [OWN, ...members], keep: 1 });
const away = (nodeId: string): WishedNode => {
  return { nodeId, directoryId: undefined, isComing: false, isReady: false };
};
const here = (nodeId: string, isReady = true, life = 0): WishedNode => {
  return { ...idOf(nodeId, life), isComing: true, isReady };
};

describe('the next set of members', () => {
  const ab = setOf(idOf('b'));
  test.each<[string, MemberSet, WishedNode[], MemberSet, string[]]>([
    ['nothing is other than wished', ab, [here('b')], ab, []],
    ['a member that is away stays', ab, [away('b')], ab, []],
    ['who is new and away learns', ab, [here('b'), away('c')], ab, ['c']],
    ['who is new learns until it is ready', ab, [here('b'), here('c', false)], ab, ['c']],
    ['and then comes in', ab, [here('b'), here('c')], setOf(idOf('b'), idOf('c')), ['c']],
    ['who is not wished goes', ab, [], setOf(), []],
    ['one goes and one comes', ab, [here('c')], setOf(idOf('c')), ['c']],
    ['nobody goes while one is about to come', ab, [here('c', false)], ab, ['c']],
    ['nor while it is dialled', ab, [{ ...away('c'), isComing: true }], ab, ['c']],
    ['one that is away is not waited for', ab, [away('c')], setOf(), ['c']],
    ['a new directory learns under the old name', ab, [here('b', false, 1)], ab, ['b']],
    ['and comes in exchange', ab, [here('b', true, 1)], setOf(idOf('b', 1)), ['b']],
  ])('%s', (_, current, wished, next, learning) => {
    expect(nextSet(current, OWN, wished)).toEqual(next);
    expect(learners(current, wished)).toEqual(learning);
  });

  test('a set that nobody has told is bound to the directories that are there', () => {
    const carried = carriedSet(['a', 'b', 'c'], 1);
    const next = nextSet(carried, OWN, [here('b'), here('c', false)]);
    expect(next.members).toEqual([OWN, idOf('b'), carried.members[2]]);
  });

  test('the primary is always in it, every node once, and only who counted or is ready', () => {
    const node = fc.record({
      nodeId: fc.constantFrom('b', 'c', 'd', 'e'),
      life: fc.nat(1),
      isHere: fc.boolean(),
      isReady: fc.boolean(),
    });
    const some = fc.uniqueArray(node, { selector: (n) => n.nodeId });
    fc.assert(
      fc.property(some, some, (before, wish) => {
        const current = setOf(...before.map((n) => idOf(n.nodeId, n.life)));
        const wished = wish.map((n) =>
          n.isHere ? here(n.nodeId, n.isReady, n.life) : away(n.nodeId),
        );
        const { members } = nextSet(current, OWN, wished);
        expect(members[0]).toEqual(OWN);
        expect(new Set(members.map((m) => m.nodeId)).size).toBe(members.length);
        for (const member of members.slice(1)) {
          const didCount = current.members.some((m) => m.directoryId === member.directoryId);
          const isReady = wished.some((w) => w.directoryId === member.directoryId && w.isReady);
          expect(didCount || isReady).toBe(true);
        }
      }),
    );
  });
});
