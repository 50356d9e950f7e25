/**
 * Changes of roles, each durable before the next begins: those of one space one after the other,
 * those of several spaces beside each other (a lost node leaves many to be led), and what concerns
 * the node alone with nothing beside it. In the order of the calls.
 */
import type { SpaceState } from './space-table.js';

export class RoleQueue {
  /** Settles when the last change of the whole node is over. */
  #all: Promise<unknown> = Promise.resolve();
  /** The last change of each space that was asked for since. */
  readonly #spaces = new Map<SpaceState, Promise<unknown>>();

  /** @param space that it concerns alone; undefined: nothing else may go on meanwhile */
  run<T>(work: () => Promise<T>, space?: SpaceState): Promise<T> {
    const before = space ? (this.#spaces.get(space) ?? this.#all) : this.settled;
    const done = before.then(work);
    const over = done.catch(() => undefined);
    if (space) {
      this.#spaces.set(space, over);
      void over.then(() => {
        if (this.#spaces.get(space) === over) this.#spaces.delete(space);
      });
    } else {
      this.#all = over;
      this.#spaces.clear();
    }
    return done;
  }

  /** Resolves when no change is under way that has been asked for. */
  get settled(): Promise<unknown> {
    return Promise.all([this.#all, ...this.#spaces.values()]);
  }
}
