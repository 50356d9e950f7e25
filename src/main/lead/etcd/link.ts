/**
 * One connection to one etcd endpoint: the few calls that the coordinator makes, with a deadline by
 * the monotonic clock each, and its two streams. It retries nothing: who uses it makes another.
 * Lease, watch and calls share one TCP connection, so a keepalive that is answered vouches for all.
 */
import { noop } from 'cockatiel';
import {
  Etcd3,
  type ICompare,
  type IKeyValue,
  type IRequestOp,
  type ITxnRequest,
  type IWatchResponse,
} from 'etcd3';
import { type Moment, twoClocks } from '../../runtime/two-clocks.js';

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

const GRPC = {
  'grpc.initial_reconnect_backoff_ms': 100,
  'grpc.min_reconnect_backoff_ms': 100,
  'grpc.max_reconnect_backoff_ms': 1_000,
  // Two links to the same endpoint are two connections: a dead one is not handed on.
  'grpc.use_local_subchannel_pool': 1,
};

/** What the session asks of a link, whoever made it. */
export type Link = Pick<EtcdLink, keyof EtcdLink>;
/** Makes a link to one endpoint; calls on it have `timeoutMs` each. */
export type MakeLink = (endpoint: string, timeoutMs: number, hooks: LinkHooks) => Promise<Link>;

type KeepAliveStream = Awaited<ReturnType<Etcd3['leaseClient']['leaseKeepAlive']>>;
type WatchStream = Awaited<ReturnType<Etcd3['watchClient']['watch']>>;

export class EtcdLink {
  readonly #client: Etcd3;
  readonly #timeoutMs: number;
  readonly #hooks: LinkHooks;
  #keepAlive: KeepAliveStream | undefined;
  #watch: WatchStream | undefined;
  /** When the keepalives that have no answer yet were sent. */
  #sent: Moment[] = [];
  #isClosed = false;

  constructor(endpoint: string, timeoutMs: number, hooks: LinkHooks) {
    this.#timeoutMs = timeoutMs;
    this.#hooks = hooks;
    // One attempt a call, no breaker: what to try next is decided above.
    const faultHandling = { host: () => noop, global: noop };
    this.#client = new Etcd3({ hosts: [endpoint], grpcOptions: GRPC, faultHandling });
  }

  /** Rejects when there is no answer in time, whatever becomes of the call. */
  async #within<T>(call: Promise<T>): Promise<T> {
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<never>((_, reject) => {
      const tooLate = (): void => reject(new Error(`no answer from etcd in ${this.#timeoutMs} ms`));
      timer = setTimeout(tooLate, this.#timeoutMs);
    });
    try {
      return await Promise.race([call, late]);
    } finally {
      clearTimeout(timer);
    }
  }

  /** All keys below a prefix, and the revision as of which. */
  async list(prefix: string): Promise<{ pairs: Pair[]; revision: number }> {
    const range = { key: Buffer.from(prefix), range_end: endOf(prefix) };
    const { kvs, header } = await this.#within(this.#client.kv.range(range));
    return { pairs: kvs.map(pairOf), revision: Number(header.revision) };
  }

  /** What stands at a key now, by the word of a majority. */
  async get(key: string): Promise<Pair | undefined> {
    const { kvs } = await this.#within(this.#client.kv.range({ key: Buffer.from(key) }));
    return kvs[0] && pairOf(kvs[0]);
  }

  /**
   * Carries out each of them whose conditions hold, all in one revision. No key is written by two.
   * @returns for each the revision, or undefined
   */
  async write(txns: readonly Txn[]): Promise<(number | undefined)[]> {
    const [only] = txns;
    const isOne = txns.length === 1;
    const all = { compare: [], success: txns.map((txn) => ({ request_txn: txnOf(txn) })) };
    const request = isOne ? txnOf(only!) : { ...all, failure: [] };
    const { header, succeeded, responses } = await this.#within(this.#client.kv.txn(request));
    const revision = Number(header.revision);
    const done = isOne ? [succeeded] : responses.map((r) => r.response_txn.succeeded);
    return txns.map((_, i) => (done[i] ? revision : undefined));
  }

  /** @returns the lease's id, and when it was asked for: it lives `ttlMs` from then */
  async grant(ttlMs: number): Promise<{ lease: string; sent: Moment; ttlMs: number }> {
    const sent = twoClocks();
    const seconds = Math.ceil(ttlMs / 1_000);
    const { ID, TTL } = await this.#within(this.#client.leaseClient.leaseGrant({ TTL: seconds }));
    return { lease: ID, sent, ttlMs: Number(TTL) * 1_000 };
  }

  /** Its keys go at once. Not an error where it has gone already. */
  async revoke(lease: string): Promise<void> {
    await this.#within(this.#client.leaseClient.leaseRevoke({ ID: lease }));
  }

  /** Opens the stream that `keep` sends on. */
  async openKeepAlive(): Promise<void> {
    const stream = await this.#within(this.#client.leaseClient.leaseKeepAlive());
    if (this.#isClosed) {
      stream.cancel();
      return;
    }
    this.#keepAlive = stream;
    this.#ends(stream, 'keepalive');
    stream.on('data', ({ TTL }) => {
      const sent = this.#sent.shift();
      const seconds = Number(TTL);
      if (this.#isClosed || sent === undefined) return;
      if (seconds > 0) this.#hooks.kept(sent, seconds * 1_000);
      else this.#hooks.expired();
    });
  }

  /** Asks that the lease live on; the answer comes to `kept`. */
  keep(lease: string): void {
    // The clock first: etcd counts from when it hears of it.
    this.#sent.push(twoClocks());
    this.#keepAlive?.write({ ID: lease });
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
    const stream = await this.#within(this.#client.watchClient.watch());
    if (this.#isClosed) {
      stream.cancel();
      return;
    }
    this.#watch = stream;
    this.#ends(stream, 'watch');
    stream.on('data', (answer: IWatchResponse) => {
      if (this.#isClosed) return;
      if (answer.canceled) {
        // Compaction has passed what we were to see, or etcd has lost its majority.
        this.#hooks.failed(`the watch was cancelled: ${answer.cancel_reason || 'compacted'}`);
        return;
      }
      if (answer.events.length === 0) return;
      changed(
        answer.events.map(({ type, kv }) => ({
          key: kv.key.toString(),
          revision: Number(kv.mod_revision),
          value: type === 'Put' ? kv.value.toString() : undefined,
        })),
      );
    });
    const key = Buffer.from(prefix);
    const range = { key, range_end: endOf(prefix), start_revision: fromRevision };
    stream.write({ create_request: range });
  }

  #ends(stream: KeepAliveStream | WatchStream, what: string): void {
    const ended = (reason: string): void => {
      if (!this.#isClosed) this.#hooks.failed(`the ${what} stream ended: ${reason}`);
    };
    stream.on('error', (error: Error) => ended(error.message));
    stream.on('end', () => ended('by etcd'));
  }

  /** At once; calls under way reject or are let go of. */
  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#keepAlive?.cancel();
    this.#watch?.cancel();
    this.#client.close();
  }
}

function pairOf(kv: IKeyValue): Pair {
  return {
    key: kv.key.toString(),
    value: kv.value.toString(),
    revision: Number(kv.mod_revision),
  };
}

/** The first key behind all that begin with the prefix. */
function endOf(prefix: string): Buffer {
  const end = Buffer.from(prefix);
  // Our prefixes end with a slash.
  end[end.length - 1]! += 1;
  return end;
}

function compareOf(condition: Condition): ICompare {
  const key = Buffer.from(condition.key);
  if ('revision' in condition) {
    return { key, result: 'Equal', target: 'Mod', mod_revision: condition.revision };
  }
  const result = condition.exists ? 'Greater' : 'Equal';
  return { key, result, target: 'Version', version: 0 };
}

function txnOf({ conditions, writes }: Txn): ITxnRequest {
  return { compare: conditions.map(compareOf), success: writes.map(requestOf), failure: [] };
}

function requestOf({ key, value, lease }: Write): IRequestOp {
  const at = Buffer.from(key);
  if (value === undefined) return { request_delete_range: { key: at } };
  return { request_put: { key: at, value: Buffer.from(value), lease: lease ?? '0' } };
}
