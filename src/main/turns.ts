/** Work that is cut into turns of the event loop, so that nothing else waits for all of it. */
import { SPACES_A_TURN } from '../shared/limits.js';
import type { Effort } from '../shared/slot.js';

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
export async function inParts<T, R>(all: readonly T[], work: (one: T) => Promise<R>): Promise<R[]> {
  const done: R[] = [];
  for (let i = 0; i < all.length; i += SPACES_A_TURN) {
    const part = await Promise.allSettled(all.slice(i, i + SPACES_A_TURN).map(work));
    for (const one of part) {
      if (one.status === 'rejected') throw one.reason;
      done.push(one.value);
    }
  }
  return done;
}
