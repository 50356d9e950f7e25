/** Whether an entry that comes from another node can stand where one of ours was lost. */

import type { Epoch, Position, Sequence } from '../position.js';
import { readEpoch, readHeaderCrc, readSequence, readTimestamp } from './entry.js';

/** An entry that is good here, next to what is lost. */
export interface Neighbour {
  readonly sequence: Sequence;
  readonly epoch: Epoch;
  readonly timestamp: bigint;
}

/**
 * Takes entries in order. Epochs and timestamps never fall within a space, and what is known of an
 * entry (its header_crc) must be so.
 */
export class Chain {
  #last: Neighbour | undefined;
  readonly #behind: Neighbour | undefined;
  readonly #known: readonly Position[];

  /**
   * @param before the good entry before them @param behind the one behind them
   * @param known positions of which we know the header_crc
   */
  constructor(
    before: Neighbour | undefined,
    behind: Neighbour | undefined,
    known: readonly Position[],
  ) {
    this.#last = before;
    this.#behind = behind;
    this.#known = known;
  }

  /** The next entry, whose own CRCs have been checked. @returns why it cannot be; else undefined */
  take(view: DataView, at: number): string | undefined {
    const sequence = readSequence(view, at);
    const epoch = readEpoch(view, at);
    const timestamp = readTimestamp(view, at);
    const found = { sequence, epoch, timestamp };
    const known = this.#known.find((p) => p.sequence === sequence);
    if (known && (known.epoch !== epoch || known.headerCrc !== readHeaderCrc(view, at))) {
      return `entry ${sequence} of epoch ${epoch} is not the one that was written`;
    }
    const problem =
      (this.#last && orderProblem(this.#last, found)) ??
      (this.#behind && orderProblem(found, this.#behind));
    if (problem === undefined) this.#last = found;
    return problem;
  }
}

function orderProblem(a: Neighbour, b: Neighbour): string | undefined {
  if (a.sequence >= b.sequence) return `entry ${b.sequence} behind entry ${a.sequence}`;
  if (a.epoch > b.epoch) {
    return `entry ${b.sequence} of epoch ${b.epoch} behind ${a.sequence} of epoch ${a.epoch}`;
  }
  if (a.timestamp <= b.timestamp) return undefined;
  return `the timestamp of entry ${b.sequence} is before that of ${a.sequence}`;
}
