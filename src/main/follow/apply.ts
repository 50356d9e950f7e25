/**
 * Hands what is flushed to the host's apply callback: in order within a space, spaces
 * independent of each other, at least once. Where the host keeps no position of its own, the
 * applied sequence is kept by node records, so after a crash entries may come again, never be
 * skipped.
 */
import { setMaxListeners } from 'node:events';
import { failure } from '../../shared/errors.js';
import { CLOSE_DEADLINE_MS } from '../../shared/limits.js';
import type { Entry } from '../../shared/log/entry.js';
import { addSkip, checkSkip, rewoundTold, trulyApplied } from '../../shared/log/space-facts.js';
import type { Sequence } from '../../shared/position.js';
import type { SpaceState } from '../log/space-table.js';
import type { Wal } from '../log/wal.js';
import type { LogReader } from '../read/reader.js';
import { pause, withinFrom } from '../runtime/deadline.js';
import { type HostCallback, HostCalls, type SilentCall } from './host-calls.js';
import type { ApplyOptions } from './options.js';

const RECORD_EVERY_MS = 1_000;
const WHEN_APPLIED_POLL_MS = { first: 2, last: 32 } as const;

export interface ApplyHooks {
  applied(space: SpaceState, sequence: Sequence): void;
  failed(space: SpaceState, from: Sequence, attempts: number, error: unknown): void;
  /** The host cannot take this entry, or says that it has applied more than the log holds. */
  blocked(space: SpaceState, blocked: ApplyBlock): void;
  resumed(space: SpaceState, sequence: Sequence): void;
  skipped(space: SpaceState, sequence: Sequence): void;
}

/** Why nothing of a space is applied. */
export interface ApplyBlock {
  readonly sequence: Sequence;
  /**
   * `beyond-log`: the host has applied more than the log holds; `before-log`: so little that the
   * next entry is not retained; `rewound`: what was taken back, and gave no `rewound` to undo it;
   * `silent`: it has not come further for `hostTimeoutMs`.
   */
  readonly reason: 'poison' | 'beyond-log' | 'before-log' | 'rewound' | 'silent';
  /** Which one does not return, where it is `silent` by that. */
  readonly callback?: HostCallback;
  /** What the host threw, for an entry that is poison. */
  readonly error: unknown;
}

/** What hands the entries of one space to the host. */
interface Run {
  readonly stop: AbortController;
  done: Promise<void>;
}

export class Applier {
  readonly #options: ApplyOptions;
  readonly #reader: LogReader;
  readonly #wal: Wal;
  readonly #hooks: ApplyHooks;
  /** The path of a file in quarantine. */
  readonly #quarantineOf: (name: string) => string;
  /** Not to be applied, whoever starts them, until they are released. */
  readonly #halted = new Set<SpaceState>();
  /** The node closes: nothing more is handed out, and the host has 5 s to return. */
  readonly #closing: AbortSignal;
  readonly #runs = new Map<SpaceState, Run>();
  /** Applied and not yet in a node record. */
  readonly #dirty = new Set<SpaceState>();
  readonly #applied = new Map<SpaceState, Sequence>();
  readonly #blocked = new Map<SpaceState, ApplyBlock>();
  /** Ends the wait of a blocked space. */
  readonly #wake = new Map<SpaceState, () => void>();
  readonly #timer: NodeJS.Timeout | undefined;
  readonly #calls: HostCalls;

  constructor(
    options: ApplyOptions,
    reader: LogReader,
    wal: Wal,
    quarantineOf: (name: string) => string,
    hooks: ApplyHooks & { readonly closing: AbortSignal },
  ) {
    this.#closing = hooks.closing;
    // One listener for all runs: a signal of signals for each is not to be had for nothing.
    const endAll = (): void => {
      for (const { stop } of this.#runs.values()) stop.abort();
    };
    this.#closing.addEventListener('abort', endAll, { once: true });
    this.#quarantineOf = quarantineOf;
    this.#options = options;
    this.#reader = reader;
    this.#wal = wal;
    this.#hooks = hooks;
    this.#calls = new HostCalls(options.hostTimeoutMs, {
      silent: (space, call) => hooks.blocked(space, silentBlock(call)),
      returned: (space, { sequence }) => hooks.resumed(space, sequence),
    });
    if (!options.appliedUpTo) {
      this.#timer = setInterval(() => void this.#record().catch(() => undefined), RECORD_EVERY_MS);
      this.#timer.unref();
    }
  }

  /** Of the true history: what the host has yet to undo counts for nothing (row 110). */
  appliedTo(space: SpaceState): Sequence {
    return trulyApplied(space.facts, this.#appliedByHost(space));
  }

  #appliedByHost(space: SpaceState): Sequence {
    return this.#applied.get(space) ?? space.facts.applied;
  }

  /** What this node leads it hands to the host as what it follows. */
  get isWhenLeading(): boolean {
    return this.#options.applyWhenLeading;
  }

  /** The space is led, or followed, from now on. */
  roleChanged(space: SpaceState): void {
    // Its host has applied what it was handed, and nothing besides.
    if (this.isWhenLeading) space.hasLed = false;
    if (this.isWhenLeading || space.facts.role === 'replica') this.start(space);
  }

  /** Starts applying a space, once and not while it is halted; behind what `stop` has stopped. */
  start(space: SpaceState): void {
    const before = this.#runs.get(space);
    if (this.#halted.has(space) || this.#closing.aborted || (before && !before.stop.signal.aborted))
      return;
    const stop = manyListeners(new AbortController());
    const run: Run = { stop, done: before?.done ?? Promise.resolve() };
    const { signal } = stop;
    run.done = run.done.then(() => this.#keepRunning(space, signal));
    this.#runs.set(space, run);
  }

  /**
   * Hands out nothing more of the space. Resolves when no call of the host is under way. Rejects
   * Closed where the node closes and the host does not return.
   * @returns what stands in the way: a call that does not return
   */
  async stop(space: SpaceState): Promise<ApplyBlock | undefined> {
    const run = this.#runs.get(space);
    // Without a reason an error is made for each, with its stack.
    run?.stop.abort(STOPPED);
    if (!run) return undefined;
    const how = await this.#calls.unlessSilent(space, this.#returned(space, run));
    return how === 'silent' ? this.blockOf(space) : undefined;
  }

  async #returned(space: SpaceState, { done }: Run): Promise<void> {
    if ((await withinFrom(this.#closing, CLOSE_DEADLINE_MS, done)) !== 'late') return;
    throw failure(
      'Closed',
      `the host has not returned for ${space.facts.name} within 5 s of close()`,
    );
  }

  /**
   * The space is applied no more until it is released, then from where its host, or the facts, say
   * that it stands. Resolves when no call of the host is under way. Rejects SnapshotFailed, and
   * Closed, where one does not return.
   */
  async halt(space: SpaceState): Promise<void> {
    this.#halted.add(space);
    const block = await this.stop(space);
    if (block) throw failure('SnapshotFailed', `${space.facts.name}: ${this.textOf(block)}`);
    this.forget(space);
    this.#blocked.delete(space);
  }

  release(space: SpaceState): void {
    if (this.#halted.delete(space)) this.start(space);
  }

  /** What is applied of the space is not known here any more: asked, or read, when it starts. */
  forget(space: SpaceState): void {
    this.#applied.delete(space);
    this.#dirty.delete(space);
  }

  /**
   * Resolves when the host has undone what was taken back and applied the space up to `sequence`,
   * or cannot: it is blocked, does not come further for `hostTimeoutMs`, or nothing is applied here
   * at all. @returns what stands in the way, if something does. Rejects Closed.
   */
  async whenApplied(space: SpaceState, sequence: Sequence): Promise<ApplyBlock | undefined> {
    const { facts } = space;
    const isDue = (): boolean =>
      facts.rewinds.length > 0 ||
      (this.#options.apply !== undefined && this.appliedTo(space) < sequence);
    let reached = '';
    let sinceMs = performance.now();
    let pollMs: number = WHEN_APPLIED_POLL_MS.first;
    while (isDue() || this.#calls.silentOf(space)) {
      const block = this.blockOf(space);
      if (block) return block;
      if (this.#closing.aborted) throw failure('Closed', 'the node closes');
      const applied = this.appliedTo(space);
      const now = `${facts.rewinds.length} ${applied}`;
      if (now !== reached) sinceMs = performance.now();
      // Thousands may wait for one slow host: seldom, where nothing moves.
      const { first, last } = WHEN_APPLIED_POLL_MS;
      pollMs = now === reached ? Math.min(last, 2 * pollMs) : first;
      reached = now;
      if (performance.now() - sinceMs >= this.#calls.timeoutMs) {
        const still: ApplyBlock = { sequence: applied + 1, reason: 'silent', error: undefined };
        return this.blockOf(space) ?? still;
      }
      await pause(pollMs, this.#closing);
    }
    return undefined;
  }

  /** Whether who asks is called by a callback for this space, and so would wait for himself. */
  isInside(space: SpaceState): boolean {
    return this.#calls.isInside(space);
  }

  /** What stands in the way, in words. */
  textOf({ sequence, reason, callback }: ApplyBlock): string {
    const ms = this.#calls.timeoutMs;
    if (callback) return `the host's ${callback}() has not returned for ${ms} ms`;
    if (reason === 'silent') return `the host has not come beyond ${sequence - 1} for ${ms} ms`;
    return `applying is blocked at ${sequence} (${reason})`;
  }

  /** A log that cannot be read now may be readable later: told, and tried again. */
  async #keepRunning(space: SpaceState, signal: AbortSignal): Promise<void> {
    this.#blocked.delete(space);
    for (let attempts = 1; !signal.aborted; attempts++) {
      try {
        if (!(await this.#tellRewinds(space, signal))) return;
        await this.#run(space, signal);
        return;
      } catch (error) {
        if (signal.aborted) return;
        this.#hooks.failed(space, this.appliedTo(space) + 1, attempts, error);
        await pause(this.#backoff(attempts), signal);
      }
    }
  }

  /**
   * The host undoes what was taken back before anything of it is applied again; told again after a
   * crash until it has returned. @returns false where nothing may be applied
   */
  async #tellRewinds(space: SpaceState, signal: AbortSignal): Promise<boolean> {
    const { facts } = space;
    const { apply, rewound, appliedUpTo } = this.#options;
    while (facts.rewinds.length > 0) {
      const { from, to, quarantine } = facts.rewinds[0]!;
      if (signal.aborted) return false;
      if (rewound) {
        const range = { from, to, quarantine: this.#quarantineOf(quarantine) };
        await this.#calls.run(space, 'rewound', from, () => rewound(facts.name, range));
      } else if (!apply) {
        return false;
      } else {
        const applied = appliedUpTo ? await this.#asked(space) : this.#appliedByHost(space);
        // What is no sequence says nothing of what the host has undone.
        if (!(applied < from)) return this.#setBlocked(space, applied, 'rewound');
      }
      await this.#wal.record({ kind: 'rewound', id: facts.id, from, to }, () => {
        rewoundTold(facts, from, to);
        const applied = this.#applied.get(space);
        if (applied !== undefined) this.#applied.set(space, Math.min(applied, from - 1));
      });
    }
    return apply !== undefined;
  }

  async #asked(space: SpaceState): Promise<Sequence> {
    const { appliedUpTo } = this.#options;
    return await this.#calls.run(space, 'appliedUpTo', 0, () => appliedUpTo!(space.facts.name));
  }

  #setBlocked(space: SpaceState, sequence: Sequence, reason: ApplyBlock['reason']): false {
    const block: ApplyBlock = { sequence, reason, error: undefined };
    this.#blocked.set(space, block);
    this.#hooks.blocked(space, block);
    return false;
  }

  async #run(space: SpaceState, signal: AbortSignal): Promise<void> {
    const applied = this.#applied.get(space) ?? (await this.#from(space, signal));
    if (applied === undefined || signal.aborted) return;
    this.#applied.set(space, applied);
    this.#hooks.applied(space, applied);
    for await (const entries of this.#reader.follow(space, applied + 1, signal)) {
      const { sequence } = entries[entries.length - 1]!;
      if (!(await this.#hand(space, entries, signal))) return;
      this.#reached(space, sequence, signal);
    }
  }

  #reached(space: SpaceState, sequence: Sequence, signal: AbortSignal): void {
    this.#applied.set(space, sequence);
    this.#dirty.add(space);
    // Once it was stopped the entry may be void; that the host has applied it stays true.
    if (!signal.aborted) this.#hooks.applied(space, sequence);
  }

  /** @returns false when applying was stopped before the host has taken them */
  async #hand(space: SpaceState, entries: readonly Entry[], signal: AbortSignal): Promise<boolean> {
    const { applyRetries } = this.#options;
    const { sequence: from } = entries[0]!;
    const { sequence: to } = entries[entries.length - 1]!;
    let wanted = wantedOf(space, entries);
    if (wanted.length === 0) return true;
    let error: unknown;
    for (let attempts = 1; attempts <= applyRetries; attempts++) {
      if (signal.aborted) return false;
      const tried = await this.#try(space, wanted, attempts);
      if (tried === undefined) return true;
      error = tried.error;
      await pause(this.#backoff(attempts), signal);
      wanted = wantedOf(space, await this.#again(space, from, to));
      if (wanted.length === 0) return !signal.aborted;
    }
    if (wanted.length === 1) return await this.#block(space, wanted[0]!.sequence, error, signal);
    // One of them is poison: one by one, so that it alone blocks.
    for (const entry of wanted) {
      const { sequence } = entry;
      if (!(await this.#hand(space, [entry], signal))) return false;
      this.#reached(space, sequence, signal);
    }
    return true;
  }

  /** As the log has them: the host may have changed what it was given before (row 83). */
  async #again(space: SpaceState, from: Sequence, to: Sequence): Promise<Entry[]> {
    const read: Entry[] = [];
    for await (const entries of this.#reader.read(space, from, to)) read.push(...entries);
    return read;
  }

  /** @returns what the host threw, if it did */
  async #try(
    space: SpaceState,
    entries: Entry[],
    attempts: number,
  ): Promise<{ error: unknown } | undefined> {
    const { sequence: from } = entries[0]!;
    const { epoch, sequence } = entries[entries.length - 1]!;
    const { name, role } = space.facts;
    const context = { space: name, position: { epoch, sequence }, role };
    try {
      await this.#calls.run(space, 'apply', from, () => this.#options.apply!(entries, context));
      return undefined;
    } catch (error) {
      this.#hooks.failed(space, from, attempts, error);
      return { error };
    }
  }

  /** Visibly, until the host takes the entry after all or somebody skips it (row 52). */
  async #block(
    space: SpaceState,
    sequence: Sequence,
    error: unknown,
    signal: AbortSignal,
  ): Promise<boolean> {
    const { backoffStepsMs, applyRetries } = this.#options;
    const block: ApplyBlock = { sequence, reason: 'poison', error };
    this.#blocked.set(space, block);
    this.#hooks.blocked(space, block);
    for (let attempts = applyRetries + 1; !signal.aborted; attempts++) {
      const woken = new AbortController();
      this.#wake.set(space, () => woken.abort());
      await pause(backoffStepsMs.at(-1)!, AbortSignal.any([signal, woken.signal]));
      if (signal.aborted) return false;
      const isSkipped = space.facts.skipped.includes(sequence);
      const entries = isSkipped ? [] : await this.#again(space, sequence, sequence);
      if (!isSkipped && (await this.#try(space, entries, attempts))) continue;
      this.#wake.delete(space);
      this.#blocked.delete(space);
      this.#hooks.resumed(space, sequence);
      return true;
    }
    return false;
  }

  /** Why nothing of the space is applied, if so. */
  blockOf(space: SpaceState): ApplyBlock | undefined {
    const silent = this.#calls.silentOf(space);
    return silent ? silentBlock(silent) : this.#blocked.get(space);
  }

  /**
   * The host is never given this entry again: durable when it resolves. Rejects Configuration when
   * it is not the entry at which the space is blocked.
   */
  async skip(space: SpaceState, sequence: Sequence): Promise<void> {
    const { facts } = space;
    const blocked = this.#blocked.get(space);
    if (blocked?.reason !== 'poison' || blocked.sequence !== sequence) {
      const at = blocked ? `blocked at ${blocked.sequence} (${blocked.reason})` : 'not blocked';
      throw failure('Configuration', `entry ${sequence} of ${facts.name}: applying is ${at}`);
    }
    checkSkip(facts);
    await this.#wal.record({ kind: 'skip', id: facts.id, sequence }, () =>
      addSkip(facts, sequence),
    );
    this.#hooks.skipped(space, sequence);
    this.#wake.get(space)?.();
  }

  async #from(space: SpaceState, signal: AbortSignal): Promise<Sequence | undefined> {
    const { appliedUpTo } = this.#options;
    if (!appliedUpTo) return space.facts.applied;
    for (let attempts = 1; !signal.aborted; attempts++) {
      try {
        const applied = await this.#asked(space);
        const { position, first } = space.facts;
        const isSound = Number.isSafeInteger(applied) && applied >= 0;
        if (isSound && applied <= position.sequence && applied >= first - 1) return applied;
        this.#setBlocked(space, applied, isSound && applied < first ? 'before-log' : 'beyond-log');
        return undefined;
      } catch (error) {
        this.#hooks.failed(space, 0, attempts, error);
        await pause(this.#backoff(attempts), signal);
      }
    }
    return undefined;
  }

  #backoff(attempts: number): number {
    const steps = this.#options.backoffStepsMs;
    return steps[Math.min(attempts, steps.length) - 1]!;
  }

  async #record(): Promise<void> {
    const dirty = [...this.#dirty];
    this.#dirty.clear();
    await Promise.all(
      dirty.map(async (space) => {
        const { facts } = space;
        // What it leads it has applied itself, unless it is handed that.
        if (facts.role === 'primary' && !this.isWhenLeading) return;
        const sequence = this.appliedTo(space);
        await this.#wal.record({ kind: 'applied', id: facts.id, sequence }, () => {
          // A snapshot may have brought it farther meanwhile.
          facts.applied = Math.max(facts.applied, sequence);
        });
      }),
    );
  }

  /**
   * Waits for the calls that are under way, 5 s at most, and keeps what they have applied. What
   * returns later counts for nothing: those entries come again.
   */
  async close(): Promise<void> {
    clearInterval(this.#timer);
    const runs = [...this.#runs].map(async ([space, run]) => {
      await this.#returned(space, run).catch((error) =>
        this.#hooks.failed(space, this.appliedTo(space) + 1, 1, error),
      );
    });
    await Promise.all(runs);
    if (!this.#options.appliedUpTo && !this.#wal.failure) await this.#record();
  }
}

const STOPPED = 'applying was stopped';

function silentBlock({ callback, sequence }: SilentCall): ApplyBlock {
  return { sequence, reason: 'silent', callback, error: undefined };
}

/** Without those that somebody has said the host does without. */
function wantedOf({ facts }: SpaceState, entries: readonly Entry[]): Entry[] {
  return entries.filter((e) => !facts.skipped.includes(e.sequence));
}

/** Every follower of a space listens for the end: no number of them is a leak. */
export function manyListeners(controller: AbortController): AbortController {
  setMaxListeners(0, controller.signal);
  return controller;
}
