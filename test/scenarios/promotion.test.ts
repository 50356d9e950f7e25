import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { Space } from '#src/main/index.js';
import { contentOf, until } from '../support/cluster.js';
import { Trio } from '../support/trio.js';

let trio: Trio;

beforeEach(async () => {
  trio = await Trio.make();
});

afterEach(async () => {
  await trio.close();
});

const payload = (n: number): Buffer => Buffer.from(`entry ${n} ${'.'.repeat(n % 50)}`);

async function fill(space: Space, from: number, to: number, replicas = 0): Promise<void> {
  if (replicas > 0) {
    await until(`${replicas} replicas are connected`, () => {
      const streaming = space.status().replicas.filter((r) => r.lastSuccess !== undefined);
      return streaming.length >= replicas;
    });
  }
  for (let n = from; n <= to; n++) {
    await space.append(1, payload(n), replicas > 0 ? { ack: { replicas } } : undefined);
  }
}

describe('promotion', () => {
  test('FAULT-62 a primary that returns first ships what only it had', async () => {
    const a = await trio.start('a');
    await trio.start('b');
    await fill(await a.openSpace('s'), 1, 10, 1);
    await trio.stop('b');
    await fill(a.space('s'), 11, 20);
    expect(a.space('s').status().rpo.entries).toBeGreaterThan(0);
    await trio.stop('a');
    await trio.start('b');
    const again = await trio.start('a');
    await trio.settled('a', 's', 1);
    const b = trio.open.get('b')!;
    expect(await contentOf(b.space('s'))).toEqual(await contentOf(again.space('s')));
  });

  test('FAULT-64 the old primary rejoins: its tail to quarantine, then it follows', async () => {
    const a = await trio.start('a');
    const b = await trio.start('b');
    const c = await trio.start('c');
    const space = await a.openSpace('s');
    await fill(space, 1, 20, 2);
    await trio.stop('b');
    await trio.stop('c');
    await fill(space, 21, 30);
    await trio.stop('a');
    const b2 = await trio.start('b');
    await trio.start('c');
    const report = await b2.promote('s');
    expect(report).toMatchObject({ isPromoted: true, epoch: 2, lost: [] });
    const led = await b2.openSpace('s');
    await fill(led, 22, 40);
    expect(led.status()).toMatchObject({ role: 'primary', epoch: 2, durableSequence: 40 });
    const a2 = await trio.start('a');
    await until('a has gone back', () => trio.heard('a', 'rewound').length === 1);
    expect(trio.heard('a', 'rewound')[0]).toMatchObject({ from: 21, to: 30, primaryId: 'b' });
    await trio.settled('b', 's', 2);
    for (const node of [a2, trio.open.get('c')!]) {
      expect(await contentOf(node.space('s'))).toEqual(await contentOf(led));
    }
    expect([b, c]).toBeDefined();
  });
});
