import { expect, test } from 'vitest';
import { SpaceRows } from '#src/main/log/space-rows.js';
import { closedGroup, OpenGroup } from '#src/main/log/write/open-group.js';
import { SealerPool } from '#src/main/log/write/sealer-pool.js';
import { idWords } from '#src/shared/bytes.js';
import { ENTRY_HEADER_BYTES } from '#src/shared/limits.js';
import { isInPlace, sealLocal, stageHeader } from '#src/shared/log/entry.js';
import { allocateMemory, NodeMemory } from '#src/shared/memory/slab.js';

const SALT = 7;
const SPACE = idWords('0123456789abcdef0123456789abcdef');

/** @param received it came sealed, from another node; 0: staged here */
async function sealed(received: 0 | 1) {
  const memory = new NodeMemory(allocateMemory(1 << 16, 1 << 20, 4));
  memory.setSpace(1, SPACE, 1, 0);
  const pool = new SealerPool(memory, 1);
  const slab = memory.slabs[0]!;
  stageHeader(slab.view, 0, 1, 0, 0, 1, 0, 1);
  if (received) sealLocal(slab.bytes, slab.view, 0, SPACE, SALT + 1, 512, 0);
  const open = new OpenGroup(slab, 1, new Float64Array(5), new SpaceRows(4));
  open.add(1, 1, 1, ENTRY_HEADER_BYTES, received);
  const group = closedGroup(open);
  group.startLsn = 4_096;
  let isAtOnce = true;
  const atOnce = await new Promise<boolean>((resolve, reject) => {
    pool.seal(group, slab, SALT, true, () => resolve(isAtOnce), reject);
    isAtOnce = false;
  });
  await pool.close();
  expect(isInPlace(slab.view, 0, SALT, group.startLsn)).toBe(true);
  return atOnce;
}

test('a large group that came sealed is stamped at once, one of this node beside', async () => {
  expect(await sealed(1)).toBe(true);
  expect(await sealed(0)).toBe(false);
});
