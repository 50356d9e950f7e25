/**
 * Virtual time for a whole cluster in one thread. While it is installed, the timers, clocks and
 * chance of the process, and waiting on shared words, are its own; each belongs to the process
 * (or thread) that was running when it was made. What is killed never runs again; what is stopped
 * runs when it goes on. The machine of what sleeps is suspended: its monotonic clock stands still,
 * and its timers with it, while its uptime and everybody else's time go on. Nothing here waits for
 * real time, so a seed repeats a run exactly.
 */

import { AsyncLocalStorage } from 'node:async_hooks';
import crypto, { createHash } from 'node:crypto';
import { syncBuiltinESMExports } from 'node:module';
import os from 'node:os';
import type { Chance } from '../support/fake-disk.js';

/** A process, or a thread in it. */
export class Owner {
  readonly name: string;
  readonly #parent: Owner | undefined;
  #isKilled = false;
  #isStopped = false;
  #asleepSinceMs: number | undefined;
  /** Of its machine: how long its monotonic clock has stood still. */
  sleptMs = 0;
  /** How far its wall clock is off, ms. */
  wallOffsetMs = 0;
  /** When it was made, or went on last. */
  sinceMs = 0;
  /** Timers that came due while it was stopped. */
  readonly held: Timer[] = [];

  constructor(name: string, parent?: Owner) {
    this.name = name;
    this.#parent = parent;
  }

  get isDead(): boolean {
    return this.#isKilled || (this.#parent?.isDead ?? false);
  }
  /** Who must go on before it does, if anybody. */
  get stopped(): Owner | undefined {
    return this.#isStopped ? this : this.#parent?.stopped;
  }
  get wallMs(): number {
    return this.wallOffsetMs + (this.#parent?.wallMs ?? 0);
  }
  /** How far its monotonic clock is behind its uptime, ms. */
  get behindMs(): number {
    return this.sleptMs + (this.#parent?.behindMs ?? 0);
  }
  isPartOf(other: Owner): boolean {
    return this === other || (this.#parent?.isPartOf(other) ?? false);
  }
  kill(): void {
    this.#isKilled = true;
    this.held.length = 0;
  }
  stop(): void {
    this.#isStopped = true;
  }
  /** Stopped, and its machine with it. */
  sleep(nowMs: number): void {
    this.#isStopped = true;
    this.#asleepSinceMs ??= nowMs;
  }
  /** @returns what it has missed, and for how long it has slept */
  goOn(nowMs: number): { missed: Timer[]; asleepMs: number } {
    const asleepMs = nowMs - (this.#asleepSinceMs ?? nowMs);
    this.#isStopped = false;
    this.#asleepSinceMs = undefined;
    this.sleptMs += asleepMs;
    return { missed: this.held.splice(0), asleepMs };
  }
}

class Timer {
  isCancelled = false;
  readonly clock: VirtualClock;
  at: number;
  order: number;
  readonly owner: Owner | undefined;
  readonly run: () => void;
  readonly everyMs: number | undefined;
  /** By the monotonic clock of its owner, not by what happens around it. */
  isOwn = false;

  constructor(
    clock: VirtualClock,
    at: number,
    order: number,
    owner: Owner | undefined,
    run: () => void,
    everyMs: number | undefined,
  ) {
    this.clock = clock;
    this.at = at;
    this.order = order;
    this.owner = owner;
    this.run = run;
    this.everyMs = everyMs;
  }
  ref(): this {
    return this;
  }
  unref(): this {
    return this;
  }
  hasRef(): boolean {
    return true;
  }
  close(): this {
    this.isCancelled = true;
    return this;
  }
  [Symbol.dispose](): void {
    this.isCancelled = true;
  }
}

interface WordWait {
  readonly owner: Owner | undefined;
  readonly resolve: (value: string) => void;
}

type AnyFunction = (...values: unknown[]) => unknown;

/** 2026-01-01, so that stamps look like stamps. */
const WALL_START_MS = 1_767_225_600_000;
const realImmediate = globalThis.setImmediate;

/**
 * Whose code is running. One for all clocks: Node hands on every one that was ever used to each
 * promise that is made.
 */
const CURRENT = new AsyncLocalStorage<Owner | undefined>();

export class VirtualClock {
  readonly #chance: Chance;
  readonly #heap: Timer[] = [];
  readonly #waits = new Map<SharedArrayBuffer, Map<number, WordWait[]>>();
  #order = 0;
  #drawn = 0;
  nowMs = 0;
  /** Timers that have run. */
  events = 0;

  constructor(chance: Chance) {
    this.#chance = chance;
  }

  get owner(): Owner | undefined {
    return CURRENT.getStore();
  }

  /** Runs `work` as a part of `owner`; what it leads to belongs to it, too. */
  as<T>(owner: Owner | undefined, work: () => T): T {
    return CURRENT.run(owner, work);
  }

  /** Calls `run` after `ms` as a part of `owner`. */
  after(ms: number, owner: Owner | undefined, run: () => void, everyMs?: number): Timer {
    const timer = new Timer(this, this.nowMs + ms, ++this.#order, owner, run, everyMs);
    this.#push(timer);
    return timer;
  }

  goOn(owner: Owner): void {
    owner.sinceMs = this.nowMs;
    const { missed, asleepMs } = owner.goOn(this.nowMs);
    const isLater = ({ isOwn, at }: Timer): boolean => isOwn && at > this.nowMs - asleepMs;
    if (asleepMs > 0) {
      const waiting = this.#heap.splice(0);
      for (const timer of waiting) {
        if (isLater(timer) && timer.owner?.isPartOf(owner)) timer.at += asleepMs;
        this.#push(timer);
      }
    }
    for (const timer of missed) {
      timer.at = isLater(timer) ? timer.at + asleepMs : this.nowMs;
      timer.order = ++this.#order;
      this.#push(timer);
    }
  }

  /** Lets virtual time pass. */
  async runFor(ms: number): Promise<void> {
    const end = this.nowMs + ms;
    for (;;) {
      await settled();
      const timer = this.#heap[0];
      if (!timer || timer.at > end) break;
      this.#pop();
      if (timer.isCancelled || timer.owner?.isDead) continue;
      const stopped = timer.owner?.stopped;
      if (stopped) {
        stopped.held.push(timer);
        continue;
      }
      this.nowMs = Math.max(this.nowMs, timer.at);
      this.events++;
      if (timer.everyMs !== undefined) {
        timer.at = this.nowMs + timer.everyMs;
        timer.order = ++this.#order;
        this.#push(timer);
      }
      this.as(timer.owner, timer.run);
    }
    this.nowMs = end;
  }

  // --- a heap, earliest first ------------------------------------------------------------------

  #push(timer: Timer): void {
    const heap = this.#heap;
    let at = heap.push(timer) - 1;
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (!isBefore(timer, heap[parent]!)) break;
      heap[at] = heap[parent]!;
      at = parent;
    }
    heap[at] = timer;
  }

  #pop(): void {
    const heap = this.#heap;
    const last = heap.pop()!;
    if (heap.length === 0) return;
    let at = 0;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= heap.length) break;
      if (child + 1 < heap.length && isBefore(heap[child + 1]!, heap[child]!)) child++;
      if (!isBefore(heap[child]!, last)) break;
      heap[at] = heap[child]!;
      at = child;
    }
    heap[at] = last;
  }

  // --- the process ---------------------------------------------------------------------------

  /** Puts this clock in the place of the process's own. @returns what takes it away again */
  install(): () => void {
    const undo: (() => void)[] = [];
    const replace = (target: object, name: string, value: unknown): void => {
      const before = Object.getOwnPropertyDescriptor(target, name);
      Object.defineProperty(target, name, { value, configurable: true, writable: true });
      undo.push(() => {
        if (before) Object.defineProperty(target, name, before);
        else delete (target as Record<string, unknown>)[name];
      });
    };
    const timer =
      (isRepeated: boolean) =>
      (run: AnyFunction, ms = 1, ...values: unknown[]) => {
        const wait = Math.max(1, Number(ms) || 1);
        const every = isRepeated ? wait : undefined;
        const made = this.after(wait, this.owner, () => run(...values), every);
        made.isOwn = true;
        return made;
      };
    const cancel = (timer: Timer | undefined): void => {
      if (timer) timer.isCancelled = true;
    };
    replace(globalThis, 'setTimeout', timer(false));
    replace(globalThis, 'setInterval', timer(true));
    replace(globalThis, 'setImmediate', (run: AnyFunction, ...values: unknown[]) =>
      this.after(0, this.owner, () => run(...values)),
    );
    for (const name of ['clearTimeout', 'clearInterval', 'clearImmediate']) {
      replace(globalThis, name, cancel);
    }
    replace(performance, 'now', () => this.nowMs - (this.owner?.behindMs ?? 0));
    replace(os, 'uptime', () => this.nowMs / 1_000);
    replace(Date, 'now', () => Math.floor(WALL_START_MS + this.nowMs + (this.owner?.wallMs ?? 0)));
    replace(Math, 'random', () => this.#chance(2 ** 30) / 2 ** 30);
    replace(crypto, 'randomBytes', (size: number) => this.#randomBytes(size));
    syncBuiltinESMExports();
    replace(Atomics, 'waitAsync', (words: Int32Array, index: number, seen: number) =>
      this.#waitWord(words, index, seen),
    );
    replace(Atomics, 'notify', (words: Int32Array, index: number) => this.#notify(words, index));
    replace(AbortSignal, 'any', anyOf);
    return () => {
      for (const one of undo.reverse()) one();
      syncBuiltinESMExports();
    };
  }

  /** Salts, nonces and incarnations: with those of the system no seed replays exactly. */
  #randomBytes(size: number): Buffer {
    const hash = createHash('shake256', { outputLength: size });
    return hash.update(`${this.nowMs} ${++this.#drawn}`).digest();
  }

  #waitWord(words: Int32Array, index: number, seen: number): object {
    if (Atomics.load(words, index) !== seen) return { async: false, value: 'not-equal' };
    const value = new Promise<string>((resolve) => {
      const buffer = words.buffer as SharedArrayBuffer;
      const rows = this.#waits.get(buffer) ?? new Map<number, WordWait[]>();
      this.#waits.set(buffer, rows);
      const at = words.byteOffset + 4 * index;
      rows.set(at, [...(rows.get(at) ?? []), { owner: this.owner, resolve }]);
    });
    return { async: true, value };
  }

  #notify(words: Int32Array, index: number): number {
    const rows = this.#waits.get(words.buffer as SharedArrayBuffer);
    const at = words.byteOffset + 4 * index;
    const waits = rows?.get(at) ?? [];
    rows?.delete(at);
    for (const { owner, resolve } of waits) this.after(0, owner, () => resolve('ok'));
    return waits.length;
  }
}

function isBefore(a: Timer, b: Timer): boolean {
  return a.at < b.at || (a.at === b.at && a.order < b.order);
}

/** Node's own lives while it has a listener; those of a process that was killed keep theirs. */
function anyOf(signals: readonly AbortSignal[]): AbortSignal {
  const any = new AbortController();
  for (const signal of signals) {
    if (signal.aborted) any.abort(signal.reason);
    else signal.addEventListener('abort', () => any.abort(signal.reason), { once: true });
  }
  return any.signal;
}

/** Until nothing is left that needs no timer. */
function settled(): Promise<void> {
  return new Promise((resolve) => realImmediate(resolve));
}
