/** Appends that wait for room in the memory budget: first come, first served, bounded, timed. */
import { failure } from '../../shared/errors.js';
import { WAITING_APPEND_MS, WAITING_APPENDS_MAX } from '../../shared/limits.js';
import { lateAfter } from '../runtime/deadline.js';

/** Whether it is done; `some`: a part of it has found room. */
export type Retry = () => boolean | 'some';

interface Waiting {
  readonly retry: Retry;
  readonly reject: (error: Error) => void;
  readonly enteredMs: number;
  deadlineMs: number;
}

export class WaitingRoom {
  readonly #served: (waitedMs: number) => void;
  #queue: Waiting[] = [];
  #callOff: (() => void) | undefined;
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
  enter(retry: Retry): Promise<void> {
    return new Promise((resolve, reject) => {
      const done: Retry = () => {
        try {
          const found = retry();
          if (found !== true) return found;
          resolve();
        } catch (error) {
          reject(error);
        }
        return true;
      };
      if (this.isEmpty && done() === true) return;
      if (this.#queue.length >= WAITING_APPENDS_MAX) {
        reject(failure('Backpressure', `${WAITING_APPENDS_MAX} appends wait already`));
        return;
      }
      const enteredMs = performance.now();
      const deadlineMs = enteredMs + WAITING_APPEND_MS;
      this.#queue.push({ retry: done, reject, enteredMs, deadlineMs });
      this.#watch();
    });
  }

  /** Room may have become free. */
  drain(): void {
    // A retry may seal a group and come back here; what has been served must not be again.
    if (this.#isDraining || this.isEmpty) return;
    this.#isDraining = true;
    const nowMs = performance.now();
    let done = 0;
    try {
      for (; done < this.#queue.length; done++) {
        const waiting = this.#queue[done]!;
        const found = waiting.retry();
        // The rest of what comes in parts has its whole time again.
        if (found === 'some') waiting.deadlineMs = nowMs + WAITING_APPEND_MS;
        if (found !== true) break;
      }
    } finally {
      for (const one of this.#queue.splice(0, done)) this.#served(nowMs - one.enteredMs);
      this.#isDraining = false;
    }
    if (this.isEmpty) this.#stopWatch();
  }

  rejectAll(error: Error): void {
    for (const waiting of this.#queue.splice(0)) waiting.reject(error);
    this.#stopWatch();
  }

  #watch(): void {
    if (this.isEmpty || this.#callOff) return;
    let first = Number.POSITIVE_INFINITY;
    for (const { deadlineMs } of this.#queue) first = Math.min(first, deadlineMs);
    const ms = Math.max(1, first - performance.now());
    this.#callOff = lateAfter(ms, () => this.#judge());
  }

  /** Turns away those that have waited for too long. */
  #judge(): void {
    this.#callOff = undefined;
    const nowMs = performance.now();
    const late = this.#queue.filter((one) => one.deadlineMs <= nowMs);
    this.#queue = this.#queue.filter((one) => one.deadlineMs > nowMs);
    const found = `no room in the memory budget for ${WAITING_APPEND_MS} ms`;
    for (const one of late) one.reject(failure('Backpressure', found));
    this.#watch();
  }

  #stopWatch(): void {
    this.#callOff?.();
    this.#callOff = undefined;
  }
}
