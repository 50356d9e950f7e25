/** Two nodes make one space, each without the other's answer: one of them leads it (row 114). */

import path from 'node:path';
import { afterEach, describe, expect, test } from 'vitest';
import type { Node, NodeOptions } from '#src/main/index.js';
import { nodeDisk } from '#src/main/segments/node-disk.js';
import { listQuarantine } from '#src/main/snapshot/quarantine.js';
import { contentOf, removeFolder, until } from '../support/cluster.js';
import { Trio } from '../support/trio.js';

let trio: Trio;

afterEach(async () => {
  await trio.close();
});

const BOTH: Partial<NodeOptions> = { lead: true, openConfirmMs: 200 };

/** @returns the node that leads alone, once there is one and the others have all of it */
async function oneLeads(): Promise<Node> {
  const all = [...trio.open.values()];
  const leading = (): Node[] => all.filter((n) => n.space('s').status().role === 'primary');
  await until('one leads', () => leading().length === 1);
  const [leader] = leading();
  await until('the others follow it', () => leader!.space('s').status().isReplicated(1));
  return leader!;
}

/** What was taken back on a node, and kept. */
async function quarantined(nodeId: string): Promise<number> {
  const { rewinds } = await listQuarantine(nodeDisk, path.join(trio.folder, nodeId));
  return rewinds.reduce((sum, { entries }) => sum + entries, 0);
}

describe('two founders', () => {
  test('FAULT-114 at the same moment: one leads, and the other one follows it', async () => {
    trio = await Trio.make(['a', 'b']);
    const a = await trio.start('a', BOTH);
    const b = await trio.start('b', BOTH);
    const [atA, atB] = await Promise.all([a.openSpace('s'), b.openSpace('s')]);
    await Promise.allSettled(
      [atA, atB].map((space, n) => space.append(1, Buffer.from(`of ${'ab'[n]}`))),
    );
    const leader = await oneLeads();
    const { sequence } = await leader
      .space('s')
      .append(1, Buffer.from('kept'), { ack: { replicas: 1, timeoutMs: 20_000 } });
    const contents = await Promise.all([contentOf(atA), contentOf(atB)]);
    expect(contents[0]!.length).toBe(sequence);
    expect(contents[1]).toEqual(contents[0]);
  });

  test('FAULT-114 apart: what one has goes to quarantine, no level is lost', async () => {
    trio = await Trio.make(['a', 'b', 'c'], true);
    const a = await trio.start('a', BOTH);
    const b = await trio.start('b', BOTH);
    await trio.start('c', { lead: false });
    // `c` is reached by b alone, and nobody reaches a.
    await trio.isolate('a');
    const [atA, atB] = await Promise.all([a.openSpace('s'), b.openSpace('s')]);
    for (let n = 1; n <= 5; n++) await atA.append(1, Buffer.from(`a ${n}`));
    for (let n = 1; n <= 3; n++) {
      await atB.append(1, Buffer.from(`b ${n}`), { ack: { replicas: 1, timeoutMs: 20_000 } });
    }
    await expect(
      atA.append(1, Buffer.from('nowhere'), { ack: { replicas: 1, timeoutMs: 300 } }),
    ).rejects.toThrow();
    await trio.heal();
    const leader = await oneLeads();
    expect(leader.nodeId).toBe('b');
    await until('a has what b has', () => atA.status().durableSequence >= 3);
    await atB.append(1, Buffer.from('last'), { ack: { replicas: 2, timeoutMs: 20_000 } });
    await until('a has all of it', () => {
      const { lastSequence, members } = atB.status();
      return members?.pending === undefined && atA.status().durableSequence === lastSequence;
    });
    expect(await contentOf(atA)).toEqual(await contentOf(atB));
    expect(await quarantined('a')).toBeGreaterThanOrEqual(5);
    expect(trio.heard('a', 'leader-conflict')).toEqual([]);
    expect(trio.heard('a', 'rewound')).toMatchObject([{ from: 1 }]);
    await expect(atA.append(1, Buffer.from('x'))).rejects.toMatchObject({ code: 'NotPrimary' });
  });

  test('FAULT-85 an empty directory that led all the same gives way', async () => {
    trio = await Trio.make(['a', 'b', 'c'], true);
    const a = await trio.start('a', BOTH);
    await trio.start('b');
    await trio.start('c');
    const before = await a.openSpace('s');
    for (let n = 1; n <= 3; n++)
      await before.append(1, Buffer.from(`${n}`), { ack: { replicas: 2 } });
    await trio.stop('a');
    removeFolder(path.join(trio.folder, 'a'));
    await trio.isolate('a');
    const again = await trio.start('a', BOTH);
    const space = await again.openSpace('s');
    await space.append(1, Buffer.from('of another history'));
    await trio.heal();
    await until('it gave way', () => trio.heard('a', 'rewound').length === 1);
    expect(await quarantined('a')).toBe(1);
    await trio.open.get('b')!.promote('s');
    await until('it follows', () => space.status().durableSequence >= 4);
    expect(await contentOf(space, { from: 1, to: 3 })).toEqual(
      await contentOf(trio.open.get('b')!.space('s'), { from: 1, to: 3 }),
    );
  });
});
