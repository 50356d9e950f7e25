/** Work that is cut into turns of the event loop, so that nothing else waits for all of it. */
import { EngramError } from '../../shared/errors.js';
import { CHANGES_A_TURN, SPACES_A_TURN } from '../../shared/limits.js';
import type { Effort } from '../../shared/log/slot.js';

/** Resolves when others have had their turn. */
export function nextTurn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

/** What is left of this turn. Count down `spaces` for each space that is looked at. */
export class Turns implements Effort {
  spaces = SPACES_A_TURN;

  get isOver(): boolean {
    return this.spaces <= 0;
  }

  /** Lets others have their turn, then begins another one. */
  async next(): Promise<void> {
    await nextTurn();
    this.spaces = SPACES_A_TURN;
  }
}

/**
 * Does the same for all, so many beside each other that they share an fdatasync, and no more.
 * Rejects with the first failure once those beside it are over; what comes behind is not begun.
 */
export async function inParts<T, R>(
  all: readonly T[],
  work: (one: T) => Promise<R> | R,
): Promise<R[]> {
  const done: R[] = [];
  for (let i = 0; i < all.length; i += CHANGES_A_TURN) {
    const part = await Promise.allSettled(all.slice(i, i + CHANGES_A_TURN).map(work));
    for (const one of part) {
      if (one.status === 'rejected') throw one.reason;
      done.push(one.value);
    }
  }
  return done;
}

/** The same for work that is asked for bit by bit: the rest waits, in order. */
export class Gate {
  #free: number;
  readonly #waiting: (() => void)[] = [];

  /** @param most that are under way at once */
  constructor(most = CHANGES_A_TURN) {
    this.#free = most;
  }

  /** @param work that waits for nobody who may wait here */
  async through<T>(work: () => Promise<T>): Promise<T> {
    if (this.#free > 0) this.#free--;
    else await new Promise<void>((resolve) => this.#waiting.push(resolve));
    try {
      return await work();
    } finally {
      // The place goes to the next one, if one waits.
      const next = this.#waiting.shift();
      if (next) next();
      else this.#free++;
    }
  }
}

/** It is the member that does not answer, whatever it was asked. */
const SILENCE: ReadonlySet<string> = new Set([
  'ConnectionLost',
  'ConnectionRefused',
  'ConnectionTimeout',
  'NotEnoughReplicas',
]);

/** A gate for each member, until it is found silent: whoever waits there then waits no longer. */
export class MemberGates {
  readonly #most: number;
  readonly #gates = new Map<string, { gate: Gate; users: number; silence?: EngramError }>();

  /** @param most that are under way at once with one member */
  constructor(most: number) {
    this.#most = most;
  }

  /** As `Gate.through`. Rejects as the work of another one that has met silence meanwhile. */
  async through<T>(nodeId: string, work: () => Promise<T>): Promise<T> {
    const known = this.#gates.get(nodeId) ?? { gate: new Gate(this.#most), users: 0 };
    this.#gates.set(nodeId, known);
    const before = known.silence;
    known.users++;
    try {
      return await known.gate.through(async () => {
        if (known.silence && known.silence !== before) throw known.silence;
        try {
          return await work();
        } catch (error) {
          // Before the next one has its turn.
          if (error instanceof EngramError && SILENCE.has(error.code)) known.silence = error;
          throw error;
        }
      });
    } finally {
      if (--known.users === 0) this.#gates.delete(nodeId);
    }
  }
}

/** What work gives, together what is done together. Rejects with the first failure. */
export async function* asDone<T>(all: readonly Promise<T>[]): AsyncGenerator<T[]> {
  let done: T[] = [];
  let failed: { readonly error: unknown } | undefined;
  let wake = (): void => undefined;
  for (const one of all) {
    one.then(
      (value) => {
        done.push(value);
        wake();
      },
      (error: unknown) => {
        failed ??= { error };
        wake();
      },
    );
  }
  for (let left = all.length; left > 0; ) {
    if (done.length === 0 && !failed) {
      await new Promise<void>((resolve) => {
        wake = resolve;
      });
      // What one fdatasync has settled comes in one turn.
      await nextTurn();
    }
    if (failed) throw failed.error;
    const part = done;
    done = [];
    left -= part.length;
    yield part;
  }
}
