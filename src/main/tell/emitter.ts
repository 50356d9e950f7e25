/** Tells a node's events to its host and its log; a listener that throws harms only itself. */
import { EventEmitter } from 'node:events';
import { failure } from '../../shared/errors.js';
import { nameOf, textOf } from '../../shared/host-input.js';
import { describe, wrong } from '../../shared/option-checks.js';
import { warn } from '../runtime/warn.js';
import { EVENT_NAMES, lineOf } from './event-lines.js';
import { type EventStream, EventWaits } from './event-waits.js';
import type { NodeEventName, NodeEvents } from './events.js';
import { line } from './line.js';
import { EventLog, harmless, type Logger, type RecentEvent } from './logger.js';

export class NodeEmitter {
  readonly #emitter = new EventEmitter();
  readonly #waits = new EventWaits();
  readonly #log: EventLog;
  /** How often each event was emitted. */
  readonly #counts = new Map<NodeEventName, number>(EVENT_NAMES.map((name) => [name, 0]));
  /** What happened before the host could listen; undefined once it can. */
  #held: (() => void)[] | undefined = [];

  constructor(nodeId: string, logger: Logger | undefined) {
    this.#log = new EventLog(nodeId, logger);
    // However many a host has: they are its own affair.
    this.#emitter.setMaxListeners(0);
  }

  /** Throws Configuration for an event that there is not, or a listener that is no function. */
  on<K extends NodeEventName>(name: K, listener: (event: NodeEvents[K]) => void): this {
    checkListener(name, listener);
    this.#emitter.on(name, listener);
    return this;
  }

  off<K extends NodeEventName>(name: K, listener: (event: NodeEvents[K]) => void): this {
    checkListener(name, listener);
    this.#emitter.off(name, listener);
    return this;
  }

  /** See Node.once. */
  async once<K extends NodeEventName>(name: K, signal?: AbortSignal): Promise<NodeEvents[K]> {
    checkName(name);
    return await this.#waits.once(name, signal);
  }

  /** See Node.events. */
  events<K extends NodeEventName>(names?: readonly K[], signal?: AbortSignal): EventStream<K> {
    if (names !== undefined && !Array.isArray(names)) {
      throw wrong('what events was given', names, "an array of names: ['promoted', 'fatal']");
    }
    const own = names && [...names];
    own?.forEach(checkName);
    return this.#waits.events(own, signal);
  }

  /** The last events, oldest first, as people are told of them. */
  get recentEvents(): readonly RecentEvent[] {
    return this.#log.recent;
  }

  /** Logs the event, and soon calls every listener; what one throws stops nobody (row 79). */
  emit<K extends NodeEventName>(name: K, event: NodeEvents[K]): void {
    this.#counts.set(name, this.#counts.get(name)! + 1);
    // Never in the middle of what has led to it: a listener or a logger may call the node.
    queueMicrotask(() => {
      this.#log.line(name, lineOf(name, event, this.#log.isDebug));
      if (this.#held) this.#held.push(() => this.#deliver(name, event));
      else this.#deliver(name, event);
    });
  }

  #deliver<K extends NodeEventName>(name: K, event: NodeEvents[K]): void {
    this.#waits.tell(name, event);
    for (const listener of this.#emitter.listeners(name)) {
      const threw = (error: unknown): void => this.#listenerThrew(name, error);
      try {
        harmless((listener as (event: NodeEvents[K]) => unknown)(event), threw);
      } catch (error) {
        threw(error);
      }
    }
  }

  #listenerThrew(name: NodeEventName, error: unknown): void {
    const kind = nameOf(error);
    const fields = { listenerOf: name, errorName: kind };
    this.#log.line('listener-threw', line('error', name, `a listener of ${name} threw`, fields));
    if (!this.#log.isSilent) return;
    warn(`a listener of '${name}' threw: ${textOf(error)}`);
  }

  /** No event comes any more. */
  close(): void {
    this.#waits.close();
    this.#log.close();
  }

  /** How often each event was emitted, and how many lines of the log are lost. */
  get told(): {
    events: ReadonlyMap<NodeEventName, number>;
    lines: { readonly dropped: number };
  } {
    return { events: this.#counts, lines: this.#log };
  }

  /**
   * Once, by `openNode`: opening is over. In the next turn of the event loop the host has added
   * its listeners.
   */
  release(): void {
    setImmediate(() => {
      const held = this.#held ?? [];
      this.#held = undefined;
      for (const deliver of held) deliver();
    });
  }
}

function checkName(name: unknown): void {
  if (EVENT_NAMES.includes(name as NodeEventName)) return;
  const found = `there is no event ${describe(name)}; known: ${EVENT_NAMES.join(', ')}`;
  throw failure('Configuration', found, { details: { event: name } });
}

function checkListener(name: unknown, listener: unknown): void {
  checkName(name);
  if (typeof listener === 'function') return;
  throw wrong(`the listener of ${name}`, listener, 'a function');
}
