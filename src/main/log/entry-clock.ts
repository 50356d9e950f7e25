/** Timestamps of entries: the wall clock, never going back within a space (DESIGN 4). */
import type { Slot } from '../../shared/position.js';
import type { SpaceRows } from './space-rows.js';

const NS_PER_MS = 1_000_000n;

export class EntryClock {
  #ms = 0;
  #low = 0;
  #high = 0;
  #isFresh = false;

  /** The clock is read once a turn of the event loop. */
  nextTurn(): void {
    this.#isFresh = false;
  }

  /** Moves the space's timestamp to now, unless its last entry is ahead of the clock. */
  stamp(rows: SpaceRows, slot: Slot): void {
    if (!this.#isFresh) this.#read();
    rows.stamp(slot, this.#low, this.#high);
  }

  #read(): void {
    this.#isFresh = true;
    const now = Date.now();
    if (now === this.#ms) return;
    const ns = BigInt(now) * NS_PER_MS;
    this.#ms = now;
    // Signed: for greater numbers the field would take another shape, and what uses it, too.
    this.#low = Number(ns & 0xffffffffn) | 0;
    this.#high = Number(ns >> 32n);
  }
}

/** Calls back once, some time after it was armed last; keeps no process alive. */
export class IdleTimer {
  readonly #ms: number;
  readonly #due: () => void;
  #timer: NodeJS.Timeout | undefined;
  #armedMs = 0;

  constructor(ms: number, due: () => void) {
    this.#ms = ms;
    this.#due = due;
  }

  /** A timer that runs is left to run, and then waits for the rest: this comes with each group. */
  arm(nowMs: number): void {
    this.#armedMs = nowMs;
    if (!this.#timer) this.#wait(this.#ms);
  }

  #wait(ms: number): void {
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      const leftMs = this.#armedMs + this.#ms - performance.now();
      if (leftMs > 0) this.#wait(Math.ceil(leftMs));
      else this.#due();
    }, ms);
    this.#timer.unref();
  }

  disarm(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
  }
}
