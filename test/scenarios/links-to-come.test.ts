/** Acknowledgements that ask for replicas whose links are about to come (row 117). */
import { expect, test } from 'vitest';
import type { Space } from '#src/main/index.js';
import { at, EachTest, openSmall, until } from '../support/cluster.js';
import { freePort } from '../support/etcd.js';
import { TcpProxy } from '../support/tcp-proxy.js';
import { Trio } from '../support/trio.js';

const LISTEN = { host: '127.0.0.1', port: 0 };
const ACK = { ack: { replicas: 1, timeoutMs: 15_000 } };
const ENTRY = Buffer.from('entry');

const each = new EachTest();

async function cluster(): Promise<{ trio: Trio; space: Space }> {
  const trio = await Trio.make();
  each.finally(() => trio.close());
  const a = await trio.start('a');
  await trio.start('b');
  await trio.start('c');
  const space = await a.openSpace('s');
  await space.append(1, ENTRY, { ack: { replicas: 2, timeoutMs: 15_000 } });
  return { trio, space };
}

test('FAULT-117 right after a promotion nothing is refused while the member lives', async () => {
  const { trio } = await cluster();
  await trio.stop('a');
  const b = trio.open.get('b')!;
  await b.promote('s');
  const space = b.space('s');
  // In the order of the calls, though no link is there yet.
  const all = [1, 2, 3].map(() => space.append(1, ENTRY, ACK));
  const sequences = (await Promise.all(all)).map((a) => a.sequence);
  expect(sequences).toEqual([3, 4, 5]);
  // Nor is it when it hands over at once.
  await trio.stop('c');
  await trio.start('c');
  expect(await b.switchover('s', 'c', { timeoutMs: 15_000 })).toMatchObject({ to: 'c' });
  expect(await trio.open.get('c')!.space('s').append(1, ENTRY, ACK)).toMatchObject({ epoch: 3 });
});

test('FAULT-117 a link that was lost a moment ago, an opening, a new replica', async () => {
  const b = await each.start('b', { listen: LISTEN });
  const proxy = new TcpProxy(b.address!.port);
  await proxy.listen();
  each.finally(() => proxy.close());
  const replicas = [at('b', proxy.port)];
  const options = { lead: true, openConfirmMs: 0, replicas };
  let a = await openSmall(`${each.folder}/a`, 'a', options);
  each.finally(() => a.close());
  let space = await a.openSpace('s');
  expect(await space.append(1, ENTRY, ACK)).toMatchObject({ sequence: 1 });
  await proxy.close();
  await until('it is lost', () => a.status().replicas[0]!.state !== 'streaming');
  const lost = space.append(1, ENTRY, ACK);
  await proxy.listen();
  // It was taken in as a member meanwhile: two entries of the log's own.
  expect(await lost).toMatchObject({ sequence: 4 });
  await a.close();
  a = await openSmall(`${each.folder}/a`, 'a', options);
  space = await a.openSpace('s');
  expect(await space.append(1, ENTRY, ACK)).toMatchObject({ sequence: 5 });
  const c = await each.start('c', { listen: LISTEN });
  await a.addReplica(at('c', c.address!.port));
  const two = { ack: { replicas: 2, timeoutMs: 15_000 } };
  expect((await space.append(1, ENTRY, two)).sequence).toBeGreaterThanOrEqual(6);
});

test('FAULT-117 who has no chance is told at once, and nothing is appended', async () => {
  const a = await each.start('a', {
    lead: true,
    openConfirmMs: 0,
    replicas: [at('b', await freePort())],
  });
  const space = await a.openSpace('s');
  const code = (options: object): Promise<string> =>
    space.append(1, ENTRY, options).then(
      () => 'appended',
      (error) => error.code,
    );
  // Nobody has ever been there: three attempts, and it has failed.
  await until('it has failed', () => a.status().replicas[0]!.consecutiveFailures >= 3);
  await new Promise((resolve) => setTimeout(resolve, 2_100));
  const long = { replicas: 1, timeoutMs: 600_000 };
  expect(await code({ ack: long })).toBe('NotEnoughReplicas');
  expect(await code({ ack: { replicas: 2 } })).toBe('Configuration');
  // A new reason to dial it is a new hope, for its time and no longer.
  const removed = a.removeReplica('b').then(() => a.addReplica(at('b', 1)));
  await removed;
  expect(await code({ ack: long, wait: false })).toBe('NotEnoughReplicas');
  expect(await code({ ack: { replicas: 1, timeoutMs: 200 } })).toBe('NotEnoughReplicas');
  expect(await code({ ack: long })).toBe('NotEnoughReplicas');
  const waits = space.append(1, ENTRY, { ack: long }).catch((error) => error);
  expect(space.status().lastSequence).toBe(0);
  await a.close();
  expect(['NotEnoughReplicas', 'Closed']).toContain((await waits).code);
});
