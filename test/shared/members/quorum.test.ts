import { describe, expect, test } from 'vitest';
import {
  type MemberId,
  type MemberSet,
  type MembersRow,
  UNKNOWN_DIRECTORY,
} from '#src/shared/members/members.js';
import {
  acknowledgedUpTo,
  countAnswers,
  holdsFloor,
  isEnough,
  isFounded,
  leadsAlone,
  mayChange,
  maySettle,
  mayWriteFloor,
  type Progress,
} from '#src/shared/members/quorum.js';

const member = (name: string, disk = name): MemberId => ({
  nodeId: name,
  directoryId: disk === '' ? UNKNOWN_DIRECTORY : disk.repeat(32).slice(0, 32),
});
const set = (names: string, keep = 1): MemberSet => ({
  keep,
  members: [...names].map((name) => member(name)),
});
const row = (sequence: number, next: MemberSet, old?: MemberSet): MembersRow => ({
  epoch: 2,
  sequence,
  next,
  old,
});
/** The primary is `a`; who has flushed what, its own among them. */
function progress(flushed: Record<string, number>, more: Partial<Progress> = {}): Progress {
  const { a = 10, ...others } = flushed;
  return {
    own: member('a'),
    ownFlushed: a,
    others: Object.entries(others).map(([name, at]) => ({ member: member(name), flushed: at })),
    first: 1,
    isFounded: true,
    ...more,
  };
}

describe('acknowledged', () => {
  test('by so many of the set: the primary itself, and as many others as the level says', () => {
    const at = progress({ a: 10, b: 8, c: 5 });
    expect([0, 1, 2, 3].map((n) => acknowledgedUpTo([set('abc')], n, at))).toEqual([10, 8, 5, 0]);
  });

  test('FAULT-105 while a change is pending, by both sets', () => {
    const both = [set('abc'), set('abcd')];
    // The new member alone has it: no promotion by the old set would ask it.
    expect(acknowledgedUpTo(both, 1, progress({ a: 10, d: 10 }))).toBe(0);
    expect(acknowledgedUpTo(both, 1, progress({ a: 10, d: 10, b: 7 }))).toBe(7);
    const leaving = [set('abc'), set('ab')];
    expect(acknowledgedUpTo(leaving, 1, progress({ a: 10, c: 10 }))).toBe(0);
  });

  test('the primary counts itself only in a set that names it', () => {
    const both = [set('bc'), set('abc')];
    expect(acknowledgedUpTo(both, 1, progress({ a: 10, b: 10 }))).toBe(0);
    expect(acknowledgedUpTo(both, 1, progress({ a: 10, b: 10, c: 9 }))).toBe(9);
  });

  test('FAULT-106 FAULT-108 no ack of who left, is no member yet, or has another disk', () => {
    const others = [{ member: member('b', 'x'), flushed: 10 }];
    expect(acknowledgedUpTo([set('ab')], 1, progress({}, { others }))).toBe(0);
    expect(acknowledgedUpTo([set('ab')], 1, progress({ a: 10, c: 10, d: 10 }))).toBe(0);
    const twice = [10, 9].map((flushed) => ({ member: member('b'), flushed }));
    expect(acknowledgedUpTo([set('abc')], 2, progress({}, { others: twice }))).toBe(0);
  });

  test('FAULT-109 only together with the first entry of the present epoch', () => {
    expect(acknowledgedUpTo([set('abc')], 1, progress({ a: 10, b: 8 }, { first: 9 }))).toBe(0);
    expect(acknowledgedUpTo([set('abc')], 1, progress({ a: 10, b: 9 }, { first: 9 }))).toBe(9);
    const none = { first: Number.POSITIVE_INFINITY };
    expect(acknowledgedUpTo([set('abc')], 1, progress({ a: 10, b: 10 }, none))).toBe(0);
    expect(acknowledgedUpTo([], 1, progress({ a: 10, b: 8 }, { first: 9 }))).toBe(0);
  });

  test('FAULT-114 nothing before enough follow the founder', () => {
    const alone = { isFounded: false };
    expect(acknowledgedUpTo([set('abc')], 1, progress({ a: 10, b: 10 }, alone))).toBe(0);
    expect(acknowledgedUpTo([set('abc')], 0, progress({ a: 10 }, alone))).toBe(10);
    expect(maySettle(row(3, set('ab'), set('a')), progress({ a: 10 }, alone))).toBe(false);
    expect(isFounded(set('a'), [member('a')])).toBe(true);
    expect(isFounded(set('ab'), [member('a')])).toBe(false);
    expect(isFounded(set('abc'), [member('a'), member('c')])).toBe(true);
    expect(isFounded(set('abc'), [member('a'), member('d')])).toBe(false);
    // N - keep + 1 would be 1 of 4: two founders could have that.
    expect(isFounded(set('abcd', 3), [member('a'), member('b')])).toBe(false);
  });

  test('what the primary itself has not flushed is not acknowledged', () => {
    expect(acknowledgedUpTo([set('abc')], 1, progress({ a: 4, b: 8, c: 8 }))).toBe(4);
  });

  test('a log that knows of no set counts every other directory', () => {
    const at = progress({ a: 10, b: 8, z: 7 });
    expect([1, 2, 3].map((n) => acknowledgedUpTo([], n, at))).toEqual([8, 7, 0]);
  });
});

describe('a change of members', () => {
  test('FAULT-105 settles once so many of the old set have it that a promotion meets one', () => {
    const pending = row(9, set('abd'), set('abc'));
    expect(maySettle(pending, progress({ a: 10, d: 10 }))).toBe(false);
    expect(maySettle(pending, progress({ a: 10, c: 8 }))).toBe(false);
    expect(maySettle(pending, progress({ a: 10, c: 9 }))).toBe(true);
    expect(maySettle(pending, progress({ a: 8, b: 10, c: 10 }))).toBe(false);
    // Its own keep, and never more than there are.
    expect(maySettle(row(9, set('ab'), set('abc', 2)), progress({ a: 10, b: 10 }))).toBe(false);
    expect(maySettle(row(9, set('ab'), set('a')), progress({ a: 10 }))).toBe(true);
    expect(maySettle(row(9, set('ab')), progress({ a: 10, b: 10 }))).toBe(false);
    expect(maySettle(row(9, set('bc'), set('abc')), progress({ a: 10, b: 10 }))).toBe(false);
  });

  test('FAULT-109 settles only together with the first entry of the present epoch', () => {
    const pending = row(5, set('abd'), set('abc'));
    expect(maySettle(pending, progress({ a: 10, b: 8 }, { first: 9 }))).toBe(false);
    expect(maySettle(pending, progress({ a: 10, b: 9 }, { first: 9 }))).toBe(true);
  });

  test('FAULT-107 etcd is a witness: of this very entry, once the new set has it', () => {
    const pending = row(5, set('ac'), set('ab'));
    const alone = progress({ a: 10 });
    expect(maySettle(pending, alone, { epoch: 2, sequence: 5 })).toBe(true);
    expect(maySettle(pending, alone, { epoch: 2, sequence: 4 })).toBe(false);
    expect(maySettle(pending, alone, { epoch: 1, sequence: 5 })).toBe(false);
    expect(mayWriteFloor(pending, alone)).toBe(false);
    expect(mayWriteFloor(pending, progress({ a: 10, c: 8 }, { first: 9 }))).toBe(false);
    expect(mayWriteFloor(pending, progress({ a: 10, c: 9 }, { first: 9 }))).toBe(true);
    expect(mayWriteFloor(row(5, set('ac')), progress({ a: 10, c: 9 }))).toBe(false);
  });

  test('FAULT-107 who lacks the entry of the floor does not hold it', () => {
    const owner = { primaryNodeId: 'a'.repeat(32) };
    const history = [
      { epoch: 1, startSequence: 1, ...owner },
      { epoch: 3, startSequence: 6, ...owner },
    ];
    const log = { position: { epoch: 3, sequence: 8, headerCrc: 1 }, history, rows: [] };
    expect(holdsFloor(log, undefined)).toBe(true);
    expect(holdsFloor(log, { epoch: 1, sequence: 5 })).toBe(true);
    expect(holdsFloor(log, { epoch: 1, sequence: 6 })).toBe(false);
    expect(holdsFloor(log, { epoch: 3, sequence: 9 })).toBe(false);
    const rows = [row(2, set('a'))];
    expect(holdsFloor({ ...log, history: [], rows }, { epoch: 2, sequence: 2 })).toBe(true);
  });

  test('the next one waits for it', () => {
    expect(mayChange([row(0, set('ab'))])).toBe(true);
    expect(mayChange([row(0, set('ab')), row(5, set('abc'), set('ab'))])).toBe(false);
    expect(mayChange([row(5, set('abc'), set('ab')), row(6, set('abc'))])).toBe(true);
    expect(mayChange([])).toBe(false);
  });
});

describe('answers', () => {
  test.each([
    [set('abc'), 'a', false],
    [set('abc'), 'ab', true],
    [set('abc', 2), 'a', true],
    [set('abc', 2), '', false],
    [set('a'), 'a', true],
    [set('abc'), 'axyz', false],
  ])('%# so many of a set', (of, names, isSo) => {
    const answered = [...names].map((name) => member(name));
    expect(isEnough(countAnswers([of], answered))).toBe(isSo);
  });

  test('of every set; an operator may ask for more, not for less', () => {
    const answered = [member('a'), member('b')];
    expect(isEnough(countAnswers([set('abc'), set('ade')], answered))).toBe(false);
    expect(isEnough(countAnswers([set('abc', 2)], [member('a')], 1))).toBe(false);
    expect(countAnswers([set('abcd')], answered, 3)).toMatchObject([{ needed: 3, got: 2 }]);
  });
});

test.each<[string, MembersRow[], boolean]>([
  ['two of three have promised', [row(0, set('abc'))], true],
  ['three of four', [row(0, set('abcd'))], true],
  ['one of two', [row(0, set('ab'))], false],
  ['one of three', [row(0, set('abc', 2))], false],
  ['two of four', [row(0, set('abcd', 2))], false],
  ['of both sets, while a change is pending', [row(5, set('abcd'), set('abc'))], true],
  ['not of the old one', [row(5, set('abc'), set('ab'))], false],
  ['not of the new one', [row(5, set('ab'), set('abc'))], false],
  ['it is in the old set alone', [row(5, set('acd'), set('abc'))], true],
  ['what was before counts no more', [row(0, set('ab')), row(5, set('abc'))], true],
  ['it is no member, or another directory', [row(0, set('acd'))], false],
  ['no set is known', [], false],
])('FAULT-113 nobody else can lead in the epoch: %s', (_, rows, isAlone) => {
  expect(leadsAlone(rows, member('b'))).toBe(isAlone);
});
