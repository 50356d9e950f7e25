/** What may stand where an entry of ours was lost. */
import { describe, expect, test } from 'vitest';
import { Chain } from '#src/shared/log/chain.js';
import { readHeaderCrc, sealLocal, stageHeader } from '#src/shared/log/entry.js';

function entry(sequence: number, epoch: number, time: number, type = 1): DataView {
  const bytes = new Uint8Array(64);
  const view = new DataView(bytes.buffer);
  stageHeader(view, 0, sequence, time, 0, type, 0, epoch);
  sealLocal(bytes, view, 0, [1, 2, 3, 4], 0, 0, 0);
  return view;
}

const before = { sequence: 4, epoch: 2, timestamp: 100n };
const behind = { sequence: 8, epoch: 3, timestamp: 200n };

describe('chain', () => {
  test('entries that lie between their neighbours, in order', () => {
    const chain = new Chain(before, behind, []);
    for (const view of [entry(5, 2, 100), entry(6, 2, 150), entry(7, 3, 200)]) {
      expect(chain.take(view, 0)).toBeUndefined();
    }
  });

  test.each([
    ['an epoch below the one before', entry(5, 1, 150)],
    ['an epoch above the one behind', entry(5, 4, 150)],
    ['a timestamp before the one before', entry(5, 2, 99)],
    ['a timestamp behind the one behind', entry(5, 2, 201)],
    ['a sequence that is there already', entry(4, 2, 150)],
    ['a sequence that is there behind', entry(8, 2, 150)],
  ])('%s is refused', (_, view) => {
    expect(new Chain(before, behind, []).take(view, 0)).toMatch(/entry \d/);
  });

  test('of an entry whose header_crc is known no other one is taken', () => {
    const true5 = entry(5, 2, 150);
    const position = { epoch: 2, sequence: 5, headerCrc: readHeaderCrc(true5, 0) };
    expect(new Chain(undefined, undefined, [position]).take(true5, 0)).toBeUndefined();
    const other = entry(5, 2, 150, 2);
    expect(new Chain(undefined, undefined, [position]).take(other, 0)).toMatch(/not the one/);
    const elsewhere = entry(5, 3, 150);
    expect(new Chain(undefined, undefined, [position]).take(elsewhere, 0)).toMatch(/not the one/);
  });

  test('a refused entry leaves the chain where it was', () => {
    const chain = new Chain(before, undefined, []);
    expect(chain.take(entry(9, 1, 150), 0)).toBeDefined();
    expect(chain.take(entry(5, 2, 120), 0)).toBeUndefined();
    expect(chain.take(entry(6, 2, 119), 0)).toBeDefined();
  });
});
