/** Spaces are found by the words of their ids: by no other text than an id. */
import { expect, test } from 'vitest';
import { SpaceTable } from '#src/main/log/space-table.js';
import { NODE_SPACE_ID } from '#src/shared/log/node-record.js';
import { newSpaceFacts } from '#src/shared/log/space-facts.js';
import { allocateMemory, NodeMemory } from '#src/shared/memory/slab.js';

const MIB = 2 ** 20;
const ID = 'a0'.repeat(16);

test('what has the words of an id and is none finds nothing', () => {
  const spaces = new SpaceTable(new NodeMemory(allocateMemory(MIB, 4 * MIB, 8)));
  const space = spaces.add(newSpaceFacts(ID, 's'));
  expect(spaces.byId(ID)).toBe(space);
  expect(spaces.byId(NODE_SPACE_ID)).toBe(spaces.node);
  for (const text of ['', '0', 'zz', ID.toUpperCase(), ID.slice(1), `${ID}0`, 'b0'.repeat(16)]) {
    expect(spaces.byId(text), text).toBeUndefined();
  }
  expect(() => spaces.add(newSpaceFacts(ID, 'other'))).toThrow(/share the id/);
});
