/** Compression between real nodes: agreed on, mixed with nodes that have none, and abused. */
import { randomBytes } from 'node:crypto';
import { expect, test } from 'vitest';
import type { Node, NodeOptions, Space } from '#src/main/index.js';
import { FRAME_HEADER_BYTES } from '#src/shared/limits.js';
import { idOf } from '#src/shared/names.js';
import { encodeBatchHeader } from '#src/shared/wire/batch.js';
import { codecOf, featureOf } from '#src/shared/wire/compression.js';
import { writeFrameHeader } from '#src/shared/wire/frame.js';
import { ACK_FLUSHED, FRAME_KINDS } from '#src/shared/wire/protocol.js';
import { entriesOf } from '../support/batches.js';
import { at, contentOf, EachTest, until } from '../support/cluster.js';
import { PRIMARY, WireClient } from '../support/wire-client.js';
import { withoutFeatures } from '../support/without-features.js';

const LISTEN = { host: '127.0.0.1', port: 0 };

const each = new EachTest();
const start = each.start.bind(each);

/** Text, and now and then bytes that no codec makes smaller. */
async function fill(space: Space, entries: number): Promise<void> {
  for (let n = 0; n < entries; n += 20) {
    const payloads = Array.from({ length: 20 }, (_, i) =>
      i === 7 ? randomBytes(500) : Buffer.alloc(200 + n, `line ${n + i} of a log that repeats `),
    );
    await space.appendBatch(1, payloads);
  }
}

test.each([
  'lz4',
  'zstd',
] as const)('%s: less goes over the wire, and the same is there', async (compression) => {
  const b = await start('b', { listen: LISTEN });
  const { port } = b.address!;
  const a = await start('a', { replicas: [at('b', port)], compression });
  const space = await a.openSpace('s');
  await fill(space, 400);
  const last = space.status().lastSequence;
  await space.flushed(last, { replicas: 1, timeoutMs: 20_000 });
  await until('it is told', () => a.status().replicas[0]!.traffic.sentBytes > 0);
  await until('of all', () => a.status().replicas[0]!.traffic.rawBytes > 150_000);
  const { traffic } = a.status().replicas[0]!;
  expect(traffic.compression).toBe(compression);
  expect(traffic.sentBytes).toBeLessThan(traffic.rawBytes / 2);
  expect(await contentOf(b.space('s'))).toEqual(await contentOf(space));
  // What is read from segments after an absence is compressed as well.
  await b.close();
  await fill(space, 2_000);
  const again = await start('b', { listen: { host: '127.0.0.1', port } });
  await space.flushed(space.status().lastSequence, { replicas: 1, timeoutMs: 20_000 });
  expect(await contentOf(again.space('s'))).toEqual(await contentOf(space));
});

test('a replica that cannot undo it gets entries as they are, beside one that can', async () => {
  const b = await start('b', { listen: LISTEN });
  const c = await start('c', { listen: LISTEN });
  const replicas = [
    at('b', b.address!.port),
    at('c', await withoutFeatures(c.address!.port, each)),
  ];
  const a = await start('a', { replicas, compression: 'lz4' });
  const space = await a.openSpace('s');
  await fill(space, 400);
  await space.flushed(space.status().lastSequence, { replicas: 2, timeoutMs: 20_000 });
  const traffic = (id: string) => a.status().replicas.find((r) => r.replicaId === id)!.traffic;
  await until('both are told', () => Math.min(traffic('b').rawBytes, traffic('c').rawBytes) > 1e5);
  expect(traffic('b').compression).toBe('lz4');
  expect(traffic('b').sentBytes).toBeLessThan(traffic('b').rawBytes);
  expect(traffic('c')).toMatchObject({ compression: 'none' });
  expect(traffic('c').sentBytes).toBe(traffic('c').rawBytes);
  const content = await contentOf(space);
  expect(await contentOf(b.space('s'))).toEqual(content);
  expect(await contentOf(c.space('s'))).toEqual(content);
});

test('without the option nothing is compressed, whatever the replica can', async () => {
  const b = await start('b', { listen: LISTEN, compression: 'lz4' });
  const a = await start('a', { replicas: [at('b', b.address!.port)] });
  const space = await a.openSpace('s');
  await fill(space, 100);
  await space.flushed(100, { replicas: 1, timeoutMs: 20_000 });
  await until('it is told', () => a.status().replicas[0]!.traffic.sentBytes > 10_000);
  const { compression, rawBytes, sentBytes } = a.status().replicas[0]!.traffic;
  expect([compression, sentBytes]).toEqual(['none', rawBytes]);
});

test('an option that nobody has is named', async () => {
  const open = (compression: unknown): Promise<Node> =>
    start('a', { compression } as unknown as NodeOptions);
  await expect(open('gzip')).rejects.toMatchObject({ code: 'Configuration' });
  await expect(open('gzip')).rejects.toThrow(/compression/);
});

/** One batch of good entries, compressed and then said to be `totalSize` bytes. */
function packed(
  totalSize: (real: number) => number,
  first = 1,
  payloads: readonly Uint8Array[] = Array.from({ length: 40 }, () => Buffer.alloc(50, 'x')),
): Uint8Array {
  const entries = entriesOf(payloads, first, 1, idOf('s'));
  const body = codecOf('lz4')!.compress(entries);
  const batch = new Uint8Array(4 + 64 + body.length);
  const view = new DataView(batch.buffer);
  batch.set(body, 68);
  view.setUint32(0, 64 + body.length, true);
  const size = totalSize(entries.length);
  // The library's own word says the same, so that nothing but the bytes contradict.
  view.setUint32(68, size, true);
  const facts = {
    primaryNodeId: idOf(PRIMARY),
    spaceId: idOf('s'),
    startSequence: first,
    epoch: 1,
  };
  const header = { ...facts, entryCount: payloads.length, totalSize: size };
  encodeBatchHeader(batch, view, 4, header, { compression: 2, sentSize: body.length });
  return batch;
}

function frameOf(...batches: readonly Uint8Array[]): Buffer {
  const head = new Uint8Array(FRAME_HEADER_BYTES);
  const body = Buffer.concat(batches);
  writeFrameHeader(new DataView(head.buffer), 0, FRAME_KINDS.batches, body.length, 0);
  return Buffer.concat([head, body]);
}

async function connected(b: Node, features: number): Promise<WireClient> {
  const client = new WireClient(b.address!.port);
  each.finally(() => client.socket.destroy());
  await client.hello('b', { features });
  await client.follow('s');
  return client;
}

test('a primary that lies about sizes is sent away, and nothing of it is kept', async () => {
  const b = await start('b', { listen: LISTEN });
  const features = featureOf('lz4');
  const lies: [string, Uint8Array, number, string][] = [
    ['more than it becomes', packed((real) => real + 1), features, 'InvalidBatchSize'],
    ['less than it becomes', packed((real) => real - 1), features, 'InvalidBatchSize'],
    ['beyond the cap', packed(() => 2 ** 31), features, 'InvalidBatchSize'],
    ['nobody agreed on it', packed((real) => real), 0, 'UnsupportedVersion'],
  ];
  const before = process.memoryUsage.rss();
  for (const [, batch, agreed, code] of lies) {
    const client = await connected(b, agreed);
    client.socket.write(frameOf(batch));
    expect(await client.next('bye')).toMatchObject({ code });
    await client.closed;
  }
  expect(process.memoryUsage.rss() - before).toBeLessThan(64 * 1024 * 1024);
  expect(await contentOf(b.space('s'))).toEqual([]);
  const honest = await connected(b, features);
  honest.socket.write(frameOf(packed((real) => real)));
  expect((await honest.next('acks')).rows[ACK_FLUSHED]).toBe(40);
  expect(await contentOf(b.space('s'))).toHaveLength(40);
});

test('batches that together become more than a frame may hold are refused', async () => {
  const b = await start('b', { listen: LISTEN });
  const client = await connected(b, featureOf('lz4'));
  const payloads = Array.from({ length: 1_000 }, () => Buffer.alloc(900, 'y'));
  const honest = (real: number): number => real;
  const batches = [1, 1_001, 2_001].map((first) => packed(honest, first, payloads));
  const frame = frameOf(...batches);
  expect(frame.length).toBeLessThan(200_000);
  client.socket.write(frame);
  expect(await client.next('bye')).toMatchObject({ code: 'InvalidBatchSize' });
  await client.closed;
  // Those before were good, and have waited for room in the replica's small memory.
  await until('they are durable', () => b.space('s').status().durableSequence >= 2_000);
});
