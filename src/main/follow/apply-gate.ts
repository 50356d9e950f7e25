/**
 * Who waits for what the host applies. So do appends, where it applies what it leads and lags: what
 * it lacks stays on disk, but no log should run away from the state that is made of it.
 */
import { failure } from '../../shared/errors.js';
import { APPLY_BEHIND_MAX, WAITING_APPEND_MS, WAITING_APPENDS_MAX } from '../../shared/limits.js';
import type { NodeMemory } from '../../shared/memory/slab.js';
import type { Sequence } from '../../shared/position.js';
import { type SequenceWait, SequenceWaits } from '../log/sequence-waits.js';
import type { HostWait, SpaceState } from '../log/space-table.js';
import { lateAfter } from '../runtime/deadline.js';

/** Who waits until the host has applied a space so far. */
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

interface GateGiven {
  readonly memory: NodeMemory;
  readonly applied: AppliedWaits;
  appliedTo(space: SpaceState): Sequence;
  /** What is written is to become durable, in every mode: nothing else is handed to the host. */
  sync(): void;
  readonly closing: AbortSignal;
}

export class ApplyGate {
  readonly #given: GateGiven;
  #waiting = 0;

  constructor(given: GateGiven) {
    this.#given = given;
  }

  /** So many entries of the space are taken and not applied that nothing more is taken. */
  isShut(space: SpaceState): boolean {
    const isShut = this.#opensAt(space) > 0;
    // In none mode nobody else asks for it, and no append comes that could.
    if (isShut) this.#given.sync();
    return isShut;
  }

  /** What must be applied before more is taken; 0 or less: nothing. */
  #opensAt(space: SpaceState): Sequence {
    const { memory, appliedTo } = this.#given;
    const least = memory.allocated(space.slot) - APPLY_BEHIND_MAX + 1;
    return least > 0 && appliedTo(space) < least ? least : 0;
  }

  /**
   * Resolves when the space takes entries again, or its history has changed. Rejects Backpressure
   * where the host does not come so far in 5 s, at once where 10,000 appends wait or @param wait is
   * false.
   */
  async opened(space: SpaceState, wait: boolean): Promise<void> {
    const { applied, closing } = this.#given;
    const sequence = this.#opensAt(space);
    if (sequence <= 0) return;
    if (!wait || this.#waiting >= WAITING_APPENDS_MAX) throw this.#behind(space, 'at once');
    this.#waiting++;
    await new Promise<void>((resolve, reject) => {
      const over = (): void => {
        this.#waiting--;
        callOff();
        applied.delete(space, one);
        space.hostWaits.delete(history);
        closing.removeEventListener('abort', done);
      };
      const done = (): void => {
        over();
        resolve();
      };
      const callOff = lateAfter(WAITING_APPEND_MS, () => {
        over();
        reject(this.#behind(space, `in ${WAITING_APPEND_MS} ms`));
      });
      const one = { sequence, resolve: done };
      const history: HostWait = { replicas: 0, reject: done };
      applied.add(space, one);
      space.hostWaits.add(history);
      closing.addEventListener('abort', done, { once: true });
    });
  }

  #behind(space: SpaceState, when: string): Error {
    const applied = this.#given.appliedTo(space);
    const { name } = space.facts;
    const found = `${name}: ${APPLY_BEHIND_MAX} entries wait for apply, not taken ${when}`;
    return failure('Backpressure', found, { details: { appliedSequence: applied } });
  }
}
