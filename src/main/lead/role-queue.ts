/**
 * Changes of roles, each durable before the next begins: those of one space one after the other,
 * those of several spaces beside each other (a lost node leaves many to be led), and what concerns
 * the node alone with nothing beside it. In the order of the calls.
 */

export class RoleQueue {
  /** Settles when the last change of the whole node is over. */
  #all: Promise<unknown> = Promise.resolve();
  /** How many changes of the whole node are not over. */
  #ofAll = 0;
  /** The last change of each space, by its id, that was asked for since. */
  readonly #spaces = new Map<string, Promise<unknown>>();

  /**
   * @param id of the space that it concerns alone, known here or not; undefined: nothing else may
   *   go on meanwhile
   */
  run<T>(work: () => Promise<T>, id?: string): Promise<T> {
    const before = id !== undefined ? (this.#spaces.get(id) ?? this.#all) : this.settled;
    const done = before.then(work);
    const over = done.catch(() => undefined);
    if (id !== undefined) {
      this.#spaces.set(id, over);
      void over.then(() => {
        if (this.#spaces.get(id) === over) this.#spaces.delete(id);
      });
    } else {
      this.#all = over;
      this.#ofAll++;
      void over.then(() => this.#ofAll--);
      this.#spaces.clear();
    }
    return done;
  }

  /** Whether nothing has to be waited for before something is done about this space. */
  isIdle(id: string): boolean {
    return this.#ofAll === 0 && !this.#spaces.has(id);
  }

  /** Resolves when no change is under way that has been asked for. */
  get settled(): Promise<unknown> {
    return Promise.all([this.#all, ...this.#spaces.values()]);
  }
}
