/**
 * This node's life at etcd: one lease, kept alive, and a view of all keys below the prefix. It
 * reconnects by itself, endpoint after endpoint; what it has seen of a link that ended is read
 * anew, so neither a restart of etcd nor a compaction leaves a gap. Times are performance.now(),
 * which a sleep of the machine does not count: a lease ends when uptime says something else.
 */
import { EngramError, failure, firstLine } from '../../../shared/errors.js';
import { COORDINATOR_BACKOFF_MS, LEASE_KEEPS, LEASE_MARGIN } from '../../../shared/limits.js';
import { haveParted, type Moment, type TwoClocks, twoClocks } from '../../runtime/two-clocks.js';
import { type EtcdAccessOptions, linksToEtcd } from './access.js';
import type { Change, Condition, Link, MakeLink, Pair, Write } from './link.js';
import { EtcdWrites } from './writes.js';

export interface SessionOptions extends EtcdAccessOptions {
  readonly endpoints: readonly string[];
  readonly ttlMs: number;
  /** Ends with a slash. */
  readonly prefix: string;
}

export interface SessionHooks {
  /** The view is whole and of now, and the lease is held: a new one, or the one before. */
  up(isNewLease: boolean): void;
  /** These keys are other than before. */
  changed(keys: readonly string[]): void;
  /** The lease may have run out; etcd may still say that it has not (`up` follows). */
  lapsed(reason: string): void;
  /** The lease has run out: what went with it is gone. */
  lost(reason: string): void;
  link(connected: boolean, reason: string): void;
}

export class EtcdSession {
  readonly #options: SessionOptions;
  readonly #hooks: SessionHooks;
  readonly #makeLink: MakeLink;
  /** What stands below the prefix, by key, as of what was heard last. */
  readonly view = new Map<string, Pair>();
  readonly #writes = new EtcdWrites((txns) => this.#call((link) => link.write(txns)));
  #link: Link | undefined;
  #isUp = false;
  /** What was told of the link last. */
  #told: boolean | undefined;
  #lease: string | undefined;
  readonly #clocks: TwoClocks;
  #ackUntilMs = Number.NEGATIVE_INFINITY;
  /** When that was asked for which the lease is held by. */
  #heldSince: Moment | undefined;
  /** As of this turn of the event loop. */
  #now: Moment | undefined;
  #isLapsed = true;
  #lapse: NodeJS.Timeout | undefined;
  #keeping: NodeJS.Timeout | undefined;
  #retry: NodeJS.Timeout | undefined;
  #attempts = 0;
  #isClosed = false;

  constructor(
    options: SessionOptions,
    hooks: SessionHooks,
    makeLink = linksToEtcd(options),
    clocks = twoClocks,
  ) {
    this.#clocks = clocks;
    this.#options = options;
    this.#hooks = hooks;
    this.#makeLink = makeLink;
  }

  /** From then on the lease may have run out. The clocks are asked: they may say that it has. */
  get ackUntilMs(): number {
    if (this.#heldSince && this.#hasSlept(this.#heldSince)) this.#end();
    return this.#ackUntilMs;
  }

  /** The same, as far as was known when the clocks were asked last. */
  get knownUntilMs(): number {
    return this.#ackUntilMs;
  }

  /** The lease; undefined while there is none. Its keys go with it. */
  get lease(): string | undefined {
    return this.#lease;
  }

  /** The view is kept up to date, as far as one can know. */
  get isUp(): boolean {
    return this.#isUp;
  }

  get #callMs(): number {
    return Math.min(2_000, this.#options.ttlMs / 2);
  }

  start(): void {
    void this.#connect();
  }

  // --- the link ----------------------------------------------------------------------------

  async #connect(): Promise<void> {
    if (this.#isClosed) return;
    const { endpoints, prefix, ttlMs } = this.#options;
    const endpoint = endpoints[this.#attempts++ % endpoints.length]!;
    let link: Link | undefined;
    try {
      const made: Link = await this.#makeLink(endpoint, this.#callMs, {
        kept: (sent, lifeMs) => {
          if (this.#link === made) this.#kept(sent, lifeMs);
        },
        expired: () => {
          if (this.#link !== made) return;
          this.#lose('etcd knows the lease no more');
          this.#fail(made, 'the lease has run out', true);
        },
        failed: (reason) => this.#fail(made, reason),
      });
      link = made;
      if (this.#isClosed) {
        made.close();
        return;
      }
      this.#link = made;
      const { pairs, revision } = await made.list(prefix);
      if (this.#link !== made) return;
      this.#replace(pairs);
      await made.openWatch(prefix, revision + 1, (changes) => {
        if (this.#link === made) this.#change(changes);
      });
      await made.openKeepAlive();
      if (this.#link !== made) return;
      // A lease from before answers to its keepalive, or is told to have expired.
      const isNew = this.#lease === undefined;
      if (isNew) await this.#grant(made, ttlMs);
      else await this.#keepFirst(made);
      if (this.#link !== made || this.#isClosed) return;
      this.#attempts = endpoints.indexOf(endpoint);
      this.#isUp = true;
      this.#tell(true, endpoint);
      this.#keepOn(made);
      this.#hooks.up(isNew);
    } catch (error) {
      if (link) this.#fail(link, firstLine(error));
      else this.#again(firstLine(error));
    }
  }

  async #grant(link: Link, ttlMs: number): Promise<void> {
    const granted = await link.grant(ttlMs);
    if (this.#link !== link) return;
    this.#lease = granted.lease;
    this.#kept(granted.sent, granted.ttlMs);
  }

  /** Resolves with the first answer; a failed link or a lost lease ends the wait. */
  async #keepFirst(link: Link): Promise<void> {
    const before = this.#ackUntilMs;
    link.keep(this.#lease!);
    while (this.#link === link && this.#ackUntilMs === before && this.#lease !== undefined) {
      if (link.silentMs > this.#callMs) throw new Error('no answer to a keepalive');
      await new Promise((resolve) => setTimeout(resolve, 5));
      // It has been answered, and the answer was of no use.
      if (link.silentMs === 0 && this.#ackUntilMs === before) link.keep(this.#lease!);
    }
  }

  #keepOn(link: Link): void {
    clearInterval(this.#keeping);
    const everyMs = this.#options.ttlMs / LEASE_KEEPS;
    this.#keeping = setInterval(() => {
      if (this.#heldSince && this.#hasSlept(this.#heldSince)) this.#end();
      // One connection for all: who does not answer here answers nowhere.
      if (link.silentMs > this.#callMs) this.#fail(link, 'no answer to keepalives');
      else if (this.#lease !== undefined) link.keep(this.#lease);
    }, everyMs);
    this.#keeping.unref();
  }

  #fail(link: Link, reason: string, atOnce = false): void {
    link.close();
    if (this.#link !== link) return;
    this.#link = undefined;
    clearInterval(this.#keeping);
    const wasUp = this.#isUp;
    this.#isUp = false;
    this.#again(reason, atOnce || wasUp);
  }

  #again(reason: string, atOnce = false): void {
    if (this.#isClosed) return;
    this.#tell(false, reason);
    const { first, last } = COORDINATOR_BACKOFF_MS;
    const ms = atOnce ? first : Math.min(last, first * 2 ** Math.min(10, this.#attempts));
    clearTimeout(this.#retry);
    this.#retry = setTimeout(() => void this.#connect(), ms * (0.5 + Math.random() / 2));
    this.#retry.unref();
  }

  #tell(connected: boolean, reason: string): void {
    if (this.#told === connected) return;
    this.#told = connected;
    this.#hooks.link(connected, reason);
  }

  // --- the view ----------------------------------------------------------------------------

  #replace(pairs: readonly Pair[]): void {
    const keys = new Set(this.view.keys());
    const changed: string[] = [];
    for (const pair of pairs) {
      keys.delete(pair.key);
      const { revision, value } = this.view.get(pair.key) ?? {};
      // Of an etcd that was restored the revisions go back, and mean something else.
      if (revision === pair.revision && value === pair.value) continue;
      this.view.set(pair.key, pair);
      changed.push(pair.key);
    }
    for (const key of keys) {
      this.view.delete(key);
      changed.push(key);
    }
    if (changed.length > 0) this.#hooks.changed(changed);
  }

  #change(changes: readonly Change[]): void {
    for (const { key, revision, value } of changes) {
      // What we have written ourselves stands here already, and may be newer.
      if ((this.view.get(key)?.revision ?? 0) > revision) continue;
      if (value === undefined) this.view.delete(key);
      else this.view.set(key, { key, value, revision });
    }
    this.#hooks.changed(changes.map((change) => change.key));
  }

  // --- the lease ---------------------------------------------------------------------------

  /** Time has passed since then that the monotonic clock has not counted. */
  #hasSlept(since: Moment): boolean {
    this.#now ??= this.#look();
    return haveParted(since, this.#now, this.#options.ttlMs * LEASE_MARGIN);
  }

  #look(): Moment {
    setImmediate(() => {
      this.#now = undefined;
    });
    return this.#clocks();
  }

  /** Nothing may be acknowledged any more; the spaces are told so behind what goes on now. */
  #end(): void {
    this.#ackUntilMs = Number.NEGATIVE_INFINITY;
    this.#heldSince = undefined;
    queueMicrotask(() => this.#checkLapse('the machine has slept'));
  }

  #kept(sent: Moment, lifeMs: number): void {
    this.#now = undefined;
    // The answer is as old as the sleep was long.
    if (this.#hasSlept(sent)) return;
    const untilMs = sent.monotonicMs + lifeMs * (1 - LEASE_MARGIN);
    if (untilMs <= this.#ackUntilMs) return;
    this.#ackUntilMs = untilMs;
    this.#heldSince = sent;
    this.#armLapse();
    if (!this.#isLapsed || untilMs <= performance.now()) return;
    this.#isLapsed = false;
    // It had lapsed for us, not for etcd: while it was silent nobody could take what is ours.
    if (this.#isUp) this.#hooks.up(false);
  }

  #armLapse(): void {
    clearTimeout(this.#lapse);
    const ms = Math.max(0, this.#ackUntilMs - performance.now());
    this.#lapse = setTimeout(() => this.#checkLapse(), ms);
    this.#lapse.unref();
  }

  #checkLapse(reason = 'no word of etcd within the life of the lease'): void {
    if (performance.now() < this.#ackUntilMs) this.#armLapse();
    else if (!this.#isLapsed) {
      this.#isLapsed = true;
      this.#hooks.lapsed(reason);
    }
  }

  #lose(reason: string): void {
    if (this.#lease === undefined) return;
    this.#lease = undefined;
    this.#ackUntilMs = Number.NEGATIVE_INFINITY;
    this.#heldSince = undefined;
    this.#isLapsed = true;
    clearTimeout(this.#lapse);
    this.#hooks.lost(reason);
  }

  // --- calls -------------------------------------------------------------------------------

  /**
   * Carries the writes out if every condition holds; the view has them at once.
   * @returns the revision, or undefined where a condition does not hold
   * Rejects CoordinatorUnavailable: then nobody knows whether they were carried out.
   */
  async write(
    conditions: readonly Condition[],
    writes: readonly Write[],
  ): Promise<number | undefined> {
    const revision = await this.#writes.add({ conditions, writes });
    if (revision === undefined) return undefined;
    for (const { key, value } of writes) {
      if ((this.view.get(key)?.revision ?? 0) > revision) continue;
      if (value === undefined) this.view.delete(key);
      else this.view.set(key, { key, value, revision });
    }
    return revision;
  }

  /** What stands at a key by the word of a majority, now. Rejects CoordinatorUnavailable. */
  async get(key: string): Promise<Pair | undefined> {
    return await this.#call(async (link) => {
      const pair = await link.get(key);
      const known = this.view.get(key);
      if (pair && pair.revision > (known?.revision ?? 0)) {
        this.view.set(key, pair);
        this.#hooks.changed([key]);
      }
      return pair;
    });
  }

  /** Ends another lease of this node, and all that goes with it. */
  async revoke(lease: string): Promise<void> {
    await this.#call((link) => link.revoke(lease));
  }

  async #call<T>(work: (link: Link) => Promise<T>): Promise<T> {
    const link = this.#link;
    if (!link || this.#isClosed)
      throw failure('CoordinatorUnavailable', 'there is no link to etcd');
    try {
      return await work(link);
    } catch (error) {
      if (error instanceof EngramError) throw error;
      const reason = (error as Error).message.split('\n', 1)[0]!;
      throw failure('CoordinatorUnavailable', `etcd: ${reason}`, { cause: error });
    }
  }

  /** Gives the lease up, with all keys that go with it, and lets go of etcd. */
  async close(): Promise<void> {
    if (this.#isClosed) return;
    const lease = this.#lease;
    this.#ackUntilMs = Number.NEGATIVE_INFINITY;
    this.#heldSince = undefined;
    clearTimeout(this.#lapse);
    clearTimeout(this.#retry);
    clearInterval(this.#keeping);
    // Where etcd cannot be reached the lease runs out by itself.
    if (lease !== undefined && this.#link) await this.revoke(lease).catch(() => undefined);
    this.#isClosed = true;
    this.#link?.close();
    this.#link = undefined;
  }
}

export interface EtcdOptions {
  readonly endpoints: readonly string[];
  readonly ttlMs: number;
  readonly prefix: string;
  readonly replicasPerSpace: number;
}
