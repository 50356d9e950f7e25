/** A proxy on loopback that counts the frames which a dialler sends, by kind. */
import net from 'node:net';
import { FrameAssembler } from '#src/shared/wire/frame.js';
import { decodeFrame, type Frame } from '#src/shared/wire/protocol.js';

const FRAME_BYTES = 8 * 1024 * 1024;

export class Ear {
  readonly #server: net.Server;
  readonly #sockets = new Set<net.Socket>();
  readonly #counts = new Map<string, number>();
  port = 0;

  /** @param targetPort where the listener is, on this machine */
  constructor(targetPort: number) {
    this.#server = net.createServer({ noDelay: true }, (client) => {
      const server = net.connect({ host: '127.0.0.1', port: targetPort, noDelay: true });
      const frames = new FrameAssembler(FRAME_BYTES);
      for (const socket of [client, server]) {
        this.#sockets.add(socket);
        socket.on('error', () => undefined);
        socket.on('close', () => {
          this.#sockets.delete(socket);
          client.destroy();
          server.destroy();
        });
      }
      client.on('data', (chunk) => {
        frames.feed(chunk, (kind, body) => this.#count(decodeFrame(kind, body)));
        server.write(chunk);
      });
      server.pipe(client);
    });
  }

  #count({ kind }: Frame): true {
    this.#counts.set(kind, this.of(kind) + 1);
    return true;
  }

  /** So many frames of this kind have gone by. */
  of(kind: Frame['kind']): number {
    return this.#counts.get(kind) ?? 0;
  }

  async listen(): Promise<void> {
    await new Promise<void>((resolve) => this.#server.listen(0, '127.0.0.1', resolve));
    this.port = (this.#server.address() as net.AddressInfo).port;
  }

  async close(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    await new Promise((resolve) => this.#server.close(resolve));
  }
}
