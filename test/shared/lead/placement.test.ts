import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  affinity,
  candidates,
  completed,
  decodeNodeRow,
  decodeSpaceRow,
  encodeNodeRow,
  encodeSpaceRow,
  Loads,
  leads,
  type NodeRow,
  placeSpace,
  type SpaceRow,
  surplus,
} from '#src/shared/lead/placement.js';

const living = (...ids: string[]): Map<string, NodeRow> =>
  new Map(
    ids.map((nodeId) => [
      nodeId,
      { nodeId, session: `${nodeId}1`, host: 'h', port: 1, place: 'p', isDrained: false },
    ]),
  );

const row = (more: Partial<SpaceRow> = {}): SpaceRow => ({
  name: 's',
  nodeIds: ['a', 'b', 'c'],
  epoch: 3,
  leader: { nodeId: 'a', session: 'a1' },
  released: false,
  ...more,
});

describe('records', () => {
  test('come back as they were', () => {
    const node = living('a').get('a')!;
    expect(decodeNodeRow('a', 'a1', encodeNodeRow(node))).toEqual(node);
    for (const space of [row(), row({ epoch: 0, leader: undefined }), row({ released: true })]) {
      expect(decodeSpaceRow(encodeSpaceRow(space))).toEqual(space);
    }
  });

  test('anything else is nobody', () => {
    const bad: unknown[] = [
      { ...row(), epoch: -1 },
      { ...row(), epoch: 2 ** 32 },
      { ...row(), epoch: 1.5 },
      { ...row(), name: 7 },
      // What no frame can say, and no space is called.
      { ...row(), name: '' },
      { ...row(), name: 'n'.repeat(256) },
      { ...row(), name: '\ud800' },
      { ...row(), nodeIds: ['n'.repeat(256)] },
      { ...row(), leader: { nodeId: 'n'.repeat(256), session: 's' } },
      { ...row(), nodeIds: ['a', 'a'] },
      { ...row(), nodeIds: ['a', ''] },
      { ...row(), nodeIds: Array.from({ length: 65 }, (_, n) => `n${n}`) },
      { ...row(), leader: null },
      { ...row(), leader: { nodeId: 'a' } },
      [],
      null,
      'a',
    ];
    for (const value of bad) expect(decodeSpaceRow(JSON.stringify(value))).toBeUndefined();
    for (const value of [
      { host: '', port: 1, place: '' },
      { host: 'h', port: 0, place: 'p' },
      { host: 'h'.repeat(256), port: 1, place: 'p' },
    ]) {
      expect(decodeNodeRow('a', 's', JSON.stringify(value))).toBeUndefined();
    }
    fc.assert(
      fc.property(fc.oneof(fc.string(), fc.json()), (text) => {
        decodeSpaceRow(text);
        decodeNodeRow('a', 's', text);
      }),
    );
  });

  test('a space is led while the session that it names lives, and until it is given up', () => {
    expect(leads(row(), new Set(['a1', 'b1']))).toBe(true);
    expect(leads(row(), new Set(['a2', 'b1']))).toBe(false);
    expect(leads(row({ released: true }), new Set(['a1']))).toBe(false);
    expect(leads(row({ leader: undefined }), new Set(['a1']))).toBe(false);
  });
});

describe('who goes first', () => {
  test('who led last, where it lives; then by affinity; the dead and strangers never', () => {
    expect(candidates(row(), living('a', 'b', 'c', 'd'))[0]).toBe('a');
    expect([...candidates(row(), living('b', 'c', 'd'))].sort()).toEqual(['b', 'c']);
    const given = candidates(row({ released: true }), living('a', 'b', 'c'));
    const byAffinity = ['a', 'b', 'c'].sort((x, y) => affinity('s', x) - affinity('s', y));
    expect(given).toEqual(byAffinity);
    const never = row({ epoch: 0, leader: undefined, nodeIds: ['c', 'a', 'b'] });
    expect(candidates(never, living('a', 'b', 'c'))[0]).toBe('c');
  });

  test('a drained node goes last, and leads no new space', () => {
    const nodes = new Map(living('a', 'b', 'c'));
    nodes.set('a', { ...nodes.get('a')!, isDrained: true });
    expect(candidates(row(), nodes).at(-1)).toBe('a');
    expect(candidates(row(), new Map([...nodes].slice(0, 1)))).toEqual(['a']);
    // Of several that are drained the one that led last goes first, as ever.
    const drained = [...nodes].map(([id, node]) => [id, { ...node, isDrained: true }] as const);
    const led = row({ leader: { nodeId: 'c', session: 'c0' } });
    expect(candidates(led, new Map(drained))[0]).toBe('c');
    const made = placeSpace('new', 'a', undefined, 2, nodes, new Loads());
    expect([made.length, made.at(-1)]).toEqual([3, 'a']);
    const told = decodeNodeRow('a', 'a1', encodeNodeRow(nodes.get('a')!));
    expect([
      told?.isDrained,
      decodeNodeRow('b', 'b1', encodeNodeRow(nodes.get('b')!))?.isDrained,
    ]).toEqual([true, false]);
  });

  test('what a node leads too much goes to who leads least, and is not given back', () => {
    expect(
      surplus(
        'a',
        new Map([
          ['a', 6],
          ['b', 0],
          ['c', 3],
        ]),
      ),
    ).toBe(3);
    expect(
      surplus(
        'b',
        new Map([
          ['a', 6],
          ['b', 0],
        ]),
      ),
    ).toBe(0);
    // One more than others cannot be shared.
    expect(
      surplus(
        'a',
        new Map([
          ['a', 1],
          ['b', 0],
        ]),
      ),
    ).toBe(0);
    expect(surplus('drained', new Map([['b', 4]]))).toBe(0);
  });

  test('the spaces of a lost node are spread over the others', () => {
    const first = Array.from(
      { length: 1_000 },
      (_, n) => candidates(row({ name: `space-${n}` }), living('b', 'c'))[0],
    );
    const ofB = first.filter((id) => id === 'b').length;
    expect(ofB).toBeGreaterThan(400);
    expect(ofB).toBeLessThan(600);
  });
});

describe('where spaces go', () => {
  test('evenly, leadership and copies, whoever opens them', () => {
    const rows: SpaceRow[] = [];
    const loads = new Loads();
    const nodes = living('a', 'b', 'c', 'd', 'e');
    for (let n = 0; n < 100; n++) {
      const name = `s${n}`;
      const opener = n % 2 === 0 ? 'a' : 'b';
      const nodeIds = placeSpace(name, opener, undefined, 2, nodes, loads);
      expect(nodeIds).toHaveLength(3);
      expect(new Set(nodeIds).size).toBe(3);
      expect(nodeIds).toContain(opener);
      rows.push({ name, nodeIds, epoch: 0, leader: undefined, released: false });
      loads.add(rows.at(-1)!);
    }
    const led = (id: string): number => rows.filter((r) => r.nodeIds[0] === id).length;
    for (const id of nodes.keys()) expect(led(id)).toBeGreaterThanOrEqual(15);
    expect(placeSpace('own', 'a', true, 2, nodes, loads)[0]).toBe('a');
    expect(placeSpace('alone', 'a', undefined, 2, living('a'), loads)).toEqual(['a']);
  });

  test('what lacks nodes gets the least loaded ones, and no more than it should have', () => {
    const rows = [row({ name: 'x', nodeIds: ['b', 'c'] }), row({ name: 'y', nodeIds: ['b'] })];
    const loads = new Loads();
    for (const one of rows) loads.add(one);
    const { copies } = loads;
    const lone = row({ nodeIds: ['a'] });
    expect(completed(lone, 1, living('a', 'b', 'c', 'd'), copies)).toEqual(['a', 'd']);
    expect(completed(lone, 2, living('a', 'b', 'c'), copies)).toEqual(['a', 'c', 'b']);
    expect(completed(lone, 2, living('a'), copies)).toBeUndefined();
    expect(completed(row(), 2, living('a', 'b', 'c', 'd'), copies)).toBeUndefined();
    expect(completed(row(), 1, living('a', 'b', 'c', 'd'), copies)).toBeUndefined();
  });
});
