/** Events that are waited for, one or one after the other, instead of listened to. */
import { failure } from '../../shared/errors.js';
import { EVENTS_WAITING_MAX } from '../../shared/limits.js';
import { abortedError, checkSignal, onAbort } from '../runtime/abort.js';
import { stayAlive } from '../runtime/alive.js';
import type { NodeEventName, NodeEvents } from './events.js';

/** One event with its name, which says what it holds. */
export type NamedEvent<K extends NodeEventName> = {
  readonly [N in K]: { readonly name: N; readonly event: NodeEvents[N] };
}[K];

/** Made by `Node.events`. */
export interface EventStream<K extends NodeEventName>
  extends AsyncIterableIterator<NamedEvent<K>, void, undefined>,
    AsyncDisposable {
  return(): Promise<IteratorResult<NamedEvent<K>, void>>;
  [Symbol.asyncIterator](): EventStream<K>;
}

type Told = (name: NodeEventName, event: NodeEvents[NodeEventName]) => void;
type Wait = { told: Told; closed(): void };

export class EventWaits {
  /** By the names that each waits for; undefined: for all. */
  readonly #all = new Map<Wait, ReadonlySet<NodeEventName> | undefined>();
  #isClosed = false;

  tell(name: NodeEventName, event: NodeEvents[NodeEventName]): void {
    for (const [wait, names] of [...this.#all])
      if (names?.has(name) ?? true) wait.told(name, event);
  }

  /** The next one. Rejects Aborted, Closed. */
  async once<K extends NodeEventName>(name: K, signal?: AbortSignal): Promise<NodeEvents[K]> {
    checkSignal('once', signal);
    if (signal?.aborted) throw abortedError('once', signal);
    const closed = (): Error => failure('Closed', `once ${name}: the node has closed`);
    if (this.#isClosed) throw closed();
    let wait!: Wait;
    let forget!: () => void;
    const next = new Promise<NodeEvents[K]>((resolve, reject) => {
      forget = onAbort(signal, () => reject(abortedError('once', signal!)));
      wait = {
        told: (_, event) => resolve(event as NodeEvents[K]),
        closed: () => reject(closed()),
      };
    });
    this.#all.set(wait, new Set([name]));
    try {
      return await stayAlive(next);
    } finally {
      forget();
      this.#all.delete(wait);
    }
  }

  /** From the call on, in order, until the signal is aborted, it is left or the node closes. */
  events<K extends NodeEventName>(names: readonly K[] | undefined, signal?: AbortSignal) {
    checkSignal('events', signal);
    const stream = new Stream<K>((over) => {
      forget();
      this.#all.delete(over);
    });
    const forget = onAbort(signal, () => stream.closed());
    if (signal?.aborted || this.#isClosed) stream.closed();
    else this.#all.set(stream, names && new Set(names));
    return stream as EventStream<K>;
  }

  close(): void {
    this.#isClosed = true;
    for (const wait of [...this.#all.keys()]) wait.closed();
  }
}

class Stream<K extends NodeEventName> implements EventStream<K>, Wait {
  readonly #over: (stream: Wait) => void;
  #waiting: NamedEvent<K>[] = [];
  #isOver = false;
  #error: Error | undefined;
  /** Whoever waits for the next one. */
  #wake: (() => void)[] = [];

  constructor(over: (stream: Wait) => void) {
    this.#over = over;
  }

  told(name: NodeEventName, event: NodeEvents[NodeEventName]): void {
    this.#waiting.push({ name, event } as unknown as NamedEvent<K>);
    if (this.#waiting.length > EVENTS_WAITING_MAX) {
      const found = `${EVENTS_WAITING_MAX} events wait in a loop over events: it takes too long`;
      this.#error = failure('Backpressure', found);
      this.#waiting = [];
      this.closed();
    }
    this.#wake.shift()?.();
  }

  closed(): void {
    this.#isOver = true;
    this.#over(this);
    for (const wake of this.#wake.splice(0)) wake();
  }

  async next(): Promise<IteratorResult<NamedEvent<K>, void>> {
    for (;;) {
      const value = this.#waiting.shift();
      if (value) return { done: false, value };
      const error = this.#error;
      this.#error = undefined;
      if (error) throw error;
      if (this.#isOver) return { done: true, value: undefined };
      await stayAlive(new Promise<void>((wake) => this.#wake.push(wake)));
    }
  }

  async return(): Promise<IteratorResult<NamedEvent<K>, void>> {
    this.#waiting = [];
    this.closed();
    return { done: true, value: undefined };
  }

  [Symbol.asyncIterator](): EventStream<K> {
    return this;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.return();
  }
}
