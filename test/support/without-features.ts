/** Nodes of older releases, as the others see them. */
import net from 'node:net';
import { FrameAssembler } from '#src/shared/wire/frame.js';
import { decodeFrame, encodeFrame } from '#src/shared/wire/protocol.js';
import type { EachTest } from './cluster.js';

/** Before a node: it seems to be of a release without any feature. @returns the port to dial */
export async function withoutFeatures(targetPort: number, each: EachTest): Promise<number> {
  const server = net.createServer((client) => {
    const target = net.connect({ host: '127.0.0.1', port: targetPort });
    for (const socket of [client, target]) socket.on('error', () => undefined);
    client.on('close', () => target.destroy());
    target.on('close', () => client.destroy());
    target.pipe(client);
    const assembler = new FrameAssembler(1_024);
    client.once('data', (chunk: Buffer) => {
      assembler.feed(chunk, (kind, body) => {
        const frame = decodeFrame(kind, body);
        if (frame.kind !== 'hello') throw new Error(`a ${frame.kind} comes first`);
        target.write(encodeFrame({ kind: 'hello', hello: { ...frame.hello, features: 0 } }));
        return true;
      });
      client.pipe(target);
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  each.finally(() => new Promise((resolve) => server.close(resolve)));
  return (server.address() as net.AddressInfo).port;
}
