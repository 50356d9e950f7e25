import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { ByteReader, ByteWriter } from '#src/shared/bytes.js';
import { MEMBERS_MAX, MEMBERS_ROWS_MAX } from '#src/shared/limits.js';
import {
  countingSets,
  decodeMembers,
  encodeMembers,
  fits,
  isMember,
  type MemberSet,
  type MembersRow,
  readMembersRows,
  rowsKept,
  rowsUpTo,
  sameSet,
  UNKNOWN_DIRECTORY,
  writeMembersRows,
} from '#src/shared/members/members.js';

const id = (n: number): string => n.toString(16).padStart(32, '0');
const set = (names: string, keep = 1): MemberSet => ({
  keep,
  members: [...names].map((nodeId) => ({ nodeId, directoryId: id(nodeId.charCodeAt(0)) })),
});
const row = (sequence: number, next: MemberSet, old?: MemberSet): MembersRow => ({
  epoch: 1,
  sequence,
  next,
  old,
});

const sets = fc
  .tuple(fc.integer({ min: 1, max: MEMBERS_MAX }), fc.integer({ min: 1, max: 255 }))
  .map(([count, keep]) => ({
    keep,
    members: Array.from({ length: count }, (_, i) => ({
      nodeId: `node-${i}`,
      directoryId: i % 3 === 2 ? UNKNOWN_DIRECTORY : id(i + 1),
    })),
  }));

describe('members as an entry', () => {
  test('what was written is read again, pending and settled', () => {
    fc.assert(
      fc.property(sets, fc.option(sets, { nil: undefined }), (next, old) => {
        expect(decodeMembers(encodeMembers({ next, old }))).toEqual({ next, old });
      }),
    );
  });

  test('bytes that are anything else throw what was asked for, and nothing else', () => {
    const known = ['ProtocolViolation', 'UnsupportedVersion'];
    const good = encodeMembers({ next: set('abc'), old: set('ab', 2) });
    fc.assert(
      fc.property(fc.nat(good.length - 1), fc.integer({ min: 1, max: 255 }), (at, flip) => {
        const bytes = good.slice();
        bytes[at]! ^= flip;
        try {
          decodeMembers(bytes, 'ProtocolViolation');
        } catch (error) {
          expect(known).toContain((error as { code: string }).code);
        }
      }),
    );
    for (let length = 0; length < good.length; length++) {
      expect(() => decodeMembers(good.subarray(0, length))).toThrow(/CorruptionDetected/);
    }
    expect(() => decodeMembers(new Uint8Array([...good, 0]))).toThrow(/CorruptionDetected/);
    expect(() => decodeMembers(new Uint8Array([9]))).toThrow(/UnsupportedVersion/);
  });

  test.each<[string, MemberSet]>([
    ['nobody', { members: [], keep: 1 }],
    ['too many', { ...set('a'), members: Array(MEMBERS_MAX + 1).fill(set('a').members[0]) }],
    ['level 0', set('ab', 0)],
    ['level 256', set('ab', 256)],
    [
      'a node twice',
      { keep: 1, members: [...set('a').members, { nodeId: 'a', directoryId: id(7) }] },
    ],
    ['no name', { keep: 1, members: [{ nodeId: '', directoryId: id(7) }] }],
    [
      'a directory twice',
      { keep: 1, members: ['a', 'b'].map((nodeId) => ({ nodeId, directoryId: id(7) })) },
    ],
  ])('a set of %s is not written', (_, bad) => {
    expect(() => encodeMembers({ next: bad, old: undefined })).toThrow(/Configuration/);
    expect(() => encodeMembers({ next: set('a'), old: bad })).toThrow(/Configuration/);
  });

  test('rows travel whole; too many of them, or unordered ones, do not', () => {
    const rows = [row(0, set('ab')), row(5, set('abc'), set('ab')), row(7, set('abc'))];
    const w = new ByteWriter();
    writeMembersRows(w, rows);
    expect(readMembersRows(new ByteReader(w.bytes(), 'Io'), 'ProtocolViolation')).toEqual(rows);
    const read = (bytes: ByteWriter) => () =>
      readMembersRows(new ByteReader(bytes.bytes(), 'ProtocolViolation'), 'ProtocolViolation');
    const unordered = new ByteWriter();
    writeMembersRows(unordered, [rows[1]!, rows[0]!]);
    expect(read(unordered)).toThrow(/ProtocolViolation/);
    expect(read(new ByteWriter().u16(MEMBERS_ROWS_MAX + 1))).toThrow(/ProtocolViolation/);
  });
});

describe('which sets count', () => {
  test('both while a change is pending, the new one when settled, none where none is known', () => {
    expect(countingSets([])).toEqual([]);
    expect(countingSets([row(0, set('ab'))])).toEqual([set('ab')]);
    const pending = [row(0, set('ab')), row(5, set('abc'), set('ab'))];
    expect(countingSets(pending)).toEqual([set('ab'), set('abc')]);
    expect(countingSets([...pending, row(6, set('abc'))])).toEqual([set('abc')]);
  });

  test('a rewind takes rows back; retention keeps what a rewind may come back to', () => {
    const rows = [row(0, set('a')), row(5, set('ab'), set('a')), row(7, set('ab'))];
    expect(rowsUpTo(rows, 6)).toEqual(rows.slice(0, 2));
    expect(rowsUpTo(rows, 4)).toEqual(rows.slice(0, 1));
    expect(rowsKept(rows, 1)).toEqual(rows);
    // It may go back to 6, where the change is pending, and then to 4.
    expect(rowsKept(rows, 7)).toEqual(rows);
    expect(rowsKept(rows, 8)).toEqual(rows.slice(2));
    expect(rowsKept(rows.slice(1, 2), 100)).toEqual(rows.slice(1, 2));
  });

  test('FAULT-108 a directory is a member, not a name; an unknown one fits any of its node', () => {
    const a = { nodeId: 'a', directoryId: id(1) };
    expect(fits(a, a)).toBe(true);
    expect(fits(a, { ...a, directoryId: id(2) })).toBe(false);
    expect(fits(a, { ...a, nodeId: 'b' })).toBe(false);
    expect(fits(a, { ...a, directoryId: UNKNOWN_DIRECTORY })).toBe(true);
    expect(fits({ ...a, directoryId: UNKNOWN_DIRECTORY }, a)).toBe(true);
    expect(isMember(set('ab'), { nodeId: 'a', directoryId: id(97) })).toBe(true);
    expect(isMember(set('ab'), { nodeId: 'a', directoryId: id(98) })).toBe(false);
  });

  test('sets are the same in any order, with the same level', () => {
    expect(sameSet(set('abc'), set('cab'))).toBe(true);
    expect(sameSet(set('ab'), set('ab', 2))).toBe(false);
    expect(sameSet(set('ab'), set('abc'))).toBe(false);
    expect(sameSet(set('ab'), set('ac'))).toBe(false);
  });
});
