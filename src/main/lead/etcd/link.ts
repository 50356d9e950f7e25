/**
 * One connection to one etcd endpoint: the few calls that the coordinator makes, with a deadline by
 * the monotonic clock each, and its two streams. It retries nothing: who uses it makes another.
 * Lease, watch and calls share one TCP connection, so a keepalive that is answered vouches for all.
 */
import { type Moment, twoClocks } from '../../runtime/two-clocks.js';
import { type EtcdCertificates, EtcdRefusal, GrpcConnection, type GrpcStream } from './grpc.js';
import type { EtcdLogin } from './login.js';
import { Fields, Message } from './messages.js';

/** A key and what stands there. */
export interface Pair {
  readonly key: string;
  readonly value: string;
  /** The revision of its last change. */
  readonly revision: number;
}

/** What a watch brings: one revision's changes may come in several, never out of order. */
export interface Change {
  readonly key: string;
  readonly revision: number;
  /** undefined: it was deleted. */
  readonly value: string | undefined;
}

/** What must hold for a transaction to be carried out. */
export type Condition =
  /** The key was last changed in this revision; 0: it does not exist. */
  | { readonly key: string; readonly revision: number }
  | { readonly key: string; readonly exists: boolean };

export interface Write {
  readonly key: string;
  /** undefined: delete it. */
  readonly value: string | undefined;
  /** The lease that the key goes with. */
  readonly lease?: string;
}

/** Writes that are carried out together if every condition holds. */
export interface Txn {
  readonly conditions: readonly Condition[];
  readonly writes: readonly Write[];
}

export interface LinkHooks {
  /** `sent`: when the keepalive was sent; the lease lives `ttlMs` from it. */
  kept(sent: Moment, ttlMs: number): void;
  /** The lease is not known to etcd any more. */
  expired(): void;
  /** A stream has ended; what was watched may have changed unseen. */
  failed(reason: string): void;
}

/** What the session asks of a link, whoever made it. */
export type Link = Pick<EtcdLink, keyof EtcdLink>;
/** Makes a link to one endpoint; calls on it have `timeoutMs` each. */
export type MakeLink = (endpoint: string, timeoutMs: number, hooks: LinkHooks) => Promise<Link>;

/** How this node gets in. */
export interface EtcdAccess {
  readonly certificates?: EtcdCertificates;
  readonly login?: EtcdLogin | undefined;
}

export class EtcdLink {
  readonly #connection: GrpcConnection;
  readonly #login: EtcdLogin | undefined;
  readonly #timeoutMs: number;
  readonly #hooks: LinkHooks;
  #keepAlive: GrpcStream | undefined;
  #watch: GrpcStream | undefined;
  /** When the keepalives that have no answer yet were sent. */
  #sent: Moment[] = [];
  #isClosed = false;

  constructor(
    endpoint: string,
    timeoutMs: number,
    hooks: LinkHooks,
    { certificates, login }: EtcdAccess = {},
  ) {
    this.#timeoutMs = timeoutMs;
    this.#hooks = hooks;
    this.#login = login;
    this.#connection = new GrpcConnection(endpoint, certificates);
  }

  /** Rejects when there is no answer in time, whatever becomes of the call. */
  async #call(path: string, request: Message): Promise<Fields> {
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<never>((_, reject) => {
      const tooLate = (): void => reject(new Error(`no answer from etcd in ${this.#timeoutMs} ms`));
      timer = setTimeout(tooLate, this.#timeoutMs);
    });
    try {
      return new Fields(await Promise.race([this.#asUser(path, request.encoded()), late]));
    } finally {
      clearTimeout(timer);
    }
  }

  #asUser(path: string, request: Uint8Array): Promise<Uint8Array> {
    const ask = (token?: string): Promise<Uint8Array> =>
      this.#connection.call(`/etcdserverpb.${path}`, request, token);
    if (!this.#login) return ask();
    return this.#login.with(async (name, password) => {
      const login = new Message().bytes(1, name).bytes(2, password).encoded();
      const path = '/etcdserverpb.Auth/Authenticate';
      return new Fields(await this.#connection.call(path, login, undefined)).text(2);
    }, ask);
  }

  /** All keys below a prefix, and the revision as of which. */
  async list(prefix: string): Promise<{ pairs: Pair[]; revision: number }> {
    const range = new Message().bytes(1, prefix).bytes(2, endOf(prefix));
    const answer = await this.#call('KV/Range', range);
    return { pairs: answer.all(2).map(pairOf), revision: revisionOf(answer) };
  }

  /** What stands at a key now, by the word of a majority. */
  async get(key: string): Promise<Pair | undefined> {
    const answer = await this.#call('KV/Range', new Message().bytes(1, key));
    return answer.all(2).map(pairOf)[0];
  }

  /**
   * Carries out each of them whose conditions hold, all in one revision. No key is written by two.
   * @returns for each the revision, or undefined
   */
  async write(txns: readonly Txn[]): Promise<(number | undefined)[]> {
    const [only] = txns;
    const isOne = txns.length === 1;
    const all = new Message();
    for (const txn of txns) all.bytes(2, new Message().bytes(4, txnOf(txn)));
    const answer = await this.#call('KV/Txn', isOne ? txnOf(only!) : all);
    const revision = revisionOf(answer);
    const done = isOne ? [answer] : answer.all(3).map((each) => each.message(4));
    return txns.map((_, i) => (done[i]!.int(2) === 1 ? revision : undefined));
  }

  /** @returns the lease's id, and when it was asked for: it lives `ttlMs` from then */
  async grant(ttlMs: number): Promise<{ lease: string; sent: Moment; ttlMs: number }> {
    const sent = twoClocks();
    const seconds = Math.ceil(ttlMs / 1_000);
    const answer = await this.#call('Lease/LeaseGrant', new Message().int(1, seconds));
    return { lease: String(answer.big(2)), sent, ttlMs: answer.int(3) * 1_000 };
  }

  /** Its keys go at once. Not an error where it has gone already. */
  async revoke(lease: string): Promise<void> {
    const revoked = this.#call('Lease/LeaseRevoke', new Message().int(1, BigInt(lease)));
    await revoked.catch((error) => {
      if (!(error instanceof EtcdRefusal) || error.status !== NOT_FOUND) throw error;
    });
  }

  #stream(path: string, what: string, message: (answer: Fields) => void): GrpcStream {
    return this.#connection.open(`/etcdserverpb.${path}`, this.#login?.token, {
      message: (bytes) => {
        if (this.#isClosed) return;
        try {
          message(new Fields(bytes));
        } catch (error) {
          this.#hooks.failed(`the ${what} stream: ${(error as Error).message}`);
        }
      },
      ended: (reason) => {
        if (!this.#isClosed) this.#hooks.failed(`the ${what} stream ended: ${reason.message}`);
      },
    });
  }

  /** Opens the stream that `keep` sends on. */
  async openKeepAlive(): Promise<void> {
    if (this.#isClosed) return;
    this.#keepAlive = this.#stream('Lease/LeaseKeepAlive', 'keepalive', (answer) => {
      const sent = this.#sent.shift();
      const seconds = answer.int(3);
      if (sent === undefined) return;
      if (seconds > 0) this.#hooks.kept(sent, seconds * 1_000);
      else this.#hooks.expired();
    });
  }

  /** Asks that the lease live on; the answer comes to `kept`. */
  keep(lease: string): void {
    // The clock first: etcd counts from when it hears of it.
    this.#sent.push(twoClocks());
    this.#keepAlive?.send(new Message().int(1, BigInt(lease)).encoded());
  }

  /** How long the oldest keepalive without an answer has been waiting, ms. */
  get silentMs(): number {
    return this.#sent.length === 0 ? 0 : performance.now() - this.#sent[0]!.monotonicMs;
  }

  /** Everything that changes below a prefix from a revision on, in order. */
  async openWatch(
    prefix: string,
    fromRevision: number,
    changed: (changes: readonly Change[]) => void,
  ): Promise<void> {
    if (this.#isClosed) return;
    this.#watch = this.#stream('Watch/Watch', 'watch', (answer) => {
      if (answer.int(4) === 1) {
        // Compaction has passed what we were to see, or etcd has lost its majority.
        this.#hooks.failed(`the watch was cancelled: ${answer.text(6) || 'compacted'}`);
        return;
      }
      const changes = answer.all(11).map((event): Change => {
        const { key, value, revision } = pairOf(event.message(2));
        return { key, revision, value: event.int(1) === PUT ? value : undefined };
      });
      if (changes.length > 0) changed(changes);
    });
    const range = new Message().bytes(1, prefix).bytes(2, endOf(prefix)).int(3, fromRevision);
    this.#watch.send(new Message().bytes(1, range).encoded());
  }

  /** At once; calls under way reject or are let go of. */
  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#keepAlive?.cancel();
    this.#watch?.cancel();
    this.#connection.close();
  }
}

/** Of gRPC. */
const NOT_FOUND = 5;
// The numbers below and above are those of etcd's rpc.proto and kv.proto.
const PUT = 0;
const EQUAL = 0;
const GREATER = 1;
const VERSION = 0;
const MOD = 2;

function revisionOf(answer: Fields): number {
  return answer.message(1).int(3);
}

function pairOf(kv: Fields): Pair {
  return { key: kv.text(1), value: kv.text(5), revision: kv.int(3) };
}

/** The first key behind all that begin with the prefix. */
function endOf(prefix: string): Buffer {
  const end = Buffer.from(prefix);
  // Our prefixes end with a slash.
  end[end.length - 1]! += 1;
  return end;
}

function compareOf(condition: Condition): Message {
  if ('revision' in condition) {
    const { key, revision } = condition;
    return new Message().int(1, EQUAL).int(2, MOD).bytes(3, key).int(6, revision);
  }
  const result = condition.exists ? GREATER : EQUAL;
  return new Message().int(1, result).int(2, VERSION).bytes(3, condition.key).int(4, 0);
}

function txnOf({ conditions, writes }: Txn): Message {
  const txn = new Message();
  for (const condition of conditions) txn.bytes(1, compareOf(condition));
  for (const write of writes) txn.bytes(2, requestOf(write));
  return txn;
}

function requestOf({ key, value, lease }: Write): Message {
  if (value === undefined) return new Message().bytes(3, new Message().bytes(1, key));
  const put = new Message()
    .bytes(1, key)
    .bytes(2, value)
    .int(3, BigInt(lease ?? 0));
  return new Message().bytes(2, put);
}
