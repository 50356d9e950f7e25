/** Frames that are not whole take no more memory than they may, and give it back. */
import { expect, test } from 'vitest';
import { FRAME_HEADER_BYTES } from '#src/shared/limits.js';
import { writeFrameHeader } from '#src/shared/wire/frame.js';
import { FRAME_KINDS } from '#src/shared/wire/protocol.js';
import { at, contentOf, EachTest, heard, until } from '../support/cluster.js';
import { batchFrame, WireClient } from '../support/wire-client.js';

const MiB = 1024 * 1024;
const LISTEN = { host: '127.0.0.1', port: 0 };
const CONNECTIONS = 150;

const world = new EachTest();

/** The head of a frame of 2 MiB, and so many bytes of it. */
function half(bytes: number): Buffer {
  const frame = Buffer.alloc(FRAME_HEADER_BYTES + bytes);
  writeFrameHeader(
    new DataView(frame.buffer, frame.byteOffset),
    0,
    FRAME_KINDS.batches,
    2 * MiB,
    0,
  );
  return frame;
}

function buffered(): number {
  globalThis.gc?.();
  return process.memoryUsage().arrayBuffers;
}

async function besieged(bytes: number) {
  const b = await world.start('b', { listen: LISTEN, memoryBudgetBytes: 16 * MiB });
  const before = buffered();
  const clients = Array.from({ length: CONNECTIONS }, () => new WireClient(b.address!.port));
  for (const client of clients) world.finally(() => client.socket.destroy());
  await Promise.all(clients.map((client, n) => client.hello('b', { nodeId: `x${n}` })));
  const piece = half(bytes);
  for (const { socket } of clients) socket.write(piece);
  return { b, clients, before };
}

test('FAULT-41 what a frame says that it will be costs nothing: what has come does', async () => {
  const { b, before } = await besieged(100);
  await until('all have come', () => b.status().primaries.length > 0);
  await new Promise((resolve) => setTimeout(resolve, 500));
  expect(buffered() - before).toBeLessThan(8 * MiB);
  const a = await world.start('a', { replicas: [at('b', b.address!.port)] });
  const space = await a.openSpace('s');
  await space.append(1, Buffer.from('x'), { ack: { replicas: 1, timeoutMs: 10_000 } });
});

test('FAULT-47 half frames stay within their part of the budget, and others get room', async () => {
  const { b, clients, before } = await besieged(1.5 * MiB);
  const told = heard(b, 'connection-refused');
  const a = await world.start('a', { replicas: [at('b', b.address!.port)] });
  const space = await a.openSpace('s');
  // Each longer than what a stream has for itself.
  const payload = Buffer.alloc(10_000, 1);
  for (let n = 0; n < 20; n++) {
    await space.append(1, payload, { ack: { replicas: 1, timeoutMs: 20_000 } });
  }
  // 150 x 1.5 MiB were sent; what they hold, and what the test itself still holds of it:
  expect(buffered() - before).toBeLessThan(40 * MiB);
  await until('it is told', () => told.some(({ reason }) => reason === 'memory'));
  for (const client of clients) client.socket.destroy();
  await until('they are gone', () => b.status().primaries.filter((p) => p.isConnected).length <= 1);
  expect(await contentOf(b.space('s'))).toEqual(await contentOf(space));
});

test('many links that send long frames at once share the room, and all get through', async () => {
  const b = await world.start('b', { listen: LISTEN, memoryBudgetBytes: 16 * MiB });
  const clients = Array.from({ length: 40 }, () => new WireClient(b.address!.port));
  await Promise.all(
    clients.map(async (client, n) => {
      world.finally(() => client.socket.destroy());
      await client.hello('b', { nodeId: `x${n}` });
      await client.follow(`s${n}`);
    }),
  );
  for (let first = 1; first <= 3_001; first += 1_000) {
    for (const [n, client] of clients.entries()) {
      client.socket.write(batchFrame(`s${n}`, first, first + 999));
    }
  }
  await until('all is there', () =>
    clients.every((_, n) => b.space(`s${n}`).status().durableSequence === 4_000),
  );
  expect(b.status().refused).toEqual([]);
});
