/** Batches of several spaces between real nodes, and with nodes that have none. */
import { expect, test } from 'vitest';
import type { Node, Space } from '#src/main/index.js';
import { idWords } from '#src/shared/bytes.js';
import { NODE_SPACE_ID } from '#src/shared/log/node-record.js';
import { FEATURE_MIXED } from '#src/shared/wire/batch.js';
import { at, contentOf, EachTest } from '../support/cluster.js';
import { sampleOf } from '../support/exposition.js';
import { batchFrame, type MixedRun, mixedFrame, WireClient } from '../support/wire-client.js';
import { withoutFeatures } from '../support/without-features.js';

const LISTEN = { host: '127.0.0.1', port: 0 };
const SPACES = 40;
const NAMES = Array.from({ length: SPACES }, (_, n) => `s${n}`);

const each = new EachTest();

/** One entry in each space in turn, so many times. */
async function fill(spaces: readonly Space[], times: number): Promise<void> {
  for (let n = 0; n < times; n++) {
    await Promise.all(spaces.map((space) => space.append(1, Buffer.alloc(20 + n, `${n} `))));
  }
}

async function everywhere(spaces: readonly Space[], replicas: number): Promise<void> {
  const end = { replicas, timeoutMs: 20_000 };
  await Promise.all(spaces.map((space) => space.flushed(space.status().lastSequence, end)));
}

async function expectAlike(primary: Node, ...others: readonly Node[]): Promise<void> {
  for (const name of NAMES) {
    const content = await contentOf(primary.space(name));
    for (const other of others) expect(await contentOf(other.space(name))).toEqual(content);
  }
}

test.each([
  'none',
  'lz4',
] as const)('beside a replica that takes none, compressed: %s', async (compression) => {
  const b = await each.start('b', { listen: LISTEN });
  const c = await each.start('c', { listen: LISTEN });
  const { port } = b.address!;
  const replicas = [at('b', port), at('c', await withoutFeatures(c.address!.port, each))];
  const a = await each.start('a', { replicas, compression });
  const spaces = await Promise.all(NAMES.map((name) => a.openSpace(name)));
  await fill(spaces, 20);
  await everywhere(spaces, 2);
  await expectAlike(a, b, c);
  const { body } = await a.metrics();
  const [toB, toC] = ['b', 'c'].map((id) =>
    sampleOf(body, 'engram_replication_batches_sent_total', { replica_id: id, primary_id: 'a' }),
  );
  expect(toC).toBeGreaterThanOrEqual(SPACES * 20);
  expect(toB).toBeLessThan(toC! / 3);
  // What is read from segments after an absence, and what joins it meanwhile.
  await b.close();
  await fill(spaces, 60);
  const again = await each.start('b', { listen: { host: '127.0.0.1', port } });
  await fill(spaces, 20);
  await everywhere(spaces, 2);
  await expectAlike(a, again, c);
});

test('a space that is led in a later epoch brings older entries by themselves', async () => {
  const b = await each.start('b', { listen: LISTEN });
  const { port } = b.address!;
  const options = { listen: LISTEN, lead: true, replicas: [at('b', port)] };
  const a = await each.start('a', options);
  const spaces = await Promise.all(NAMES.map((name) => a.openSpace(name)));
  await fill(spaces, 10);
  await everywhere(spaces, 1);
  await b.close();
  await fill(spaces, 10);
  for (const name of NAMES.slice(0, 5)) await a.promote(name, { force: true });
  await fill(spaces, 10);
  const again = await each.start('b', { listen: { host: '127.0.0.1', port } });
  await everywhere(spaces, 1);
  await expectAlike(a, again);
});

async function client(b: Node): Promise<WireClient> {
  const made = new WireClient(b.address!.port);
  each.finally(() => made.socket.destroy());
  await made.hello('b', { features: FEATURE_MIXED });
  await made.follow('s0', 1);
  await made.follow('s1', 2);
  return made;
}

test('hostile runs: the connection ends, and what is not its own is not written', async () => {
  const b = await each.start('b', { listen: LISTEN, lead: true });
  const own = await b.openSpace('its own');
  await own.append(1, Buffer.from('mine'));
  const good = (first: number): MixedRun => ({ name: 's0', first, last: first });
  const node = { name: idWords(NODE_SPACE_ID), first: 1, last: 1 };
  const bad: [MixedRun, string][] = [
    [{ name: 'its own', first: 2, last: 2 }, 'ProtocolViolation'],
    [{ name: 'nowhere', first: 1, last: 1 }, 'ProtocolViolation'],
    [node, 'ProtocolViolation'],
    [{ name: 's1', first: 1, last: 1, epoch: 2 ** 31 }, 'EpochOutOfReach'],
    [{ name: 's1', first: 1, last: 1, epoch: 0 }, 'Fenced'],
  ];
  for (const [run, code] of bad) {
    const hand = await client(b);
    hand.socket.write(mixedFrame([run, good(1)]));
    expect(await hand.next('bye')).toMatchObject({ code });
    await hand.closed;
  }
  expect(await contentOf(own)).toHaveLength(1);
  expect(await contentOf(b.space('s0'))).toEqual([]);
  const hand = await client(b);
  hand.socket.write(mixedFrame([good(1), { name: 's1', first: 1, last: 3 }, good(2)]));
  hand.socket.write(batchFrame('s0', 3, 4));
  const flushed: number[] = [];
  while (flushed[1] !== 4 || flushed[2] !== 3) {
    const { rows } = await hand.next('acks');
    for (let at = 0; at < rows.length; at += 4) flushed[rows[at]!] = rows[at + 2]!;
  }
  expect(await contentOf(b.space('s0'))).toHaveLength(4);
  expect(await contentOf(b.space('s1'))).toHaveLength(3);
});
