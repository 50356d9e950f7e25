/** verify and inspect on logs that went back, or that stand on a snapshot: nothing of it is rot. */
import fs from 'node:fs';
import path from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { inspectLog } from '#src/main/cli/inspect.js';
import type { Space } from '#src/main/index.js';
import { verifyLog } from '#src/main/repair/verify.js';
import { nodeDisk } from '#src/main/segments/node-disk.js';
import { contentOf, until } from '../support/cluster.js';
import { TINY } from '../support/fake-cluster.js';
import { StateHost } from '../support/state-host.js';
import { Trio } from '../support/trio.js';

let trio: Trio;

beforeEach(async () => {
  trio = await Trio.make(['a', 'b']);
});

afterEach(async () => {
  await trio.close();
});

/** As it stands, and without what its states know: then the log alone tells. */
async function verified(nodeId: string, entries: number, last: number): Promise<void> {
  const dir = path.join(trio.folder, nodeId);
  const bare = path.join(trio.folder, `${nodeId}-bare`);
  fs.cpSync(dir, bare, { recursive: true, filter: (name) => !/state-\d|\.tmp$/.test(name) });
  for (const one of [dir, bare]) {
    const { findings, entries: counted } = await verifyLog(nodeDisk, one);
    expect(findings.filter((f) => f.level === 'rot')).toEqual([]);
    expect(counted).toBe(entries);
    const inspected = await inspectLog(nodeDisk, one, { space: 's', limit: 1_000 });
    expect(inspected.spaces[0]).toMatchObject({ name: 's', entries, lastSequence: last });
    expect(inspected.entries).toHaveLength(entries);
  }
  fs.rmSync(bare, { recursive: true });
}

async function fill(space: Space, entries: number): Promise<void> {
  for (let n = 0; n < entries; n++) await space.append(1, Buffer.alloc(900, n));
}

test('a former primary whose suffix was taken back, in several segments', async () => {
  const a = await trio.start('a', TINY);
  await trio.start('b', TINY);
  const space = await a.openSpace('s');
  await fill(space, 20);
  await trio.settled('a', 's', 1);
  await trio.stop('b');
  await fill(space, 40);
  await trio.stop('a');
  const b = await trio.start('b', TINY);
  expect(await b.promote('s', { force: true })).toMatchObject({ isPromoted: true, epoch: 2 });
  const led = await b.openSpace('s');
  await fill(led, 30);
  const again = await trio.start('a', TINY);
  await until('a has gone back', () => trio.heard('a', 'rewound').length === 1);
  await trio.settled('b', 's', 1);
  const last = led.status().durableSequence;
  expect(await contentOf(again.space('s'))).toEqual(await contentOf(led));
  await verified('a', last, last);
  await trio.stop('a');
  await verified('a', last, last);
});

test('a former primary whose newest state is older than what was taken back', async () => {
  const a = await trio.start('a');
  await trio.start('b');
  const space = await a.openSpace('s');
  await fill(space, 5);
  await trio.settled('a', 's', 1);
  await trio.stop('b');
  await fill(space, 5);
  // Closed, it has written a state that counts all ten.
  await trio.stop('a');
  const b = await trio.start('b');
  await b.promote('s', { force: true });
  await trio.start('a');
  await until('a has gone back', () => trio.heard('a', 'rewound').length === 1);
  await trio.settled('b', 's', 1);
  const last = b.space('s').status().durableSequence;
  expect(last).toBeLessThan(10);
  await verified('a', last, last);
});

test('a replica that stands on a snapshot', async () => {
  const sizes = { ...TINY, maxSlotBytes: 64 * 1024, snapshotChunkBytes: 4 * 1024 };
  const hosts = [new StateHost(), new StateHost()] as const;
  const { apply, appliedUpTo, restore } = hosts[1];
  const replica = { ...sizes, apply, appliedUpTo, restore };
  const a = await trio.start('a', { ...sizes, snapshot: hosts[0].snapshot });
  await trio.start('b', replica);
  const space = await a.openSpace('s');
  const payload = Buffer.alloc(1_500, 1);
  for (let n = 0; n < 5; n++) await hosts[0].append(space, payload);
  await trio.settled('a', 's', 1);
  await trio.stop('b');
  for (let n = 0; n < 120; n++) await hosts[0].append(space, payload);
  await until('segments are freed', () => {
    void space.checkpoint(space.status().durableSequence + 1);
    return a.status().segments <= 2;
  });
  const base = space.status().durableSequence;
  const b = await trio.start('b', replica);
  await trio.settled('a', 's', 1);
  for (let n = 0; n < 4; n++) await hosts[0].append(space, payload);
  await trio.settled('a', 's', 1);
  expect(b.space('s').status().firstSequence).toBe(base + 1);
  const { findings } = await verifyLog(nodeDisk, path.join(trio.folder, 'b'));
  expect(findings.filter((f) => f.level === 'rot')).toEqual([]);
  await trio.stop('b');
  await verified('b', 5 + 4, base + 4);
});
