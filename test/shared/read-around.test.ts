/** Bad sectors are read around; a disk that is away is not taken for one that rots. */
import { expect, test } from 'vitest';
import { type ReadPart, readAround } from '#src/shared/read-around.js';

const PAGE = 4096;

/** A file of ones whose pages `bad` cannot be read. */
function file(pages: number, bad: readonly number[], code = 'EIO'): ReadPart {
  return async (into, position) => {
    const length = Math.max(0, Math.min(into.length, pages * PAGE - position));
    const isBad = bad.some((p) => position < (p + 1) * PAGE && position + length > p * PAGE);
    if (isBad && length > 0) throw Object.assign(new Error(code), { code });
    into.fill(1, 0, length);
    return length;
  };
}

test('FAULT-5 what cannot be read is no entry, and all around it is read', async () => {
  const into = new Uint8Array(4 * PAGE);
  expect(await readAround(file(4, [1, 3]), into, 100)).toBe(4 * PAGE - 100);
  const runs = [...into].map((byte, i) => (byte === into[i - 1] ? -1 : i)).filter((i) => i >= 0);
  expect(runs).toEqual([0, PAGE - 100, 2 * PAGE - 100, 3 * PAGE - 100, 4 * PAGE - 100]);
  expect([0, 1, 0xef]).not.toContain(into[PAGE]);
});

test('FAULT-5 a window that is bad as a whole is damage where the file has more', async () => {
  const into = new Uint8Array(PAGE);
  expect(await readAround(file(100, [1]), into, PAGE)).toBe(PAGE);
  expect(await readAround(file(100, [70]), into, 70 * PAGE)).toBe(PAGE);
  // A short file, and one that is bad at the first other place tried, too.
  expect(await readAround(file(3, [0]), into, 0)).toBe(PAGE);
  expect(await readAround(file(3, [2]), into, 2 * PAGE)).toBe(PAGE);
  expect(await readAround(file(100, [0, 1, 64]), into, 0)).toBe(PAGE);
});

test('a disk that is away, and any other error, is what it was', async () => {
  const into = new Uint8Array(2 * PAGE);
  const all = Array.from({ length: 100 }, (_, i) => i);
  await expect(readAround(file(100, all), into, 0)).rejects.toThrow('EIO');
  await expect(readAround(file(2, [0, 1]), into, 0)).rejects.toThrow('EIO');
  await expect(readAround(file(100, [1], 'EBADF'), into, 0)).rejects.toThrow('EBADF');
});
