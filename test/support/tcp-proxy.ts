/**
 * A TCP proxy on loopback that misbehaves on request: what a network between two nodes can do.
 * It holds no more than the sockets' own buffers: a side that is not drained is not read.
 */
import net from 'node:net';

export type Way = 'forth' | 'back';

interface Link {
  readonly client: net.Socket;
  readonly server: net.Socket | undefined;
}

const RATE_TICK_MS = 20;

export class TcpProxy {
  readonly #targetPort: number;
  readonly #server: net.Server;
  readonly #links = new Set<Link>();
  /** Ways on which nothing is passed on; what is sent waits in the buffers. */
  readonly #stalled = new Set<Way>();
  #isBlackHole = false;
  #delayMs = 0;
  #bytesPerSecond = Number.POSITIVE_INFINITY;
  #corruptNext: Way | undefined;
  port = 0;

  constructor(targetPort: number) {
    this.#targetPort = targetPort;
    this.#server = net.createServer({ noDelay: true, pauseOnConnect: true }, (client) =>
      this.#accept(client),
    );
  }

  async listen(): Promise<number> {
    await new Promise<void>((resolve) => {
      this.#server.listen(this.port, '127.0.0.1', resolve);
    });
    this.port = (this.#server.address() as net.AddressInfo).port;
    return this.port;
  }

  #accept(client: net.Socket): void {
    client.on('error', () => undefined);
    if (this.#isBlackHole) {
      // Accepted, and nobody is there.
      this.#links.add({ client, server: undefined });
      return;
    }
    const server = net.connect({ host: '127.0.0.1', port: this.#targetPort, noDelay: true });
    server.on('error', () => undefined);
    const link = { client, server };
    this.#links.add(link);
    const end = (): void => {
      this.#links.delete(link);
      client.destroy();
      server.destroy();
    };
    client.on('close', end);
    server.on('close', end);
    server.on('connect', () => {
      void this.#pass(client, server, 'forth');
      void this.#pass(server, client, 'back');
    });
  }

  async #pass(from: net.Socket, to: net.Socket, way: Way): Promise<void> {
    let budget = 0;
    while (!from.destroyed && !to.destroyed) {
      const isSlow = Number.isFinite(this.#bytesPerSecond);
      if (isSlow) {
        await sleep(RATE_TICK_MS);
        budget += (this.#bytesPerSecond * RATE_TICK_MS) / 1_000;
        if (budget < 1) continue;
      }
      if (this.#stalled.has(way)) {
        await sleep(RATE_TICK_MS);
        continue;
      }
      const most = isSlow ? Math.min(Math.floor(budget), from.readableLength) : undefined;
      const chunk = (most === 0 ? null : from.read(most)) as Buffer | null;
      if (!chunk) {
        if (isSlow) budget = Math.min(budget, this.#bytesPerSecond / 10);
        if (from.readableEnded) break;
        await readable(from);
        continue;
      }
      budget -= chunk.length;
      if (this.#delayMs > 0) await sleep(this.#delayMs);
      if (this.#corruptNext === way) {
        this.#corruptNext = undefined;
        chunk[chunk.length >> 1]! ^= 0x10;
      }
      if (!to.write(chunk)) await drained(to);
    }
    to.end();
  }

  /** Ends every connection. */
  cut(): void {
    for (const { client, server } of this.#links) {
      client.resetAndDestroy();
      server?.resetAndDestroy();
    }
    this.#links.clear();
  }

  /** Nothing passes that way any more, and nobody is told. */
  stall(...ways: Way[]): void {
    for (const way of ways) this.#stalled.add(way);
  }

  flow(): void {
    this.#stalled.clear();
  }

  /** New connections are refused until `listen`; those that there are, go on. */
  refuse(): void {
    this.#server.close();
  }

  /** New connections are taken and lead nowhere; those that there are, are cut. */
  blackHole(isOne: boolean): void {
    this.#isBlackHole = isOne;
    this.cut();
  }

  delay(ms: number): void {
    this.#delayMs = ms;
  }

  /** Both ways, each; Infinity: as fast as it can. */
  limit(bytesPerSecond: number): void {
    this.#bytesPerSecond = bytesPerSecond;
  }

  /** One byte of what comes next that way is changed. */
  corrupt(way: Way): void {
    this.#corruptNext = way;
  }

  get isListening(): boolean {
    return this.#server.listening;
  }

  async close(): Promise<void> {
    this.cut();
    await new Promise((resolve) => this.#server.close(resolve));
  }
}

function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

/** There is something to read, or the socket has ended. */
function readable(socket: net.Socket): Promise<void> {
  return once(socket, 'readable', 'end', 'close');
}

function drained(socket: net.Socket): Promise<void> {
  return once(socket, 'drain', 'close');
}

function once(socket: net.Socket, ...events: string[]): Promise<void> {
  return new Promise((resolve) => {
    const done = (): void => {
      for (const event of events) socket.off(event, done);
      resolve();
    };
    for (const event of events) socket.once(event, done);
  });
}
