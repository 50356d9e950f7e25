/**
 * An etcd in memory, behind the simulated network, and the link by which a node's real coordinator
 * reaches it. The fault model: connections to it are what the network makes of them, so a call may
 * be carried out and its answer be lost. It keeps what it has written over a restart, and gives
 * every lease its whole life anew then, as etcd does when a leader is elected.
 */
import type { Change, LinkHooks, MakeLink, Pair, Txn, Write } from '#src/main/lead/etcd/link.js';
import { type Moment, twoClocks } from '#src/main/runtime/two-clocks.js';
import { Owner, type VirtualClock } from './clock.js';
import type { Machine, SimNetwork, SimSocket } from './network.js';

export const ETCD = 'etcd';
const PORT = 2_379;
export const ETCD_ENDPOINT = `http://127.0.0.1:${PORT}`;
/** How often it looks for leases that have run out. */
const SWEEP_MS = 100;

/** What a client asks; by name and values, as the link's own calls. */
interface Request {
  readonly id: number;
  readonly call: 'list' | 'get' | 'write' | 'grant' | 'revoke' | 'keep' | 'watch';
  readonly values: readonly unknown[];
}

type Reply =
  | { readonly id: number; readonly value: unknown }
  | { readonly id: number; readonly error: string }
  | { readonly keptMs: number }
  | { readonly changes: readonly Change[] };

interface Client {
  readonly socket: SimSocket;
  /** Of what it watches. */
  prefix: string | undefined;
}

export class SimEtcd {
  readonly #clock: VirtualClock;
  readonly #network: SimNetwork;
  readonly #machine: Machine = { name: ETCD, isUp: true };
  #owner = new Owner(ETCD);
  #clients = new Set<Client>();
  readonly #keys = new Map<string, Pair & { readonly lease: string | undefined }>();
  readonly #leases = new Map<string, { readonly ttlMs: number; untilMs: number }>();
  readonly #history: Change[] = [];
  #revision = 1;
  #lastLease = 0;

  constructor(clock: VirtualClock, network: SimNetwork) {
    this.#clock = clock;
    this.#network = network;
  }

  start(): void {
    const owner = new Owner(ETCD);
    this.#owner = owner;
    this.#clients = new Set();
    for (const lease of this.#leases.values()) lease.untilMs = this.#clock.nowMs + lease.ttlMs;
    const listener = this.#network.listener(this.#machine, owner, (socket) =>
      this.#accept(socket as SimSocket),
    );
    void listener.listen({ host: '127.0.0.1', port: PORT });
    this.#clock.after(SWEEP_MS, owner, () => this.#sweep(), SWEEP_MS);
  }

  get isUp(): boolean {
    return !this.#owner.isDead;
  }

  /** Its process dies; `start` again. */
  kill(): void {
    this.#owner.kill();
    this.#network.processDied(this.#machine);
  }

  #accept(socket: SimSocket): void {
    const client: Client = { socket, prefix: undefined };
    this.#clients.add(client);
    readLines(socket, (line) => this.#serve(client, JSON.parse(line) as Request));
    socket.on('close', () => this.#clients.delete(client));
    socket.on('error', () => undefined);
  }

  #serve(client: Client, { id, call, values }: Request): void {
    const answer = (reply: Reply): void => void writeLine(client.socket, reply);
    switch (call) {
      case 'list': {
        const [prefix] = values as [string];
        const pairs = [...this.#keys.values()].filter(({ key }) => key.startsWith(prefix));
        answer({ id, value: { pairs, revision: this.#revision } });
        return;
      }
      case 'get':
        answer({ id, value: this.#keys.get(values[0] as string) });
        return;
      case 'write': {
        const [txns] = values as [Txn[]];
        const isLeased = txns.every(({ writes }) =>
          writes.every(({ lease }) => lease === undefined || this.#leases.has(lease)),
        );
        if (isLeased) answer({ id, value: txns.map((txn) => this.#write(txn)) });
        else answer({ id, error: 'requested lease not found' });
        return;
      }
      case 'grant': {
        const [ttlMs] = values as [number];
        const lease = `${++this.#lastLease}`;
        this.#leases.set(lease, { ttlMs, untilMs: this.#clock.nowMs + ttlMs });
        answer({ id, value: { lease, ttlMs } });
        return;
      }
      case 'revoke':
        this.#end(values[0] as string);
        answer({ id, value: true });
        return;
      case 'keep': {
        const lease = this.#leases.get(values[0] as string);
        if (lease) lease.untilMs = this.#clock.nowMs + lease.ttlMs;
        answer({ keptMs: lease?.ttlMs ?? 0 });
        return;
      }
      case 'watch': {
        const [prefix, from] = values as [string, number];
        client.prefix = prefix;
        answer({ id, value: true });
        for (const change of this.#history) {
          if (change.revision >= from && change.key.startsWith(prefix)) {
            answer({ changes: [change] });
          }
        }
      }
    }
  }

  #write({ conditions, writes }: Txn): number | undefined {
    const holds = conditions.every((condition) => {
      const pair = this.#keys.get(condition.key);
      if ('exists' in condition) return condition.exists === (pair !== undefined);
      return condition.revision === (pair?.revision ?? 0);
    });
    if (!holds) return undefined;
    this.#change(writes);
    return this.#revision;
  }

  #change(writes: readonly Write[]): void {
    const revision = ++this.#revision;
    const changes = writes.map(({ key, value }) => ({ key, value, revision }));
    for (const { key, value, lease } of writes) {
      if (value === undefined) this.#keys.delete(key);
      else this.#keys.set(key, { key, value, revision, lease });
    }
    this.#history.push(...changes);
    for (const { prefix, socket } of this.#clients) {
      if (prefix === undefined) continue;
      writeLine(socket, { changes: changes.filter(({ key }) => key.startsWith(prefix)) });
    }
  }

  #sweep(): void {
    for (const [lease, { untilMs }] of this.#leases) {
      if (untilMs <= this.#clock.nowMs) this.#end(lease);
    }
  }

  /** A lease is over, and every key that goes with it. */
  #end(lease: string): void {
    this.#leases.delete(lease);
    const gone = [...this.#keys.values()].filter((pair) => pair.lease === lease);
    if (gone.length > 0) this.#change(gone.map(({ key }) => ({ key, value: undefined })));
  }

  /** How the process `owner` on a machine reaches it. */
  linkFrom(machine: Machine, owner: Owner): MakeLink {
    return async (_, timeoutMs, hooks) =>
      new SimLink(this.#network.connect(machine, owner, PORT), timeoutMs, hooks);
  }
}

interface Asked {
  resolve(value: unknown): void;
  reject(error: Error): void;
  readonly timer: NodeJS.Timeout;
}

/** As EtcdLink, see there. */
class SimLink {
  readonly #socket: SimSocket;
  readonly #timeoutMs: number;
  readonly #hooks: LinkHooks;
  readonly #asked = new Map<number, Asked>();
  /** Until it is connected. */
  #waiting: Request[] | undefined = [];
  #sent: Moment[] = [];
  #changed: ((changes: readonly Change[]) => void) | undefined;
  #lastId = 0;
  #isClosed = false;

  constructor(socket: SimSocket, timeoutMs: number, hooks: LinkHooks) {
    this.#socket = socket;
    this.#timeoutMs = timeoutMs;
    this.#hooks = hooks;
    socket.on('error', () => undefined);
    socket.on('close', () => this.#ended());
    socket.on('connect', () => {
      for (const request of this.#waiting ?? []) writeLine(socket, request);
      this.#waiting = undefined;
    });
    readLines(socket, (line) => this.#heard(JSON.parse(line) as Reply));
  }

  #heard(reply: Reply): void {
    if (this.#isClosed) return;
    if ('changes' in reply) {
      this.#changed?.(reply.changes);
    } else if ('keptMs' in reply) {
      const sent = this.#sent.shift()!;
      if (reply.keptMs > 0) this.#hooks.kept(sent, reply.keptMs);
      else this.#hooks.expired();
    } else if ('error' in reply) {
      this.#take(reply.id)?.reject(new Error(reply.error));
    } else {
      this.#take(reply.id)?.resolve(reply.value);
    }
  }

  #take(id: number): Asked | undefined {
    const asked = this.#asked.get(id);
    this.#asked.delete(id);
    clearTimeout(asked?.timer);
    return asked;
  }

  #send(call: Request['call'], values: readonly unknown[]): number {
    const request = { id: ++this.#lastId, call, values };
    if (this.#waiting) this.#waiting.push(request);
    else writeLine(this.#socket, request);
    return request.id;
  }

  #ask<T>(call: Request['call'], ...values: unknown[]): Promise<T> {
    return new Promise((resolve, reject) => {
      const id = this.#send(call, values);
      const late = new Error(`no answer from etcd in ${this.#timeoutMs} ms`);
      const timer = setTimeout(() => this.#take(id)?.reject(late), this.#timeoutMs);
      this.#asked.set(id, { resolve: resolve as Asked['resolve'], reject, timer });
      if (this.#socket.destroyed) this.#take(id)?.reject(new Error('there is no connection'));
    });
  }

  #ended(): void {
    for (const id of [...this.#asked.keys()]) {
      this.#take(id)?.reject(new Error('the connection has ended'));
    }
    if (!this.#isClosed) this.#hooks.failed('the connection has ended');
  }

  list(prefix: string): Promise<{ pairs: Pair[]; revision: number }> {
    return this.#ask('list', prefix);
  }

  get(key: string): Promise<Pair | undefined> {
    return this.#ask('get', key);
  }

  async write(txns: readonly Txn[]): Promise<(number | undefined)[]> {
    const revisions = await this.#ask<(number | null)[]>('write', txns);
    return revisions.map((revision) => revision ?? undefined);
  }

  async grant(ttlMs: number): Promise<{ lease: string; sent: Moment; ttlMs: number }> {
    const sent = twoClocks();
    const granted = await this.#ask<{ lease: string; ttlMs: number }>('grant', ttlMs);
    return { ...granted, sent };
  }

  async revoke(lease: string): Promise<void> {
    await this.#ask('revoke', lease);
  }

  async openKeepAlive(): Promise<void> {
    // The connection is the stream.
  }

  keep(lease: string): void {
    this.#sent.push(twoClocks());
    this.#send('keep', [lease]);
  }

  get silentMs(): number {
    return this.#sent.length === 0 ? 0 : performance.now() - this.#sent[0]!.monotonicMs;
  }

  async openWatch(
    prefix: string,
    fromRevision: number,
    changed: (changes: readonly Change[]) => void,
  ): Promise<void> {
    this.#changed = changed;
    await this.#ask('watch', prefix, fromRevision);
  }

  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#socket.destroy();
  }
}

function writeLine(socket: SimSocket, value: Request | Reply): void {
  socket.write(Buffer.from(`${JSON.stringify(value)}\n`));
}

function readLines(socket: SimSocket, take: (line: string) => void): void {
  let rest = '';
  socket.on('data', (bytes: Uint8Array) => {
    const lines = (rest + Buffer.from(bytes).toString('latin1')).split('\n');
    rest = lines.pop()!;
    for (const line of lines) take(line);
  });
}
