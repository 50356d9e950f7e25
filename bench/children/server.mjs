/**
 * What a host of ours that is a server would be: batches come over a socket or over HTTP, and are
 * answered when both replicas have flushed them.
 */
import { once } from 'node:events';
import http from 'node:http';
import net from 'node:net';
import { openNode } from '#src/main/index.js';
import { whenStreaming } from './child.mjs';

const TYPE = 1;

const { node: options } = JSON.parse(process.argv[2]);
const node = await openNode(options);
const space = await node.openSpace('bench');
const ack = { replicas: options.replicas.length, timeoutMs: 60_000 };
await whenStreaming(space, ack.replicas);

function payloadsOf(body) {
  const payloads = [];
  for (let at = 0; at < body.length; ) {
    const from = at + 4;
    const to = from + body.readUInt32LE(at);
    payloads.push(body.subarray(from, to));
    at = to;
  }
  return payloads;
}

const overSocket = net.createServer({ noDelay: true }, (socket) => {
  let heard = [];
  let bytes = 0;
  const answer = (sequence) => {
    const reply = Buffer.alloc(8);
    reply.writeBigUInt64LE(BigInt(sequence));
    socket.write(reply);
  };
  socket.on('error', () => undefined);
  socket.on('data', (chunk) => {
    heard.push(chunk);
    bytes += chunk.length;
    while (bytes >= 4) {
      const all = heard.length === 1 ? heard[0] : heard[0].length < 4 ? Buffer.concat(heard) : null;
      const size = (all ?? heard[0]).readUInt32LE(0) + 4;
      if (bytes < size) return;
      const whole = all ?? Buffer.concat(heard);
      heard = whole.length > size ? [whole.subarray(size)] : [];
      bytes -= size;
      space.appendBatch(TYPE, payloadsOf(whole.subarray(4, size)), { ack }).then(
        ({ lastSequence }) => answer(lastSequence),
        () => answer(0),
      );
    }
  });
});

const overHttp = http.createServer((request, response) => {
  const chunks = [];
  request.on('data', (chunk) => chunks.push(chunk));
  request.on('end', () => {
    const body = chunks.length === 1 ? chunks[0] : Buffer.concat(chunks);
    space.appendBatch(TYPE, payloadsOf(body), { ack }).then(
      ({ lastSequence }) => response.end(String(lastSequence)),
      (error) => response.writeHead(503).end(error.code),
    );
  });
});
for (const server of [overSocket, overHttp]) {
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
}
process.send({
  kind: 'listening',
  port: overSocket.address().port,
  httpPort: overHttp.address().port,
});
process.on('message', () => process.exit(0));
process.on('disconnect', () => process.exit(0));
