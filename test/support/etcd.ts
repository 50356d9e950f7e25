/**
 * A real etcd of one member on loopback, with its data in a folder: started, killed, stopped. On
 * demand it wants TLS, a client's certificate, and a user who may see the keys of tests alone.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { randomInt } from 'node:crypto';
import fs from 'node:fs';
import net from 'node:net';
import path from 'node:path';
import { GrpcConnection } from '#src/main/lead/etcd/grpc.js';
import { EtcdLink } from '#src/main/lead/etcd/link.js';
import { EtcdLogin } from '#src/main/lead/etcd/login.js';
import { Fields, Message } from '#src/main/lead/etcd/messages.js';
import { Authority } from './certificates.js';
import { NEEDS, requireHere } from './needs.js';

/** Test files side by side have ports of their own: what one was given no other one listens on. */
const PORTS_EACH = 2_500;
const FIRST_PORT = 10_000 + (Number(process.env.VITEST_POOL_ID ?? 0) % 8) * PORTS_EACH;
const given = new Set<number>();

/**
 * A port that nobody listens on at this moment, below those that systems give to connections: one
 * of these may be taken by another test's connection before the node listens.
 */
export async function freePort(): Promise<number> {
  for (;;) {
    const port = randomInt(FIRST_PORT, FIRST_PORT + PORTS_EACH);
    if (given.has(port)) continue;
    given.add(port);
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

/** Who asks for nothing, and who asks for all there is. */
export const WAYS = [
  ['in clear', false],
  ['with TLS, certificates and a user', true],
] as const;

/** What the cases that two files run are to have; the file says. */
export const asked = { isSecured: false };

interface Files {
  readonly caFile: string;
  readonly certFile: string;
  readonly keyFile: string;
}

interface Secured {
  readonly server: Files;
  readonly client: Files;
  readonly passwordFile: string;
}

const USER = 'wal-nodes';

export class EtcdServer {
  readonly #folder: string;
  readonly place: EtcdPlace;
  readonly #secured: Secured | undefined;
  #child: ChildProcess | undefined;
  #output = '';

  private constructor(folder: string, place: EtcdPlace, secured: Secured | undefined) {
    this.#folder = folder;
    this.place = place;
    this.#secured = secured;
  }

  /** Starts one below `folder`. Throws where etcd is not installed, or does not come up. */
  static async start(folder: string, place?: EtcdPlace, isSecured = false): Promise<EtcdServer> {
    requireHere(NEEDS.etcd);
    const at = place ?? {
      host: '127.0.0.1',
      port: await freePort(),
      peerPort: await freePort(),
    };
    const secured = isSecured ? await filesIn(folder) : undefined;
    const server = new EtcdServer(path.join(folder, 'etcd'), at, secured);
    await server.start();
    if (secured) await server.#addUsers();
    return server;
  }

  get endpoint(): string {
    const scheme = this.#secured ? 'https' : 'http';
    return `${scheme}://${this.place.host}:${this.place.port}`;
  }

  /** The part of the option `coordinator` that says how to reach it. */
  get access(): {
    endpoints: string[];
    tls?: Files;
    user?: string;
    passwordFile?: string;
  } {
    const endpoints = [this.endpoint];
    if (!this.#secured) return { endpoints };
    const { client: tls, passwordFile } = this.#secured;
    return { endpoints, tls, user: USER, passwordFile };
  }

  /** Who may do what, from then on; nodes see what is below `wal` and `engram-wal`. */
  async #addUsers(): Promise<void> {
    const password = fs.readFileSync(this.#secured!.passwordFile, 'utf8').trim();
    for (const user of ['root', USER]) {
      await this.ask('Auth/UserAdd', new Message().bytes(1, user).bytes(2, password));
      await this.ask('Auth/RoleAdd', new Message().bytes(1, user));
      await this.ask('Auth/UserGrantRole', new Message().bytes(1, user).bytes(2, user));
    }
    for (const prefix of ['wal/', 'engram-wal/']) {
      const range = new Message().int(1, 2).bytes(2, prefix).bytes(3, prefix.replace('/', '0'));
      const granted = new Message().bytes(1, USER).bytes(2, range);
      await this.ask('Auth/RoleGrantPermission', granted);
    }
    await this.ask('Auth/AuthEnable', new Message());
  }

  /** A call that nodes do not make. @param token of `root` */
  async ask(path: string, request: Message, token?: string): Promise<Uint8Array> {
    const connection = new GrpcConnection(this.endpoint, this.#certificates());
    try {
      return await connection.call(`/etcdserverpb.${path}`, request.encoded(), token);
    } finally {
      connection.close();
    }
  }

  async askAsRoot(path: string, request: Message): Promise<Uint8Array> {
    if (!this.#secured) return await this.ask(path, request);
    const password = fs.readFileSync(this.#secured.passwordFile, 'utf8').trim();
    const login = new Message().bytes(1, 'root').bytes(2, password);
    const token = new Fields(await this.ask('Auth/Authenticate', login)).text(2);
    return await this.ask(path, request, token);
  }

  #certificates(): { ca?: Buffer; cert?: Buffer; key?: Buffer } {
    if (!this.#secured) return {};
    const { caFile, certFile, keyFile } = this.#secured.client;
    const [ca, cert, key] = [caFile, certFile, keyFile].map((file) => fs.readFileSync(file));
    return { ca: ca!, cert: cert!, key: key! };
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
    if (this.#secured) {
      const { caFile, certFile, keyFile } = this.#secured.server;
      args.push('--cert-file', certFile, '--key-file', keyFile);
      args.push('--client-cert-auth', '--trusted-ca-file', caFile);
      // The least: at its default each login costs a tenth of a second of processor.
      args.push('--bcrypt-cost', '4');
    }
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

  /** A link of the test's own, which may do everything; the caller closes it. */
  client(): EtcdLink {
    const passwordFile = this.#secured?.passwordFile;
    const login = passwordFile ? new EtcdLogin({ user: 'root', passwordFile }) : undefined;
    const hooks = { kept: () => undefined, expired: () => undefined, failed: () => undefined };
    return new EtcdLink(this.endpoint, 5_000, hooks, {
      certificates: this.#certificates(),
      login,
    });
  }
}

async function filesIn(folder: string): Promise<Secured> {
  const authority = await Authority.make(folder);
  const passwordFile = path.join(folder, 'password');
  fs.writeFileSync(passwordFile, 'not to be guessed\n', { mode: 0o600 });
  return {
    server: await authority.tlsOf('etcd', { hosts: ['127.0.0.1', 'localhost'] }),
    client: await authority.tlsOf('client'),
    passwordFile,
  };
}
