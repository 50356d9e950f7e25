/** The file of an index: what goes in comes out, in the order of the ids. */
import { expect, test } from 'vitest';
import { decodeIndex, encodeIndex } from '#src/shared/log/index-format.js';
import { SegmentIndex } from '#src/shared/log/segment-index.js';
import { chanceFrom } from '../../support/chance.js';

const SEED = Number(process.env.ENGRAM_TEST_SEED ?? Math.floor(Math.random() * 2 ** 31));
const SPACES = 300;
const START = 2 ** 33;

test(`of many spaces, also where ids begin alike, seed ${SEED}`, () => {
  const chance = chanceFrom(SEED);
  const hex = (digits: number): string =>
    Array.from({ length: digits }, () => chance(16).toString(16)).join('');
  const begins = ['00000000', '7fffffff', '80000000', 'ffffffff', hex(8)];
  const ids = Array.from({ length: SPACES }, () => begins[chance(begins.length)] + hex(24));
  const next = ids.map(() => 1 + chance(2 ** 40));
  const index = new SegmentIndex();
  let lsn = START;
  for (let n = 0; n < 2_000; n++) {
    const slot = chance(SPACES);
    const [count, bytes] = [1 + chance(5), 64 * (1 + chance(2_000))];
    index.add(slot, next[slot]!, count, lsn, bytes);
    next[slot]! += count;
    lsn += bytes;
  }
  const encoded = (): Uint8Array => encodeIndex(index, START, lsn, (slot) => ids[slot]!);
  const bytes = encoded();
  // In the room of another one's file, with whatever that has left in it.
  const other = bytes.slice();
  index.room.file.leave(new Uint8Array(2 * bytes.length).fill(0xa5));
  expect(encoded()).toEqual(other);
  const slotOf = new Map(ids.map((id, slot) => [id, slot]));
  const read = decodeIndex(bytes, START, lsn, (id) => slotOf.get(id));
  const content = ({ unsettled }: SegmentIndex) => new Map(unsettled);
  expect(content(read)).toEqual(content(index));
  expect(content(index).size).toBeGreaterThan(SPACES / 2);
});
