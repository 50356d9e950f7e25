/**
 * Hands what is flushed to the host's apply callback: in order within a space, spaces
 * independent of each other, at least once. Where the host keeps no position of its own, the
 * applied sequence is kept by node records, so after a crash entries may come again, never be
 * skipped.
 */
import { setMaxListeners } from 'node:events';
import { BACKOFF_STEPS_MS } from '../shared/limits.js';
import type { Sequence } from '../shared/position.js';
import type { NodeConfig } from './config.js';
import type { LogReader } from './reader.js';
import type { SpaceState } from './space-table.js';
import type { Wal } from './wal.js';

const RECORD_EVERY_MS = 1_000;

export interface ApplyHooks {
  applied(space: SpaceState, sequence: Sequence): void;
  failed(space: SpaceState, from: Sequence, attempts: number, error: unknown): void;
  blocked(space: SpaceState, applied: Sequence): void;
}

export class Applier {
  readonly #apply: NonNullable<NodeConfig['apply']>;
  readonly #appliedUpTo: NodeConfig['appliedUpTo'];
  readonly #reader: LogReader;
  readonly #wal: Wal;
  readonly #hooks: ApplyHooks;
  readonly #stop = manyListeners(new AbortController());
  readonly #running = new Map<SpaceState, Promise<void>>();
  /** Applied and not yet in a node record. */
  readonly #dirty = new Set<SpaceState>();
  readonly #applied = new Map<SpaceState, Sequence>();
  readonly #timer: NodeJS.Timeout | undefined;

  constructor(
    apply: NonNullable<NodeConfig['apply']>,
    appliedUpTo: NodeConfig['appliedUpTo'],
    reader: LogReader,
    wal: Wal,
    hooks: ApplyHooks,
  ) {
    this.#apply = apply;
    this.#appliedUpTo = appliedUpTo;
    this.#reader = reader;
    this.#wal = wal;
    this.#hooks = hooks;
    if (!appliedUpTo) {
      this.#timer = setInterval(() => void this.#record().catch(() => undefined), RECORD_EVERY_MS);
      this.#timer.unref();
    }
  }

  appliedTo(space: SpaceState): Sequence {
    return this.#applied.get(space) ?? space.facts.applied;
  }

  /** Starts applying a space; once. */
  start(space: SpaceState): void {
    if (this.#running.has(space)) return;
    this.#running.set(space, this.#keepRunning(space));
  }

  /** A log that cannot be read now may be readable later: told, and tried again. */
  async #keepRunning(space: SpaceState): Promise<void> {
    const { signal } = this.#stop;
    for (let attempts = 1; !signal.aborted; attempts++) {
      try {
        await this.#run(space);
        return;
      } catch (error) {
        this.#hooks.failed(space, this.appliedTo(space) + 1, attempts, error);
        await pause(backoff(attempts), signal);
      }
    }
  }

  async #run(space: SpaceState): Promise<void> {
    const { signal } = this.#stop;
    const applied = this.#applied.get(space) ?? (await this.#from(space));
    if (applied === undefined) return;
    this.#applied.set(space, applied);
    this.#hooks.applied(space, applied);
    for await (const entries of this.#reader.follow(space, applied + 1, signal)) {
      const from = entries[0]!.sequence;
      for (let attempts = 1; ; attempts++) {
        if (signal.aborted) return;
        try {
          await this.#apply(entries, { space: space.facts.name });
          break;
        } catch (error) {
          this.#hooks.failed(space, from, attempts, error);
          await pause(backoff(attempts), signal);
        }
      }
      const last = entries[entries.length - 1]!.sequence;
      this.#applied.set(space, last);
      this.#dirty.add(space);
      this.#hooks.applied(space, last);
    }
  }

  async #from(space: SpaceState): Promise<Sequence | undefined> {
    if (!this.#appliedUpTo) return space.facts.applied;
    for (let attempts = 1; !this.#stop.signal.aborted; attempts++) {
      try {
        const applied = await this.#appliedUpTo(space.facts.name);
        const log = space.facts.position.sequence;
        if (Number.isSafeInteger(applied) && applied >= 0 && applied <= log) return applied;
        this.#hooks.blocked(space, applied);
        return undefined;
      } catch (error) {
        this.#hooks.failed(space, 0, attempts, error);
        await pause(backoff(attempts), this.#stop.signal);
      }
    }
    return undefined;
  }

  async #record(): Promise<void> {
    const dirty = [...this.#dirty];
    this.#dirty.clear();
    await Promise.all(
      dirty.map(async (space) => {
        const sequence = this.appliedTo(space);
        await this.#wal.record({ kind: 'applied', id: space.facts.id, sequence });
        space.facts.applied = sequence;
      }),
    );
  }

  /** Waits for the calls that are under way and keeps what they have applied. */
  async close(): Promise<void> {
    clearInterval(this.#timer);
    this.#stop.abort();
    await Promise.all(this.#running.values());
    if (!this.#appliedUpTo && !this.#wal.failure) await this.#record();
  }
}

/** Every follower of a space listens for the end: no number of them is a leak. */
export function manyListeners(controller: AbortController): AbortController {
  setMaxListeners(0, controller.signal);
  return controller;
}

function backoff(attempts: number): number {
  return BACKOFF_STEPS_MS[Math.min(attempts, BACKOFF_STEPS_MS.length) - 1]!;
}

function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(done, ms);
    function done(): void {
      clearTimeout(timer);
      signal.removeEventListener('abort', done);
      resolve();
    }
    signal.addEventListener('abort', done, { once: true });
  });
}
