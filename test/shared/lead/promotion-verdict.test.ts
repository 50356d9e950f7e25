import { describe, expect, test } from 'vitest';
import { type FoundersVerdict, judgeFounders } from '#src/shared/lead/founders.js';
import {
  type Hearer,
  judgeHeard,
  judgeIntroduction,
  judgePromise,
} from '#src/shared/lead/heard.js';
import {
  judgePromotion,
  type PromotionQuestion,
  promisesSuffice,
  type Standing,
} from '#src/shared/lead/promotion-verdict.js';
import {
  type MemberId,
  type MemberSet,
  type MembersRow,
  UNKNOWN_DIRECTORY,
} from '#src/shared/members/members.js';

const member = (name: string, disk = name): MemberId => ({
  nodeId: name,
  directoryId: disk.repeat(32).slice(0, 32),
});
const set = (names: string, keep = 1): MemberSet => ({
  keep,
  members: [...names].map((name) => member(name)),
});
const row = (sequence: number, next: MemberSet, old?: MemberSet): MembersRow => ({
  epoch: 1,
  sequence,
  next,
  old,
});
const V0 = [row(0, set('abc'))];

/** A log as its epochs: [epoch, first sequence, who led it]. */
type Epochs = readonly (readonly [number, number, string])[];
function standing(name: string, last: number, more: Partial<Standing> = {}, of?: Epochs): Standing {
  const epochs = of ?? [[1, 1, 'a']];
  const history = epochs.map(([epoch, startSequence, who]) => ({
    epoch,
    startSequence,
    primaryNodeId: who.repeat(32),
  }));
  const epoch = last === 0 ? 0 : history.at(-1)!.epoch;
  return {
    ...member(name),
    epochSeen: epoch,
    position: { epoch, sequence: last, headerCrc: 1 },
    history: last === 0 ? [] : history,
    rows: V0,
    founder: 'a'.repeat(32),
    isFounded: false,
    ...more,
  };
}
function question(
  own: Standing,
  answers: readonly Standing[],
  more: Partial<PromotionQuestion> = {},
): PromotionQuestion {
  return { own, answers, isOwnCounted: true, known: [], ...more };
}
const names = (of: readonly { readonly nodeId: string }[]) => of.map((m) => m.nodeId).join('');

describe('who may lead', () => {
  test('as many of the set as meet every acknowledgement, nobody ahead', () => {
    const alone = judgePromotion(question(standing('b', 5), []));
    expect(alone).toMatchObject({ isQualified: false, needed: 2, got: 1 });
    expect(names(alone.asks)).toBe('ac');
    const two = judgePromotion(question(standing('b', 5), [standing('c', 4)]));
    expect(two).toMatchObject({ isQualified: true, needed: 2, got: 2, lost: [] });
  });

  test.each([
    // members, n, other answers, qualified
    [3, 1, 1, true],
    [3, 1, 0, false],
    [3, 2, 0, true],
    [5, 1, 2, false],
    [5, 1, 3, true],
    [1, 1, 0, true],
  ])('FAULT-63 %i members, n = %i, %i others answer: %s', (members, keep, others, isQualified) => {
    const rows = [row(0, set('abcde'.slice(0, members), keep))];
    const own = standing('a', 9, { rows });
    const answers = [...'bcde'.slice(0, others)].map((name) => standing(name, 9, { rows }));
    expect(judgePromotion(question(own, answers)).isQualified).toBe(isQualified);
  });

  test('FAULT-63 whatever was acknowledged on n replicas, one of those that suffice has it', () => {
    const sizes = [1, 2, 3, 4, 5, 6, 7];
    for (const size of sizes) {
      for (const keep of sizes.filter((n) => n < size)) {
        const rows = [row(0, set('abcdefg'.slice(0, size), keep))];
        const { needed } = judgePromotion(question(standing('a', 9, { rows }), []));
        // The fewest that may answer against the most that may lack the entry.
        expect(needed + (keep + 1)).toBeGreaterThan(size);
        expect(needed + keep).toBe(size);
      }
    }
  });

  test('FAULT-69 what would be lost, against whom', () => {
    const answers = [
      standing('b', 12),
      standing('c', 30, {}, [
        [1, 1, 'a'],
        [2, 8, 'b'],
      ]),
    ];
    const { isQualified, lost } = judgePromotion(question(standing('a', 9), answers));
    expect(isQualified).toBe(false);
    expect(lost).toEqual([
      { nodeId: 'b', from: 10, to: 12, entries: 3, epoch: 1 },
      { nodeId: 'c', from: 8, to: 30, entries: 23, epoch: 2 },
    ]);
  });

  test('its own answer counts for nothing where its disk went back', () => {
    const how = question(standing('b', 5), [standing('c', 5)]);
    expect(judgePromotion({ ...how, isOwnCounted: false }).isQualified).toBe(false);
    expect(promisesSuffice(how, [member('c')]).isEnough).toBe(true);
    expect(promisesSuffice({ ...how, isOwnCounted: false }, [member('c')]).isEnough).toBe(false);
  });

  test('the farthest log is taken over first', () => {
    const verdict = judgePromotion(
      question(standing('b', 5), [
        standing('a', 6),
        standing('c', 6, {}, [
          [1, 1, 'a'],
          [2, 6, 'c'],
        ]),
      ]),
    );
    expect(verdict.isQualified).toBe(false);
    expect(verdict.fetch?.nodeId).toBe('c');
    expect(verdict.mustLead).toBeUndefined();
    expect(verdict.lost).toMatchObject([{ nodeId: 'a', from: 6, to: 6 }, { nodeId: 'c' }]);
  });

  test('whose farther log has parted must lead', () => {
    const own = standing('b', 7, {}, [
      [1, 1, 'a'],
      [2, 5, 'b'],
    ]);
    const other = standing('c', 6, {}, [
      [1, 1, 'a'],
      [3, 6, 'c'],
    ]);
    const verdict = judgePromotion(question(own, [other]));
    expect(verdict.fetch).toBeUndefined();
    expect(verdict.mustLead?.nodeId).toBe('c');
    expect(verdict.isQualified).toBe(false);
    // Nothing parts from a log that is empty.
    expect(judgePromotion(question(standing('b', 0), [other])).fetch?.nodeId).toBe('c');
  });

  test('whose farther log has parted, and who may not lead with it, is passed over', () => {
    const rows = [...V0, row(5, set('bc'), set('abc'))];
    const own = standing('b', 5, { rows });
    const parted = standing('a', 6, { rows: [...V0, row(6, set('bc'))] }, [
      [1, 1, 'a'],
      [2, 5, 'a'],
    ]);
    const alone = judgePromotion(question(own, [parted]));
    expect(alone).toMatchObject({ isQualified: false, fetch: undefined });
    expect(alone.mustLead?.nodeId).toBe('a');
    const enough = judgePromotion(question(own, [parted, standing('c', 5)]));
    expect(enough.isQualified).toBe(true);
    expect(names(enough.strangers)).toBe('a');
    const member = { ...parted, rows: V0 };
    expect(judgePromotion(question(own, [member, standing('c', 5)])).isQualified).toBe(false);
  });

  test('FAULT-105 by the sets of its own log, both while a change is pending', () => {
    const rows = [...V0, row(5, set('abcd'), set('abc'))];
    const verdict = judgePromotion(question(standing('b', 5, { rows }), [standing('c', 4)]));
    expect(verdict).toMatchObject({ isQualified: false, needed: 3, got: 2 });
    expect(names(verdict.asks)).toBe('ad');
    const d = standing('d', 4);
    expect(
      judgePromotion(question(standing('b', 5, { rows }), [standing('c', 4), d])).isQualified,
    ).toBe(true);
    const leaving = [...V0, row(5, set('bd'), set('abc'))];
    const own = standing('b', 5, { rows: leaving });
    expect(judgePromotion(question(own, [d])).isQualified).toBe(false);
  });

  test('a set in an answer whose entry is not here counts for nothing', () => {
    const rows = [...V0, row(3, set('ab'), set('abc'))];
    // A dead branch: its last epoch is an older one.
    const own = standing('b', 4, {}, [
      [1, 1, 'a'],
      [2, 3, 'b'],
    ]);
    expect(judgePromotion(question(own, [standing('a', 9, { rows })]))).toMatchObject({
      isQualified: true,
      counts: [{ set: set('abc') }],
    });
  });

  test('FAULT-106 FAULT-108 no answer of who was removed, not taken in, or is wiped', () => {
    const wiped = standing('c', 9, { ...member('c', 'x') });
    const verdict = judgePromotion(question(standing('b', 5), [wiped, standing('d', 9)]));
    expect(verdict).toMatchObject({ isQualified: false, got: 1, fetch: undefined, lost: [] });
    expect(names(verdict.strangers)).toBe('cd');
    expect(names(verdict.asks)).toBe('ac');
    expect(promisesSuffice(question(standing('b', 5), []), [wiped]).isEnough).toBe(false);
  });

  test('FAULT-106 only a member of the new set may lead', () => {
    const rows = [...V0, row(5, set('ab'), set('abc'))];
    const how = question(standing('c', 5, { rows }), [standing('a', 5), standing('b', 5)]);
    expect(judgePromotion(how)).toMatchObject({ isQualified: false, isMember: false });
    const stranger = question(standing('d', 5), [standing('a', 5), standing('b', 5)]);
    expect(judgePromotion(stranger).isQualified).toBe(false);
  });

  test('FAULT-107 who has claimed an epoch leads only with the entry of the floor', () => {
    const how = question(standing('b', 5), [standing('c', 5)]);
    expect(judgePromotion({ ...how, floor: { epoch: 1, sequence: 5 } }).isQualified).toBe(true);
    expect(judgePromotion({ ...how, floor: { epoch: 1, sequence: 6 } })).toMatchObject({
      isQualified: false,
      holdsFloor: false,
    });
  });

  test('FAULT-114 a history that another founder began is not compared', () => {
    const other = standing('c', 9, { founder: 'c'.repeat(32), isFounded: true });
    const own = standing('b', 5);
    const blocked = judgePromotion(question(own, [standing('a', 5), other]));
    expect(blocked).toMatchObject({ isQualified: false, fetch: undefined, lost: [] });
    expect(blocked.otherFounder?.nodeId).toBe('c');
    // Who follows a founder cannot say whether that one has acknowledged anything.
    const follower = standing('c', 9, { founder: 'd'.repeat(32) });
    expect(judgePromotion(question(own, [standing('a', 5), follower])).isQualified).toBe(false);
    // A founder whom nobody follows has acknowledged nothing: it is no voter, and no obstacle.
    const lone = { ...other, isFounded: false };
    expect(judgePromotion(question(own, [standing('a', 5), lone])).isQualified).toBe(true);
    expect(judgePromotion(question(own, [lone]))).toMatchObject({ isQualified: false, got: 1 });
    const unknown = { ...other, founder: UNKNOWN_DIRECTORY, position: own.position };
    expect(judgePromotion(question(own, [unknown])).isQualified).toBe(true);
  });

  test('carried over: all that anybody names count, any directory of theirs', () => {
    const bare = { rows: [] };
    const own = standing('b', 5, bare);
    const c = standing('c', 5, { ...bare, directoryId: 'x'.repeat(32) });
    const three = question(own, [c], { known: ['a', 'b', 'c'] });
    expect(judgePromotion(three)).toMatchObject({ isQualified: true, needed: 2, got: 2 });
    expect(judgePromotion({ ...three, known: ['a', 'b', 'c', 'd'] })).toMatchObject({
      isQualified: false,
      needed: 3,
    });
    expect(judgePromotion({ ...three, known: ['a', 'b', 'c', 'd'], keep: 2 }).needed).toBe(2);
    const told = judgePromotion({ ...three, answers: [{ ...c, rows: [row(0, set('cdef'))] }] });
    expect(told).toMatchObject({ isQualified: false, needed: 5, got: 2 });
  });
});

describe('FAULT-111 an epoch that is heard', () => {
  const primary: Hearer = {
    nodeId: 'a',
    role: 'primary',
    epoch: 3,
    epochSeen: 3,
    primary: 'a',
    promisedTo: 'a',
  };
  const replica: Hearer = { ...primary, role: 'replica', primary: 'b', promisedTo: '' };
  test.each<[string, Hearer, number, string | undefined, ReturnType<typeof judgeHeard>]>([
    ['a lower one', primary, 2, 'b', 'known'],
    ['our own', primary, 3, undefined, 'known'],
    ['our own, of us', primary, 3, 'a', 'known'],
    ['our own, of another', primary, 3, 'b', 'incident'],
    ['a higher one, of nobody yet', primary, 4, undefined, 'fenced'],
    ['a higher one', primary, 4, 'b', 'fenced'],
    [
      'a higher one that is seen already',
      { ...primary, epochSeen: 4, promisedTo: 'b' },
      4,
      'b',
      'fenced',
    ],
    ['our own candidacy', { ...primary, epochSeen: 4 }, 4, undefined, 'known'],
    ['our own candidacy, of us', { ...primary, epochSeen: 4 }, 4, 'a', 'known'],
    ['our candidacy, and a rival leads in it', { ...primary, epochSeen: 4 }, 4, 'b', 'fenced'],
    ['a higher one than our candidacy', { ...primary, epochSeen: 4 }, 5, undefined, 'fenced'],
    ['a replica: news', replica, 4, undefined, 'seen'],
    ['a replica: no news', { ...replica, epochSeen: 4 }, 4, 'b', 'known'],
  ])('%s', (_, own, epoch, leader, verdict) => {
    expect(judgeHeard(own, epoch, leader)).toBe(verdict);
  });

  const promised = { ...replica, epochSeen: 4, promisedTo: 'c' };
  test.each<[string, Hearer, number, string, ReturnType<typeof judgePromise>]>([
    ['a higher one', replica, 4, 'c', 'grant'],
    ['a lower one', promised, 3, 'c', 'refuse'],
    ['the same candidate again', promised, 4, 'c', 'given'],
    ['another candidate', promised, 4, 'd', 'refuse'],
    ['seen, and nobody has it', { ...promised, promisedTo: '' }, 4, 'd', 'grant'],
    ['it leads in it by now', { ...promised, epoch: 4, primary: 'c' }, 4, 'c', 'refuse'],
    // Its question came twice, or late: this node follows another one in the epoch by now.
    ['another leads in it by now', { ...promised, epoch: 4, primary: 'd' }, 4, 'c', 'refuse'],
    ['nobody has it, one leads', { ...replica, epochSeen: 3 }, 3, 'c', 'refuse'],
  ])('a promise: %s', (_, own, epoch, candidate, verdict) => {
    expect(judgePromise(own, epoch, candidate)).toBe(verdict);
  });

  test.each<[string, Hearer, number, string, ReturnType<typeof judgeIntroduction>]>([
    ['a lower epoch than was seen', promised, 3, 'b', 'fenced'],
    ['the one it follows', replica, 3, 'b', 'follow'],
    ['another one in the same epoch', replica, 3, 'c', 'two-lead'],
    ['one in the epoch it leads', primary, 3, 'c', 'two-lead'],
    ['a higher epoch', primary, 4, 'c', 'follow'],
    ['who leads in an epoch promised to another', promised, 4, 'd', 'promised'],
    ['who has the promise', promised, 4, 'c', 'follow'],
    ['where this node is a candidate itself', { ...promised, promisedTo: 'a' }, 4, 'd', 'follow'],
    ['a higher one than was promised', promised, 5, 'd', 'follow'],
  ])('an introduction: %s', (_, own, epoch, by, verdict) => {
    expect(judgeIntroduction(own, epoch, by, false)).toBe(verdict);
  });

  test.each<[string, Hearer, number, string, ReturnType<typeof judgeIntroduction>]>([
    ['who leads in an epoch promised to another', promised, 4, 'd', 'follow'],
    ['a lower epoch than was seen', promised, 3, 'b', 'fenced'],
    ['another one in the same epoch', replica, 3, 'c', 'two-lead'],
  ])('nobody else can lead in the epoch: %s', (_, own, epoch, by, verdict) => {
    expect(judgeIntroduction(own, epoch, by, true)).toBe(verdict);
  });
});

describe('FAULT-114 two founders', () => {
  const of = (directoryId: string, founder: string, isFounded = false) => ({
    directoryId,
    founder,
    isFounded,
  });
  const none = UNKNOWN_DIRECTORY;
  test.each<[string, ...Parameters<typeof judgeFounders>, FoundersVerdict]>([
    ['one founder', of('a', 'a', true), of('b', 'a'), undefined, 'same'],
    ['nobody yet', of('a', 'a'), of('b', none), undefined, 'same'],
    ['enough follow the other one', of('b', 'b'), of('a', 'a', true), undefined, 'give-way'],
    ['of the other one through a follower', of('b', 'b'), of('c', 'a'), undefined, 'give-way'],
    ['enough follow this one', of('a', 'a', true), of('b', 'b'), undefined, 'stay'],
    ['nobody follows either: the lower one', of('a', 'a'), of('b', 'b'), undefined, 'give-way'],
    ['nobody follows either: the higher one', of('b', 'b'), of('a', 'a'), undefined, 'stay'],
    ['enough follow both', of('a', 'a', true), of('b', 'b', true), undefined, 'incident'],
    ['a follower does not know', of('c', 'a'), of('b', 'b', true), undefined, 'stay'],
    ['a follower whose founder holds on', of('c', 'a'), of('b', 'b', true), 'a', 'stay'],
    ['a follower whose founder has left', of('c', 'a'), of('b', 'b', true), 'b', 'give-way'],
  ])('%s', (_, own, other, leftBy, verdict) => {
    expect(judgeFounders(own, other, leftBy)).toBe(verdict);
  });
});
