/** Starts one shipper thread, watches it, starts it again when it dies, and passes messages. */
import type {
  FromShipper,
  LinkState,
  ShippedSpace,
  ShipperStart,
  ToShipper,
} from '../shared/control.js';
import { CLOSE_DEADLINE_MS } from '../shared/limits.js';
import type { Member } from '../shared/node-record.js';
import { ReplicaProgress } from '../shared/slab.js';
import type { Platform, ShipperThread } from './platform.js';

const RESTART_MS = 1_000;

export interface ShipperHooks {
  message(shipper: ShipperHandle, message: FromShipper): void;
  lost(shipper: ShipperHandle, reason: string): void;
}

/** The link as main last heard of it. */
export interface LinkStatus {
  state: LinkState;
  reason: string;
  failures: number;
  fatal: string | undefined;
  /** Monotonic ms. */
  sinceMs: number;
  /** Wall clock, ms; undefined before the first connection. */
  lastSuccess: number | undefined;
}

export class ShipperHandle {
  readonly replica: Member;
  readonly progress: ReplicaProgress;
  readonly link: LinkStatus = {
    state: 'waiting',
    reason: 'not started',
    failures: 0,
    fatal: undefined,
    sinceMs: performance.now(),
    lastSuccess: undefined,
  };
  readonly #platform: Platform;
  readonly #start: ShipperStart;
  readonly #hooks: ShipperHooks;
  readonly #spaces = new Map<number, ShippedSpace>();
  readonly #firstWord: Promise<void>;
  #firstWordHeard: () => void = () => undefined;
  #thread: ShipperThread | undefined;
  #ended: Promise<void> = Promise.resolve();
  #closing = false;
  #restart: NodeJS.Timeout | undefined;

  constructor(platform: Platform, start: ShipperStart, hooks: ShipperHooks) {
    this.#platform = platform;
    this.replica = start.replica;
    this.#start = start;
    this.#hooks = hooks;
    this.progress = new ReplicaProgress(start.progress);
    this.#firstWord = new Promise((resolve) => {
      this.#firstWordHeard = resolve;
    });
    this.#run();
  }

  get isConnected(): boolean {
    return this.link.state === 'streaming' || this.link.state === 'catching-up';
  }

  /** Resolves when the first attempt to connect has succeeded or was refused. */
  get firstWord(): Promise<void> {
    return this.#firstWord;
  }

  /** From now on this replica is introduced to the spaces; a known one is told anew. */
  addSpaces(spaces: readonly ShippedSpace[]): void {
    for (const space of spaces) this.#spaces.set(space.slot, space);
    this.post({ kind: 'spaces', spaces });
  }

  /** This replica follows the space no more. */
  removeSpace(slot: number): void {
    if (this.#spaces.delete(slot)) this.post({ kind: 'leave', slot, isCut: false });
  }

  post(message: ToShipper): void {
    this.#thread?.post(message);
  }

  #run(): void {
    this.#ended = new Promise((ended) => {
      this.#thread = this.#platform.startShipper(this.#start, {
        message: (message) => this.#message(message),
        exit: (reason = 'it ended by itself') => {
          this.#thread = undefined;
          ended();
          if (this.#closing) return;
          this.#setLink('waiting', `the shipper thread died: ${reason}`, this.link.failures + 1);
          this.#hooks.lost(this, reason);
          this.#restart = setTimeout(() => this.#run(), RESTART_MS);
        },
      });
    });
    this.post({ kind: 'spaces', spaces: [...this.#spaces.values()] });
  }

  #message(message: FromShipper): void {
    if (message.kind === 'state') {
      this.#setLink(message.state, message.reason, message.failures);
      this.link.fatal = message.fatal;
      if (message.state !== 'connecting' && message.state !== 'handshake') this.#firstWordHeard();
    }
    this.#hooks.message(this, message);
  }

  #setLink(state: LinkState, reason: string, failures: number): void {
    if (state !== this.link.state) this.link.sinceMs = performance.now();
    if (state === 'streaming' || state === 'catching-up') this.link.lastSuccess = Date.now();
    this.link.state = state;
    this.link.reason = reason;
    this.link.failures = failures;
  }

  /** Lets the thread ship what is durable, up to its deadline, then ends it. */
  async close(): Promise<void> {
    this.#closing = true;
    clearTimeout(this.#restart);
    const thread = this.#thread;
    if (!thread) return;
    thread.post({ kind: 'close' });
    const timer = setTimeout(() => thread.terminate(), 2 * CLOSE_DEADLINE_MS);
    await this.#ended;
    clearTimeout(timer);
  }
}
