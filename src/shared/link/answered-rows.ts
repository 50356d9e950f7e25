/**
 * Where a replica stands, as a shipper hands it to the main thread: numbers alone, one row behind
 * the other. As objects a hundred thousand of them cost main more to receive than to judge.
 */
import { POSITION_ANSWERS, type PositionAnswer } from '../lead/epoch.js';
import type { Epoch, Sequence } from '../position.js';
import type { PositionRow } from '../wire/protocol.js';

const FIELDS = 9;

/** What a replica had acknowledged when it was asked. */
export interface AckedBefore {
  /** By this link; 0: it has not followed the space from here, yet. */
  readonly epoch: Epoch;
  readonly flushed: Sequence;
}

/** Where a replica stands, and what it had acknowledged when it was asked. */
export type AnsweredRow = PositionRow & { readonly acked: AckedBefore };

/** Sequences are safe integers: a double holds each of them. */
export function packAnswered(rows: readonly AnsweredRow[]): Float64Array {
  const packed = new Float64Array(FIELDS * rows.length);
  let at = 0;
  for (const { handle, answer, epochSeen, position, applied, acked } of rows) {
    packed[at] = handle;
    packed[at + 1] = POSITION_ANSWERS.indexOf(answer);
    packed[at + 2] = epochSeen;
    packed[at + 3] = position.epoch;
    packed[at + 4] = position.sequence;
    packed[at + 5] = position.headerCrc;
    packed[at + 6] = applied;
    packed[at + 7] = acked.epoch;
    packed[at + 8] = acked.flushed;
    at += FIELDS;
  }
  return packed;
}

export function unpackAnswered(packed: Float64Array): AnsweredRow[] {
  return Array.from({ length: packed.length / FIELDS }, (_, row) => {
    const at = FIELDS * row;
    const position = {
      epoch: packed[at + 3]!,
      sequence: packed[at + 4]!,
      headerCrc: packed[at + 5]!,
    };
    return {
      handle: packed[at]!,
      answer: POSITION_ANSWERS[packed[at + 1]!] as PositionAnswer,
      epochSeen: packed[at + 2]!,
      position,
      applied: packed[at + 6]!,
      acked: { epoch: packed[at + 7]!, flushed: packed[at + 8]! },
    };
  });
}
