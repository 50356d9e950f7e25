/**
 * What main makes of where a replica stands, as it hands it to the shipper: numbers alone, one row
 * behind the other. The epochs of a space, which few replicas lack, stand beside them.
 */
import { VERDICTS, type Verdict } from '../lead/epoch.js';
import type { EpochStart, Lsn, Sequence, Slot } from '../position.js';

const FIELDS = 4;
/** The replica knows the epochs. */
export const NO_HISTORY: readonly EpochStart[] = [];

export interface VerdictAnswer {
  readonly slot: Slot;
  readonly verdict: Verdict;
  readonly next: Sequence;
  /** Where the log holds `next`; the durable end where nothing is lacking. */
  readonly lsn: Lsn;
  /** The space's epochs, where the replica may not know them. */
  readonly history: readonly EpochStart[];
}

export interface VerdictRows {
  readonly numbers: Float64Array;
  /** By row. */
  readonly histories: ReadonlyMap<number, readonly EpochStart[]>;
}

export function packVerdicts(answers: readonly VerdictAnswer[]): VerdictRows {
  const numbers = new Float64Array(FIELDS * answers.length);
  const histories = new Map<number, readonly EpochStart[]>();
  for (const [row, { slot, verdict, next, lsn, history }] of answers.entries()) {
    const at = FIELDS * row;
    numbers[at] = slot;
    numbers[at + 1] = VERDICTS.indexOf(verdict);
    numbers[at + 2] = next;
    numbers[at + 3] = lsn;
    if (history.length > 0) histories.set(row, history);
  }
  return { numbers, histories };
}

export function unpackVerdicts({ numbers, histories }: VerdictRows): VerdictAnswer[] {
  return Array.from({ length: numbers.length / FIELDS }, (_, row) => {
    const at = FIELDS * row;
    return {
      slot: numbers[at]!,
      verdict: VERDICTS[numbers[at + 1]!]!,
      next: numbers[at + 2]!,
      lsn: numbers[at + 3]!,
      history: histories.get(row) ?? NO_HISTORY,
    };
  });
}
