/**
 * Calls of the host that are under way, one at a time for each space: which one does not return is
 * told, and known to who would wait for it (FAULTS row 112).
 */
import type { Sequence } from '../../shared/position.js';
import type { SpaceState } from '../log/space-table.js';

export type HostCallback = 'apply' | 'appliedUpTo' | 'rewound';

/** One that has not returned for `hostTimeoutMs`. */
export interface SilentCall {
  readonly callback: HostCallback;
  /** The entry that it is about; 0 for `appliedUpTo`. */
  readonly sequence: Sequence;
}

export interface HostCallHooks {
  silent(space: SpaceState, call: SilentCall): void;
  /** It has returned, or thrown, after all. */
  returned(space: SpaceState, call: SilentCall): void;
}

export class HostCalls {
  readonly timeoutMs: number;
  readonly #hooks: HostCallHooks;
  readonly #underWay = new Map<SpaceState, { call: SilentCall; sinceMs: number }>();
  readonly #silent = new Map<SpaceState, SilentCall>();
  readonly #waiting = new Map<SpaceState, Set<() => void>>();
  /** Whose callback has the thread in this very moment. */
  #running: SpaceState | undefined;

  constructor(timeoutMs: number, hooks: HostCallHooks) {
    this.timeoutMs = timeoutMs;
    this.#hooks = hooks;
  }

  /** Gives, or throws, what the host does. */
  async run<T>(
    space: SpaceState,
    callback: HostCallback,
    sequence: Sequence,
    call: () => T | Promise<T>,
  ): Promise<T> {
    const silent: SilentCall = { callback, sequence };
    const timer = setTimeout(() => this.#fellSilent(space, silent), this.timeoutMs);
    timer.unref();
    this.#underWay.set(space, { call: silent, sinceMs: performance.now() });
    try {
      return await this.#called(space, call);
    } finally {
      clearTimeout(timer);
      this.#underWay.delete(space);
      if (this.#silent.get(space) === silent) {
        this.#silent.delete(space);
        this.#hooks.returned(space, silent);
      }
    }
  }

  #called<T>(space: SpaceState, call: () => T | Promise<T>): T | Promise<T> {
    const before = this.#running;
    this.#running = space;
    try {
      return call();
    } finally {
      this.#running = before;
    }
  }

  #fellSilent(space: SpaceState, call: SilentCall): void {
    this.#silent.set(space, call);
    this.#hooks.silent(space, call);
    for (const wake of this.#waiting.get(space) ?? []) wake();
  }

  /** Whether who asks is called by a callback for this space, and so would wait for himself. */
  isInside(space: SpaceState): boolean {
    return this.#running === space;
  }

  /** By the clock: a thread that was busy has its timers late. */
  silentOf(space: SpaceState): SilentCall | undefined {
    const { call, sinceMs = Number.POSITIVE_INFINITY } = this.#underWay.get(space) ?? {};
    return performance.now() - sinceMs >= this.timeoutMs ? call : this.#silent.get(space);
  }

  /** What the work gives, or `silent` as soon as a call of the space does not return. */
  async unlessSilent<T>(space: SpaceState, work: Promise<T>): Promise<T | 'silent'> {
    if (this.#silent.has(space)) {
      work.catch(() => undefined);
      return 'silent';
    }
    const waiting = this.#waiting.get(space) ?? new Set<() => void>();
    this.#waiting.set(space, waiting);
    let wake: () => void = () => undefined;
    const silent = new Promise<'silent'>((resolve) => {
      wake = () => resolve('silent');
      waiting.add(wake);
    });
    try {
      return await Promise.race([work, silent]);
    } finally {
      waiting.delete(wake);
      if (waiting.size === 0) this.#waiting.delete(space);
    }
  }
}
