/** Appends that wait for room in the memory budget: first come, first served, bounded, timed. */
import { failure } from '../shared/errors.js';
import { WAITING_APPEND_MS, WAITING_APPENDS_MAX } from '../shared/limits.js';

interface Waiting {
  /** Tries again, and says whether it is done. */
  readonly retry: () => boolean;
  readonly reject: (error: Error) => void;
  readonly deadlineMs: number;
}

export class WaitingRoom {
  readonly #served: (waitedMs: number) => void;
  #queue: Waiting[] = [];
  #timer: NodeJS.Timeout | undefined;
  #isDraining = false;

  /** @param served told how long each has waited that has found room */
  constructor(served: (waitedMs: number) => void = () => undefined) {
    this.#served = served;
  }

  get isEmpty(): boolean {
    return this.#queue.length === 0;
  }

  /** How many wait. */
  get size(): number {
    return this.#queue.length;
  }

  /** Resolves when `retry` has returned true; rejects with what it throws, or Backpressure. */
  enter(retry: () => boolean): Promise<void> {
    return new Promise((resolve, reject) => {
      const done = (): boolean => {
        try {
          if (!retry()) return false;
          resolve();
        } catch (error) {
          reject(error);
        }
        return true;
      };
      if (this.isEmpty && done()) return;
      if (this.#queue.length >= WAITING_APPENDS_MAX) {
        reject(failure('Backpressure', `${WAITING_APPENDS_MAX} appends wait already`));
        return;
      }
      const deadlineMs = performance.now() + WAITING_APPEND_MS;
      this.#queue.push({ retry: done, reject, deadlineMs });
      this.#watch();
    });
  }

  /** Room may have become free. */
  drain(): void {
    // A retry may seal a group and come back here; what has been served must not be again.
    if (this.#isDraining) return;
    this.#isDraining = true;
    let done = 0;
    while (done < this.#queue.length && this.#queue[done]!.retry()) done++;
    if (done > 0) {
      const enteredMs = performance.now() + WAITING_APPEND_MS;
      for (const one of this.#queue.splice(0, done)) this.#served(enteredMs - one.deadlineMs);
    }
    this.#isDraining = false;
    if (this.isEmpty) this.#stopWatch();
  }

  rejectAll(error: Error): void {
    for (const waiting of this.#queue.splice(0)) waiting.reject(error);
    this.#stopWatch();
  }

  #watch(): void {
    const first = this.#queue[0];
    if (!first || this.#timer) return;
    const ms = Math.max(1, first.deadlineMs - performance.now());
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      const now = performance.now();
      while (this.#queue.length > 0 && this.#queue[0]!.deadlineMs <= now) {
        const found = `no room in the memory budget for ${WAITING_APPEND_MS} ms`;
        this.#queue.shift()!.reject(failure('Backpressure', found));
      }
      this.#watch();
    }, ms);
  }

  #stopWatch(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
  }
}
