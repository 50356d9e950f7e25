/** What a space knows of damage, and of itself once a segment is whole again. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { SpaceTable } from '#src/main/log/space-table.js';
import { addDamage } from '#src/main/recovery/replay.js';
import { takeRestored } from '#src/main/repair/regained.js';
import type { SeenSpace } from '#src/main/repair/segment-survey.js';
import { HOLES_MAX } from '#src/shared/limits.js';
import { type DamagedRange, newSpaceFacts, type SpaceFacts } from '#src/shared/log/space-facts.js';
import { allocateMemory, NodeMemory } from '#src/shared/memory/slab.js';

const ID = '00112233445566778899aabbccddeeff';

function space(damage: DamagedRange[], sequence: number) {
  const memory = new NodeMemory(allocateMemory(64 * 1024, 1024 * 1024, 4));
  const facts: SpaceFacts = newSpaceFacts(ID, 's');
  facts.position = { epoch: 1, sequence, headerCrc: 7 };
  facts.history.push({ epoch: 1, startSequence: 1, primaryNodeId: ID });
  facts.damage = damage;
  const table = new SpaceTable(memory);
  return { memory, rows: table.rows, state: table.add(facts) };
}

const range = (from: number, to: number, more: Partial<DamagedRange> = {}): DamagedRange => ({
  from,
  to,
  lsn: 10,
  accepted: false,
  ...more,
});

function seen(runs: number[], end?: number, epochs: [number, number][] = []): SeenSpace {
  const position = { epoch: 2, sequence: end ?? 0, headerCrc: 9 };
  const last = end === undefined ? undefined : { position, timestamp: 2n ** 33n + 5n };
  return { runs, spans: [], end: last, epochs: new Map(epochs), sets: [] };
}

const always = () => true;
const never = () => false;

describe('damage', () => {
  const arbitraryRange = fc
    .tuple(fc.integer({ min: 1, max: 60 }), fc.integer({ min: 0, max: 9 }), fc.boolean())
    .map(([from, more, isOpen]) => range(from, isOpen && more === 0 ? 0 : from + more));
  const covers = (rows: readonly DamagedRange[], sequence: number): boolean =>
    rows.some((d) => !d.accepted && d.from <= sequence && (d.to === 0 || d.to >= sequence));

  test('is kept whatever order it is found in, the rows in the order of the space', () => {
    const ranges = fc.array(arbitraryRange, { minLength: 1, maxLength: 30 });
    fc.assert(
      fc.property(ranges, (found) => {
        const { facts } = space([], 200).state;
        for (const one of found) addDamage(facts, one);
        for (let n = 1; n <= 80; n++) expect(covers(facts.damage, n)).toBe(covers(found, n));
        const starts = facts.damage.map((d) => d.from);
        expect(starts).toEqual(starts.toSorted((a, b) => a - b));
      }),
    );
  });

  test('beyond the most rows that are kept, too much counts as damaged, never too little', () => {
    const rows = Array.from({ length: HOLES_MAX }, (_, i) =>
      range(100 + 3 * i, 100 + 3 * i, { accepted: i % 2 === 0 }),
    );
    for (const one of [range(7, 7), range(500, 501), range(99_000, 0), range(100_000, 100_000)]) {
      const { facts } = space([...rows], 200).state;
      addDamage(facts, one);
      expect(facts.damage.length).toBe(HOLES_MAX);
      expect(covers(facts.damage, one.from)).toBe(true);
      expect(covers(facts.damage, 103)).toBe(true);
    }
  });
});

describe('restored', () => {
  test('what came back leaves the damaged ranges; the rest stays in them', () => {
    const { memory, state } = space([range(5, 9), range(20, 22)], 40);
    takeRestored(state, seen([1, 6, 9, 21]), memory, never);
    expect(state.facts.damage).toEqual([range(7, 8), range(22, 22)]);
    takeRestored(state, seen([7, 8, 22, 30]), memory, never);
    expect(state.facts.damage).toEqual([]);
    expect(state.facts.position.sequence).toBe(40);
  });

  test('a tail: the position moves, and is open only while something is bad behind', () => {
    const { memory, rows, state } = space([range(41, 0)], 40);
    expect(takeRestored(state, seen([30, 43], 43), memory, never)).toBe(true);
    expect(state.facts.damage).toEqual([range(44, 0)]);
    expect(state.facts.position).toEqual({ epoch: 2, sequence: 43, headerCrc: 9 });
    expect([memory.durable(1), memory.allocated(1)]).toEqual([43, 43]);
    expect([rows.timeLow(1), rows.timeHigh(1)]).toEqual([5, 2]);
    takeRestored(state, seen([44, 44], 44), memory, always);
    expect(state.facts.damage).toEqual([]);
  });

  test('a lost record of the node is not cleared by entries', () => {
    const lost = range(41, 0, { doubt: 'record' });
    const { memory, state } = space([lost], 40);
    expect(takeRestored(state, seen([30, 43], 43), memory, always)).toBe(false);
    expect(state.facts.damage).toEqual([lost]);
    expect(state.facts.position.sequence).toBe(40);
  });

  test('a loss that was accepted stays accepted', () => {
    const accepted = range(5, 9, { accepted: true });
    const { memory, state } = space([accepted], 40);
    takeRestored(state, seen([1, 40]), memory, always);
    expect(state.facts.damage).toEqual([accepted]);
  });

  test('an epoch began where its first entry stands, were it lost or not', () => {
    const { memory, state } = space([range(5, 9)], 40);
    state.facts.history.push({ epoch: 3, startSequence: 12, primaryNodeId: ID });
    const epochs: [number, number][] = [
      [2, 6],
      [3, 8],
    ];
    takeRestored(state, seen([5, 9], undefined, epochs), memory, always);
    expect(state.facts.history.map((h) => [h.epoch, h.startSequence])).toEqual([
      [1, 1],
      [2, 6],
      [3, 8],
    ]);
  });
});
