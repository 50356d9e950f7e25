/**
 * Waiting on any node for an entry that was acknowledged on another one: a token, the sequence and
 * epoch of an append, says which one is meant, whatever becomes of the histories meanwhile.
 */
import { type EngramError, failure } from '../../../shared/errors.js';
import type { Sequence } from '../../../shared/position.js';
import { epochAt } from '../../log/host-entries.js';
import type { DurableWait, HostWait, SpaceState } from '../../log/space-table.js';
import { rewoundError } from '../../log/space-table.js';
import { pause, within } from '../../runtime/deadline.js';
import type { Appended } from './options.js';
import type { SpaceParts } from './parts.js';

/** How often is looked again where nothing tells that something has changed. */
const LOOK_AGAIN_MS = 50;
/** A leader that gives no answer, or leads no more, is asked for again. */
const ASK_AGAIN_MS = 100;

/** What is waited for next, of a space that is not there yet; undefined: nobody tells of it. */
interface Due {
  readonly durable: Sequence | undefined;
  readonly applied: Sequence | undefined;
}

export class Waits {
  readonly #parts: SpaceParts;
  readonly #space: SpaceState;

  constructor(parts: SpaceParts, space: SpaceState) {
    this.#parts = parts;
    this.#space = space;
  }

  /** See Space.waitFor. */
  async until(token: Appended, isApplied: boolean, timeoutMs: number): Promise<void> {
    this.#checkApplies(isApplied);
    await this.#until(token, isApplied, performance.now() + timeoutMs);
  }

  #checkApplies(isApplied: boolean): void {
    if (!isApplied || this.#parts.config.apply) return;
    throw failure('Configuration', 'applied: true, on a node without apply');
  }

  async #until(token: Appended, isApplied: boolean, untilMs: number): Promise<void> {
    const sinceMs = performance.now();
    for (;;) {
      const due = this.#due(token, isApplied);
      if (!due) return;
      if (this.#parts.stop.aborted) throw failure('Closed', 'waitFor, and the node closes');
      const leftMs = untilMs - performance.now();
      if (leftMs <= 0) throw this.#lateError(token, isApplied, performance.now() - sinceMs);
      await this.#changed(due, due.durable || due.applied ? leftMs : LOOK_AGAIN_MS);
    }
  }

  /** @returns undefined: it is here. Throws Rewound where history has another entry there. */
  #due({ sequence, epoch }: Appended, isApplied: boolean): Due | undefined {
    if (sequence === 0) return undefined;
    const { memory } = this.#parts;
    const { facts, slot } = this.#space;
    const durable = memory.durable(slot);
    const later = facts.history.find((row) => row.epoch > epoch && row.startSequence <= sequence);
    if (later) throw rewoundError(this.#space, later.startSequence);
    if (durable < sequence) {
      // In a later epoch the next entry may tell already that what is meant never comes.
      return { durable: facts.epoch > epoch ? durable + 1 : sequence, applied: undefined };
    }
    // What is there is of an older epoch, and will be taken back.
    if ((epochAt(this.#space, sequence, durable) ?? epoch) < epoch) {
      return { durable: undefined, applied: undefined };
    }
    if (!isApplied || this.#parts.hostAppliedTo(this.#space) >= sequence) return undefined;
    return { durable: undefined, applied: sequence };
  }

  /** Resolves when it is to be looked at again, after `ms` at the latest. */
  #changed({ durable, applied }: Due, ms: number): Promise<void> {
    const { wal, applied: appliedWaits, stop } = this.#parts;
    const space = this.#space;
    return new Promise((resolve, reject) => {
      const over = (): void => {
        clearTimeout(timer);
        space.hostWaits.delete(history);
        if (isDurable) space.durableWaits.delete(isDurable);
        if (isApplied) appliedWaits.delete(space, isApplied);
        stop.removeEventListener('abort', wake);
      };
      const wake = (): void => {
        over();
        resolve();
      };
      const failed = (error: Error): void => {
        over();
        // What was staged is lost, and others may come in its place.
        if (wal.failure) reject(error);
        else resolve();
      };
      const timer = setTimeout(wake, ms);
      // Whatever history does: the token says which one is meant.
      const history: HostWait = { replicas: 0, reject: wake };
      const isDurable: DurableWait | undefined =
        durable === undefined ? undefined : { sequence: durable, resolve: wake, reject: failed };
      const isApplied = applied === undefined ? undefined : { sequence: applied, resolve: wake };
      space.hostWaits.add(history);
      stop.addEventListener('abort', wake, { once: true });
      if (isApplied) appliedWaits.add(space, isApplied);
      if (isDurable) wal.addWait(space, isDurable);
    });
  }

  #lateError({ sequence, epoch }: Appended, isApplied: boolean, waitedMs: number): EngramError {
    const { memory } = this.#parts;
    const { facts, slot } = this.#space;
    const durableSequence = memory.durable(slot);
    const appliedSequence = this.#parts.hostAppliedTo(this.#space);
    const details = { sequence, epoch, durableSequence, appliedSequence, applied: isApplied };
    const here = isApplied ? `applied here: ${appliedSequence}` : `here: ${durableSequence}`;
    const found = `entry ${sequence} of epoch ${epoch} of ${facts.name} has not come`;
    return failure('AckTimeout', `${found} in ${Math.round(waitedMs)} ms; ${here}`, { details });
  }

  /** See Space.catchUp. */
  async caughtUp(isApplied: boolean, timeoutMs: number): Promise<Appended> {
    this.#checkApplies(isApplied);
    if (this.#parts.stop.aborted) throw failure('Closed', 'catchUp on a closed node');
    const untilMs = performance.now() + timeoutMs;
    const askedMs = performance.now();
    const tip = await this.#tip(untilMs);
    await this.#until(tip, isApplied, untilMs);
    const space = this.#space;
    space.freshAtMs = Math.max(space.freshAtMs ?? 0, askedMs);
    return { sequence: tip.sequence, epoch: tip.epoch };
  }

  /** Who leads may change meanwhile: asked for until the time is up. */
  async #tip(untilMs: number): Promise<Appended> {
    const { stop, tipOf } = this.#parts;
    for (;;) {
      let reason: unknown;
      const asked = tipOf(this.#space).catch((error) => {
        reason = error;
      });
      const tip = await within(asked, Math.max(1, untilMs - performance.now()));
      if (tip && tip !== 'late') return tip;
      if (stop.aborted) throw failure('Closed', 'catchUp, and the node closes');
      const leftMs = untilMs - performance.now();
      if (leftMs <= 0) throw reason ?? failure('ConnectionTimeout', 'the leader gives no answer');
      await pause(Math.min(ASK_AGAIN_MS, leftMs), stop);
    }
  }
}
