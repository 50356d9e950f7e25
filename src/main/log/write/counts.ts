/** What the main thread counts of its log: an Atomics.add or two a group, none an entry. */
import { CounterWords, observe } from '../../../shared/memory/counter-words.js';
import {
  APPEND_MS,
  allocateNodeCounters,
  FSYNC_MS,
  FSYNC_WAIT_MS,
  GROUP_ENTRIES,
  NODE_COUNTER,
  ROOM_WAIT_MS,
} from '../../../shared/memory/metric-words.js';
import type { LogGroup } from './open-group.js';

export class NodeCounts {
  readonly buffer = allocateNodeCounters();
  readonly #words = new CounterWords(this.buffer);

  /** A group has become durable. */
  group(entries: number, bytes: number): void {
    this.#words.add(NODE_COUNTER.groups, 1);
    this.#words.add(NODE_COUNTER.writes, entries);
    this.#words.add(NODE_COUNTER.bytesWritten, bytes);
    observe(this.#words, GROUP_ENTRIES, entries);
  }

  /** @param waitMs what the caller waited besides the call itself */
  sync(callMs: number, waitMs: number): void {
    this.#words.add(NODE_COUNTER.fsyncs, 1);
    observe(this.#words, FSYNC_MS, callMs);
    observe(this.#words, FSYNC_WAIT_MS, waitMs);
  }

  /** The appends of a group are acknowledged at level `local`: one observation for each turn. */
  acknowledged({ turns, appended }: Pick<LogGroup, 'turns' | 'appended'>): void {
    if (turns.length === 0) return;
    const nowMs = performance.now();
    for (let i = 0; i < turns.length; i += 2) {
      const entries = (turns[i + 3] ?? appended) - turns[i + 1]!;
      observe(this.#words, APPEND_MS, nowMs - turns[i]!, entries);
    }
  }

  /** An append has waited for room. */
  waited(ms: number): void {
    observe(this.#words, ROOM_WAIT_MS, ms);
  }
}
