/** The payloads of one call on their way into the log, in one go or as room comes free. */
import { EngramError, failure } from '../../../shared/errors.js';
import { checkUnchanged } from '../../../shared/host-input.js';
import type { NodeMemory } from '../../../shared/memory/slab.js';
import type { Epoch, Sequence } from '../../../shared/position.js';
import { fencedError, mayAcknowledge } from '../../lead/fencing.js';
import { type Conflict, conflictWith, type Expected } from '../../log/host-entries.js';
import type { SpaceState } from '../../log/space-table.js';
import type { Wal } from '../../log/wal.js';
import type { Settled } from '../../log/write/settled.js';

export class StagedBatch {
  readonly #wal: Wal;
  readonly #space: SpaceState;
  readonly #type: number;
  readonly #payloads: readonly Uint8Array[];
  readonly #sizes: readonly number[];
  readonly #memory: NodeMemory;
  readonly #expected: Expected | undefined;
  readonly epoch: Epoch;
  /** How many of the payloads are staged. */
  #count = 0;
  /** What stands against them: nothing was taken. */
  conflict: Conflict | undefined;
  /** The last sequence taken; 0: none. */
  last: Sequence = 0;

  /**
   * @param sizes of the payloads, as they were checked
   * @param expected up to where their host knows the space: asked when the first sequence is taken
   */
  constructor(
    wal: Wal,
    memory: NodeMemory,
    space: SpaceState,
    type: number,
    payloads: readonly Uint8Array[],
    sizes: readonly number[],
    expected: Expected | undefined,
  ) {
    this.#wal = wal;
    this.#space = space;
    this.#type = type;
    this.#payloads = payloads;
    this.#sizes = sizes;
    this.#memory = memory;
    this.#expected = expected;
    this.epoch = space.facts.epoch;
  }

  /** The first sequence taken; 0: none. */
  get first(): Sequence {
    return this.last === 0 ? 0 : this.last - this.#count + 1;
  }

  /**
   * Resolves when all are acknowledged at level `local`, or where there is a conflict.
   * @param wait whether to wait for room
   * @param isLater than the call in which the sizes were looked at
   */
  staged(wait: boolean, isLater: boolean): Promise<void> {
    const { isCrowded } = this.#wal;
    return new Promise((resolve, reject) => {
      const settled = {
        resolve: () => {
          if (mayAcknowledge(this.#space, this.epoch)) resolve();
          else reject(fencedError(this.#space));
        },
        reject,
      };
      if (!isCrowded && this.#stage(settled, isLater) === true) return;
      if (wait) this.#wal.whenRoom(() => this.#stage(settled, true)).catch(reject);
      else reject(failure('Backpressure', 'no room in the memory budget, and it was not to wait'));
    });
  }

  /** @param isLater than the call, in which the sizes were looked at */
  #stage(settled: Settled, isLater: boolean): boolean | 'some' {
    // It may have waited for room: who leads now?
    if (this.#space.pause) throw this.#space.pause;
    if (!mayAcknowledge(this.#space, this.epoch)) throw fencedError(this.#space);
    if (this.#expected && this.#count === 0) {
      this.conflict = conflictWith(this.#space, this.#memory, this.#expected);
      if (this.conflict) {
        settled.resolve();
        return true;
      }
    }
    const before = this.#count;
    while (this.#count < this.#payloads.length) {
      const next = this.#count;
      const closing = next === this.#payloads.length - 1 ? settled : undefined;
      const [payload, size] = [this.#payloads[next]!, this.#sizes[next]!];
      if (isLater) checkUnchanged(payload, size);
      const sequence = this.#wal.stage(this.#space, this.#type, payload, size, closing);
      if (sequence === 0) return this.#count > before ? 'some' : false;
      this.last = sequence;
      this.#count++;
    }
    return true;
  }

  /**
   * The error with what has become of the batch, once that is final: what is staged is on its way
   * to the disk whatever stopped the rest.
   */
  async settledError(error: unknown, memory: NodeMemory): Promise<unknown> {
    if (!(error instanceof EngramError)) return error;
    const { slot } = this.#space;
    // What was taken back comes never; its sequences may come again, and be another's.
    if (this.last > 0 && this.last <= memory.allocated(slot)) {
      await this.#wal.whenDurable(this.#space, this.last).catch(() => undefined);
    }
    const durable = memory.durable(slot);
    const lastDurableSequence = this.last > 0 ? Math.min(durable, this.last) : durable;
    const firstSequence = this.last > 0 ? this.first : undefined;
    const details = { ...error.details, firstSequence, lastDurableSequence };
    const found = error.message.split('\n', 1)[0]!.slice(error.code.length + 2);
    const named = `${found}; the last durable sequence is ${lastDurableSequence}`;
    return failure(error.code, named, { cause: error, details });
  }
}
