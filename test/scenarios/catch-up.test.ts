import { expect, test, vi } from 'vitest';
import { at, contentOf, EachTest, until } from '../support/cluster.js';
import { TcpProxy } from '../support/tcp-proxy.js';

const LISTEN = { host: '127.0.0.1', port: 0 };

const each = new EachTest();
const start = each.start.bind(each);

test('catching up is throttled and tells how long it takes; who is live goes on', async () => {
  const b = await start('b', { listen: LISTEN });
  const c = await start('c', { listen: LISTEN });
  const { port } = b.address!;
  await b.close();
  const perSecond = 400_000;
  const a = await start('a', {
    replicas: [at('b', port), at('c', c.address!.port)],
    catchUpBytesPerSecond: perSecond,
    catchUpBatchBytes: 64 * 1024,
  });
  const space = await a.openSpace('s');
  const payloads = Array.from({ length: 20 }, (_, n) => Buffer.alloc(10_000, n));
  // Two megabytes, so that it takes five seconds.
  for (let n = 0; n < 10; n++) {
    await space.appendBatch(1, payloads, { ack: { replicas: 1, timeoutMs: 20_000 } });
  }
  const again = await start('b', { listen: { host: '127.0.0.1', port } });
  const link = () => a.status().replicas[0]!;
  await until('it reads', () => link().catchUp.bytesPerSecond > 0);
  const begun = performance.now();
  const { behindBytes, bytesPerSecond, etaMs } = link().catchUp;
  expect(behindBytes).toBeGreaterThan(500_000);
  expect(bytesPerSecond).toBeLessThan(4 * perSecond);
  expect(etaMs).toBeGreaterThan(500);
  for (let n = 0; n < 20; n++) {
    await space.append(1, Buffer.alloc(100), { ack: { replicas: 1, timeoutMs: 20_000 } });
  }
  const { replicas } = space.status();
  expect(replicas.find((r) => r.replicaId === 'c')!.lagEntries).toBe(0);
  // The live ones were through long before.
  expect(replicas.find((r) => r.replicaId === 'b')!.lagEntries).toBeGreaterThan(20);
  await space.flushed(220, { replicas: 2, timeoutMs: 60_000 });
  expect(performance.now() - begun).toBeGreaterThan((0.5 * 1_000 * behindBytes) / perSecond);
  expect(link().catchUp).toMatchObject({ etaMs: expect.any(Number) });
  // That it is a member is settled by an entry of its own, a moment later.
  const isSame = async () =>
    expect(await contentOf(again.space('s'))).toEqual(await contentOf(space));
  await vi.waitFor(isSame, { timeout: 10_000, interval: 100 });
}, 90_000);

test('a slot goes from reserved to extended to lost, each of them visible', async () => {
  const a = await start('a', { replicas: [at('b', 1)], maxSlotBytes: 1_000_000 });
  const lost: unknown[] = [];
  a.on('slot-lost', (event) => lost.push(event));
  const space = await a.openSpace('s');
  const seen: string[] = [];
  for (let n = 0; n < 400 && lost.length === 0; n++) {
    await space.append(1, Buffer.alloc(10_000, n));
    const { slot } = space.status().replicas[0]!;
    if (seen.at(-1) !== slot) seen.push(slot);
  }
  await until('it is lost', () => lost.length > 0);
  expect(lost).toEqual([{ space: 's', replicaId: 'b', flushed: 0, why: 'bytes' }]);
  expect(seen.slice(0, 2)).toEqual(['reserved', 'extended']);
  expect(['extended', 'unreserved', 'lost']).toContain(seen.at(-1));
  expect(space.status().replicas[0]!.slot).toBe('lost');
});

test('an ack that does not come in time says what is known, and the entry stays', async () => {
  const b = await start('b', { listen: LISTEN });
  const c = await start('c', { listen: LISTEN });
  const proxy = new TcpProxy(b.address!.port);
  each.finally(() => proxy.close());
  const replicas = [at('b', await proxy.listen()), at('c', c.address!.port)];
  const a = await start('a', { replicas });
  const space = await a.openSpace('s');
  await space.append(1, Buffer.from('1'), { ack: { replicas: 2, timeoutMs: 20_000 } });
  proxy.stall('forth', 'back');
  const late = space.append(1, Buffer.from('2'), { ack: { replicas: 2, timeoutMs: 700 } });
  await expect(late).rejects.toMatchObject({
    code: 'AckTimeout',
    retryable: true,
    details: { sequence: 2, flushedOn: ['c'], durable: true },
  });
  // Never a silent downgrade, and nothing is taken back: it is durable here, and comes later.
  expect(space.status()).toMatchObject({ durableSequence: 2, minAckedSequence: 1 });
  proxy.flow();
  await space.flushed(2, { replicas: 2, timeoutMs: 20_000 });
  const many = space.append(1, Buffer.from('3'), { ack: { replicas: 3, timeoutMs: 60_000 } });
  await expect(many).rejects.toMatchObject({
    code: 'Configuration',
    details: { replicas: ['b', 'c'] },
  });
  expect(space.status().lastSequence).toBe(2);
});
