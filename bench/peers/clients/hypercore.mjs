/** A core in this process, as its users have it; an append counts once both replicas have it. */
import { once } from 'node:events';
import net from 'node:net';
import Hypercore from 'hypercore';

export async function connect({ dataDir, replicas }, { payloads, inFlight }) {
  const core = new Hypercore(dataDir);
  await core.ready();
  const has = replicas.map(() => 0);
  let waits = [];
  const moved = () => {
    const least = Math.min(...has);
    const ready = waits.filter(({ length }) => length <= least);
    waits = waits.filter(({ length }) => length > least);
    for (const { resolve } of ready) resolve();
  };
  const sockets = [];
  for (const [n, { port, tellPort }] of replicas.entries()) {
    const tell = net.connect(tellPort, '127.0.0.1');
    tell.write(core.key);
    tell.on('data', (chunk) => {
      const whole = chunk.length - (chunk.length % 8);
      if (whole === 0) return;
      has[n] = Number(chunk.readBigUInt64LE(whole - 8));
      moved();
    });
    await once(tell, 'connect');
    const socket = net.connect({ port, host: '127.0.0.1', noDelay: true });
    await once(socket, 'connect');
    const stream = core.replicate(true);
    stream.on('error', () => undefined);
    socket.on('error', () => undefined);
    socket.pipe(stream).pipe(socket);
    sockets.push(tell, socket);
  }
  const blocks = payloads.map((payload) => Buffer.from(payload));
  return {
    append: async () => {
      const { length } = await core.append(blocks);
      if (Math.min(...has) >= length) return;
      await new Promise((resolve) => waits.push({ length, resolve }));
    },
    inFlight,
    close: async () => {
      for (const socket of sockets) socket.destroy();
      await core.close();
    },
  };
}
