/** A real etcd of one member on loopback, with its data in a folder: started, killed, stopped. */
import { type ChildProcess, spawn } from 'node:child_process';
import { randomInt } from 'node:crypto';
import net from 'node:net';
import path from 'node:path';
import { Etcd3 } from 'etcd3';
import { NEEDS, requireHere } from './needs.js';

/**
 * A port that nobody listens on at this moment, below those that systems give to connections: one
 * of these may be taken by another test's connection before the node listens.
 */
export async function freePort(): Promise<number> {
  for (;;) {
    const port = randomInt(10_000, 32_000);
    const server = net.createServer();
    const isFree = await new Promise<boolean>((resolve) => {
      server.once('error', () => resolve(false));
      server.listen(port, '127.0.0.1', () => resolve(true));
    });
    if (!isFree) continue;
    await new Promise((resolve) => server.close(resolve));
    return port;
  }
}

export interface EtcdPlace {
  readonly host: string;
  readonly port: number;
  readonly peerPort: number;
  /** In front of the command: how to get into a network namespace. */
  readonly inside?: readonly string[];
}

export class EtcdServer {
  readonly #folder: string;
  readonly place: EtcdPlace;
  #child: ChildProcess | undefined;
  #output = '';

  private constructor(folder: string, place: EtcdPlace) {
    this.#folder = folder;
    this.place = place;
  }

  /** Starts one below `folder`. Throws where etcd is not installed, or does not come up. */
  static async start(folder: string, place?: EtcdPlace): Promise<EtcdServer> {
    requireHere(NEEDS.etcd);
    const at = place ?? {
      host: '127.0.0.1',
      port: await freePort(),
      peerPort: await freePort(),
    };
    const server = new EtcdServer(path.join(folder, 'etcd'), at);
    await server.start();
    return server;
  }

  get endpoint(): string {
    return `http://${this.place.host}:${this.place.port}`;
  }

  /** The same one again, with what it had. */
  async start(): Promise<void> {
    const peers = `http://${this.place.host}:${this.place.peerPort}`;
    const args = [
      ...['--name', 'test', '--data-dir', this.#folder, '--logger', 'zap'],
      ...['--listen-client-urls', this.endpoint, '--advertise-client-urls', this.endpoint],
      ...['--listen-peer-urls', peers, '--initial-advertise-peer-urls', peers],
      ...['--initial-cluster', `test=${peers}`],
    ];
    const [command, ...rest] = [...(this.place.inside ?? []), 'etcd', ...args];
    const child = spawn(command!, rest, { stdio: ['ignore', 'pipe', 'pipe'] });
    this.#child = child;
    this.#output = '';
    const ready = new Promise<void>((resolve, reject) => {
      const read = (chunk: Buffer): void => {
        this.#output = (this.#output + chunk).slice(-20_000);
        if (/ready to serve client requests|serving (insecure )?client/i.test(this.#output))
          resolve();
      };
      child.stdout.on('data', read);
      child.stderr.on('data', read);
      child.on('error', reject);
      child.on('exit', () => reject(new Error(`etcd has ended: ${this.#output.slice(-2_000)}`)));
    });
    await ready;
  }

  pause(): void {
    this.#child?.kill('SIGSTOP');
  }

  resume(): void {
    this.#child?.kill('SIGCONT');
  }

  /** kill -9, and gone when it resolves. */
  async kill(): Promise<void> {
    const child = this.#child;
    this.#child = undefined;
    if (!child || child.exitCode !== null || child.signalCode !== null) return;
    const gone = new Promise((resolve) => child.once('exit', resolve));
    child.kill('SIGKILL');
    await gone;
  }

  /** A client of the test's own; the caller closes it. */
  client(): Etcd3 {
    return new Etcd3({ hosts: [this.endpoint] });
  }
}
