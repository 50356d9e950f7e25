import { createHash } from 'node:crypto';
import { expect, test } from 'vitest';
import { hexOfWords, idWords } from '#src/shared/bytes.js';
import { IdTable } from '#src/shared/id-table.js';

const idOf = (name: string): string => createHash('sha256').update(name).digest('hex').slice(0, 32);

test('ids are found by their words, and nothing else is', () => {
  const table = new IdTable();
  expect(table.get(idWords(idOf('space-0')))).toBe(-1);
  const ids = Array.from({ length: 5_000 }, (_, n) => idOf(`space-${n}`));
  for (const [n, id] of ids.entries()) {
    table.add(idWords(id), n);
    expect(table.get(idWords(id))).toBe(n);
  }
  expect(ids.map((id) => table.get(idWords(id)))).toEqual(ids.map((_, n) => n));
  expect(table.get(idWords(idOf('space-5000')))).toBe(-1);
});

test('ids that differ in one word, or share their place, are told apart', () => {
  const table = new IdTable();
  const ids = [
    [1, 2, 3, 4],
    [2, 1, 3, 4],
    [4, 3, 2, 1],
    [0xffff_ffff, 0xffff_ffff, 0xffff_ffff, 0xffff_ffff],
    [0, 0, 0, 0],
    [1, 2, 3, 5],
  ] as const;
  for (const [n, words] of ids.entries()) table.add(words, n);
  expect(ids.map((words) => table.get(words))).toEqual([0, 1, 2, 3, 4, 5]);
  expect(table.get([1, 2, 4, 3])).toBe(-1);
});

test('an id comes back from its words', () => {
  expect(hexOfWords(idWords('00ff10ab89cdef0123456789abcdef80'))).toBe(
    '00ff10ab89cdef0123456789abcdef80',
  );
});
