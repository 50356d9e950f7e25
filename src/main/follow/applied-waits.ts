/** Who waits until the host has applied a space so far. */
import type { Sequence } from '../../shared/position.js';
import { type SequenceWait, SequenceWaits } from '../log/sequence-waits.js';
import type { SpaceState } from '../log/space-table.js';

export interface AppliedWait extends SequenceWait {
  resolve(): void;
}

export class AppliedWaits {
  readonly #all = new Map<SpaceState, SequenceWaits<AppliedWait>>();

  add(space: SpaceState, wait: AppliedWait): void {
    const waits = this.#all.get(space) ?? new SequenceWaits<AppliedWait>();
    this.#all.set(space, waits);
    waits.add(wait);
  }

  /** Does nothing where it is not here. */
  delete(space: SpaceState, wait: AppliedWait): void {
    this.#all.get(space)?.delete(wait);
  }

  /** The host has applied the space up to `sequence`. */
  reached(space: SpaceState, sequence: Sequence): void {
    const waits = this.#all.get(space);
    let wait = waits?.take(sequence);
    while (wait) {
      wait.resolve();
      wait = waits!.take(sequence);
    }
    if (waits?.size === 0) this.#all.delete(space);
  }
}
