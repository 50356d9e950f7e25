/** On which spaces a connection to a replica has seen verdicts, and who waits for one. */
import type { AnsweredRow } from '../../shared/link/answered-rows.js';
import type { Epoch, Position } from '../../shared/position.js';
import type { SpaceState } from '../log/space-table.js';

/** Where a replica stands with a space, and this node did when it heard so. */
export interface Answered {
  readonly row: AnsweredRow;
  readonly space: SpaceState;
  readonly own: Position;
  readonly epoch: Epoch;
}

export class JudgedSpaces {
  /** By slot. */
  #judged: (true | undefined)[] = [];
  #waits = new Map<SpaceState, (() => void)[]>();

  has(space: SpaceState): boolean {
    return this.#judged[space.slot] === true;
  }

  add(space: SpaceState): void {
    this.#judged[space.slot] = true;
    if (this.#waits.size === 0) return;
    const waits = this.#waits.get(space);
    if (!waits) return;
    this.#waits.delete(space);
    for (const wake of waits) wake();
  }

  delete(space: SpaceState): void {
    this.#judged[space.slot] = undefined;
  }

  /** The connection is lost: who waits is woken, and looks again. */
  clear(): void {
    this.#judged = [];
    const waits = this.#waits;
    this.#waits = new Map();
    for (const wakes of waits.values()) for (const wake of wakes) wake();
  }

  /** Resolves at the next verdict on the space, or when the connection is lost. */
  next(space: SpaceState): Promise<void> {
    return new Promise((resolve) => {
      const waits = this.#waits.get(space);
      if (waits) waits.push(resolve);
      else this.#waits.set(space, [resolve]);
    });
  }
}
