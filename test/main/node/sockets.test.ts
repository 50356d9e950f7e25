/** The sockets of a node: what is read of all plain ones goes through one buffer. */
import { once } from 'node:events';
import net from 'node:net';
import { expect, onTestFinished, test } from 'vitest';
import { nodePlatform } from '#src/main/node/machine.js';
import type { ByteSocket } from '#src/shared/wire/byte-socket.js';
import { until } from '../../support/cluster.js';

const PLAIN = { now: { keys: [], tls: undefined } };

async function listening(accepted: (socket: ByteSocket) => void) {
  const listener = nodePlatform.listener(accepted, 10_000, PLAIN as never);
  const { port } = await listener.listen({ host: '127.0.0.1', port: 0 });
  return { listener, port };
}

function dialled(port: number): net.Socket {
  const socket = net.connect({ host: '127.0.0.1', port, allowHalfOpen: true });
  onTestFinished(() => void socket.destroy());
  return socket;
}

test('connections are read into one buffer, and each hears what is its own', async () => {
  const memory = new Set<ArrayBufferLike>();
  const heard: string[] = [];
  const { listener, port } = await listening((socket) => {
    const at = heard.push('') - 1;
    socket.on('data', (chunk) => {
      memory.add(chunk.buffer);
      heard[at] += Buffer.from(chunk).toString();
    });
    socket.on('end', () => socket.end());
  });
  for (const word of ['one', 'other']) {
    const socket = dialled(port);
    socket.end(word.repeat(1_000));
    socket.resume();
    await once(socket, 'close');
  }
  await listener.close();
  expect(heard).toEqual(['one'.repeat(1_000), 'other'.repeat(1_000)]);
  expect(memory.size).toBe(1);
});

test('one that was accepted pauses, goes on, answers after the other side ends', async () => {
  let accepted: ByteSocket | undefined;
  let bytes = 0;
  let hasEnded = false;
  const { listener, port } = await listening((socket) => {
    accepted = socket;
    socket.on('data', (chunk) => {
      bytes += chunk.length;
      socket.pause();
    });
    socket.on('end', () => {
      hasEnded = true;
    });
  });
  const socket = dialled(port);
  socket.write(new Uint8Array(600_000));
  await until('the first chunk has come', () => bytes > 0);
  expect(accepted!.remoteAddress).toBe('127.0.0.1');
  await new Promise((resolve) => setTimeout(resolve, 50));
  // One read, not more: it was paused in the middle of what had arrived.
  expect(bytes).toBeLessThan(600_000);
  socket.end(new Uint8Array(7));
  while (!hasEnded) {
    accepted!.resume();
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
  expect(bytes).toBe(600_007);
  let isClosed = false;
  const closed = listener.close().then(() => {
    isClosed = true;
  });
  await new Promise((resolve) => setTimeout(resolve, 20));
  // A connection is open still, and the listener knows of it.
  expect(isClosed).toBe(false);
  accepted!.write(Buffer.from('late'));
  accepted!.destroySoon();
  const [answer] = (await once(socket, 'data')) as [Buffer];
  expect(answer.toString()).toBe('late');
  await closed;
});

test('one that dials is read into the same buffer', async () => {
  const { listener, port } = await listening((socket) => {
    socket.write(Buffer.from('hello'));
    socket.on('data', () => socket.end());
    socket.on('end', () => socket.end());
  });
  const memory = new Set<ArrayBufferLike>();
  for (let n = 0; n < 2; n++) {
    const socket = nodePlatform.connect({ host: '127.0.0.1', port }, 10_000, undefined);
    const closed = new Promise<void>((resolve) => socket.on('close', resolve));
    socket.on('data', (chunk) => {
      memory.add(chunk.buffer);
      socket.write(Buffer.from('bye'));
      expect(Buffer.from(chunk).toString()).toBe('hello');
    });
    await closed;
  }
  await listener.close();
  expect(memory.size).toBe(1);
});
