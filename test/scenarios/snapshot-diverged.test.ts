/** A former primary that comes back so late that what it shares with the new one is freed. */
import fs from 'node:fs';
import { afterEach, beforeEach, expect, test } from 'vitest';
import type { Node, NodeOptions, Space } from '#src/main/index.js';
import { contentOf, until } from '../support/cluster.js';
import { TINY } from '../support/fake-cluster.js';
import { StateHost } from '../support/state-host.js';
import { Trio } from '../support/trio.js';

const SIZES = { ...TINY, maxSlotBytes: 64 * 1024, snapshotChunkBytes: 4 * 1024 };

let trio: Trio;

beforeEach(async () => {
  trio = await Trio.make(['a', 'b']);
});

afterEach(() => trio.close());

function withHost(host: StateHost): Partial<NodeOptions> {
  const { apply, appliedUpTo, restore, snapshot } = host;
  return { ...SIZES, apply, appliedUpTo, restore, snapshot };
}

let made = 0;

async function fill(space: Space, host: StateHost, entries: number): Promise<void> {
  for (let n = 0; n < entries; n++) {
    await host.append(space, Buffer.from(`${++made} `.padEnd(1_500, '.')));
  }
}

async function giveUp(node: Node, space: Space): Promise<void> {
  await until('segments are freed', () => {
    void space.checkpoint(space.status().durableSequence + 1);
    return node.status().segments <= 2;
  });
}

test('what only it has is in quarantine before a snapshot takes its place', async () => {
  const hosts = { a: new StateHost(), b: new StateHost() };
  let a = await trio.start('a', withHost(hosts.a));
  await trio.start('b', withHost(hosts.b));
  await fill(await a.openSpace('s'), hosts.a, 5);
  await trio.settled('a', 's', 1);
  await until('it is applied', () => hosts.b.sequence('s') >= 5);
  await trio.stop('b');
  await fill(a.space('s'), hosts.a, 3);
  const own = await contentOf(a.space('s'), { from: 6 });
  await trio.stop('a');
  const b = await trio.start('b', withHost(hosts.b));
  await b.promote('s', { force: true });
  const space = b.space('s');
  // The host of a new primary goes on from what it has applied.
  await until('it leads', () => space.status().role === 'primary');
  const { durableSequence } = space.status();
  for await (const entry of space.read({ from: hosts.b.sequence('s') + 1, to: durableSequence })) {
    await hosts.b.apply([entry], { space: 's' });
  }
  await fill(space, hosts.b, 100);
  await giveUp(b, space);
  expect(space.status().firstSequence).toBeGreaterThan(20);
  a = await trio.start('a', withHost(hosts.a));
  await trio.settled('b', 's', 1);
  const last = space.status().durableSequence;
  await until('it is applied', () => a.space('s').status().appliedSequence >= last);
  expect(hosts.a.restores).toBe(1);
  expect(hosts.a.digest('s')).toBe(hosts.b.digest('s'));
  // What happened while it opened is told in the next turn.
  await until('it is told', () => trio.heard('a', 'rewound').length > 0);
  const [taken] = trio.heard('a', 'rewound');
  expect(taken).toMatchObject({ space: 's', from: 6, to: 8, entries: own.length });
  const summary = taken!.quarantine.replace(/\.wal$/, '.json');
  expect(JSON.parse(fs.readFileSync(summary, 'utf8'))).toMatchObject({
    from: 6,
    to: 8,
    entries: 3,
  });
  // And it goes on, in the new epoch, with nothing of the old one.
  await fill(space, hosts.b, 5);
  await trio.settled('b', 's', 1);
  const copy = a.space('s');
  const { firstSequence, epoch } = copy.status();
  expect(epoch).toBe(space.status().epoch);
  expect(await contentOf(copy)).toEqual(await contentOf(space, { from: firstSequence }));
});

test('FAULT-110 who has read what a snapshot takes the place of is told so', async () => {
  const other = await Trio.make(['a', 'b'], true);
  try {
    const hosts = { a: new StateHost(), b: new StateHost() };
    const a = await other.start('a', withHost(hosts.a));
    const b = await other.start('b', withHost(hosts.b));
    await fill(await a.openSpace('s'), hosts.a, 5);
    await other.settled('a', 's', 1);
    await until('it is applied', () => hosts.b.sequence('s') >= 5);
    await other.isolate('a');
    await fill(a.space('s'), hosts.a, 3);
    const read = a.space('s').subscribe();
    for (let n = 1; n <= 7; n++) expect((await read.next()).value).toMatchObject({ sequence: n });
    const waits = a.space('s').flushed(90, { timeoutMs: 60_000 });
    const rejected = waits.then(
      () => 'flushed',
      (error) => error.code,
    );
    await b.promote('s', { force: true });
    const space = b.space('s');
    for await (const entry of space.read({ from: 6 })) await hosts.b.apply([entry], { space: 's' });
    await fill(space, hosts.b, 100);
    await giveUp(b, space);
    await other.heal();
    await until('it has the snapshot', () => a.space('s').status().firstSequence > 20);
    await expect(read.next()).rejects.toMatchObject({ code: 'Rewound', details: { from: 6 } });
    expect(await rejected).toBe('Fenced');
  } finally {
    await other.close();
  }
});
