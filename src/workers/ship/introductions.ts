/** Which spaces a replica is to be introduced to, and what it has answered on this connection. */

import { failure } from '../../shared/errors.js';
import { HISTORY_MAX } from '../../shared/limits.js';
import type { AnsweredRow, ShippedSpace, VerdictAnswer } from '../../shared/link/control.js';
import type { ReplicaProgress } from '../../shared/memory/slab.js';
import type { Slot } from '../../shared/position.js';
import type { PositionRow, SpaceRow, VerdictRow } from '../../shared/wire/protocol.js';

export class Introductions {
  readonly #spaces = new Map<Slot, ShippedSpace>();
  /** Positions still to come: one for each introduction. */
  readonly #owed = new Map<Slot, number>();
  readonly #positions = new Map<Slot, PositionRow>();
  /** What it was known to have when it was asked; of the eldest question that is open. */
  readonly #acked = new Map<Slot, AnsweredRow['acked']>();
  readonly #progress: ReplicaProgress;

  constructor(progress: ReplicaProgress) {
    this.#progress = progress;
  }

  get all(): ShippedSpace[] {
    return [...this.#spaces.values()];
  }

  add(spaces: readonly ShippedSpace[]): void {
    for (const space of spaces) this.#spaces.set(space.slot, space);
  }

  /** @param isForGood it will not be introduced again, either */
  leave(slot: Slot, isForGood: boolean): void {
    if (isForGood) this.#spaces.delete(slot);
    this.#positions.delete(slot);
  }

  /** The rows that introduce these spaces; each will be answered with a position. */
  rowsOf(spaces: readonly ShippedSpace[]): SpaceRow[] {
    return spaces.map((s) => {
      const { slot: handle, id, epoch, name, members, sets } = s;
      const owed = this.#owed.get(handle) ?? 0;
      // A stream goes on meanwhile: the replica may look where it stands, acknowledge more, and
      // only then answer for all the spaces of the frame.
      if (owed === 0) this.#acked.set(handle, this.#ackedIn(handle));
      this.#owed.set(handle, owed + 1);
      return { handle, id, epoch, name, members, sets };
    });
  }

  #ackedIn(slot: Slot): AnsweredRow['acked'] {
    return { epoch: this.#progress.epoch(slot), flushed: this.#progress.flushed(slot) };
  }

  /** Throws ProtocolViolation for a position that nobody asked for. */
  answered(rows: readonly PositionRow[]): AnsweredRow[] {
    return rows.map((row) => {
      const owed = this.#owed.get(row.handle) ?? 0;
      if (owed === 0) {
        throw failure('ProtocolViolation', `a position on handle ${row.handle} nobody asked for`);
      }
      this.#owed.set(row.handle, owed - 1);
      this.#positions.set(row.handle, row);
      return { ...row, acked: this.#acked.get(row.handle)! };
    });
  }

  /** The replica goes back, and will say anew where it stands. */
  expectAgain(slot: Slot): void {
    this.#positions.delete(slot);
    this.#owed.set(slot, (this.#owed.get(slot) ?? 0) + 1);
  }

  /** A space that was answered for on this connection. */
  answerOf(slot: Slot): { space: ShippedSpace; position: PositionRow } | undefined {
    const space = this.#spaces.get(slot);
    const position = this.#positions.get(slot);
    return space && position && { space, position };
  }

  /** The connection is lost, and what was said on it. */
  disconnected(): void {
    this.#owed.clear();
    this.#acked.clear();
    this.#positions.clear();
  }
}

/** What the replica is told. */
export function verdictRow({ slot, verdict, next }: VerdictAnswer): VerdictRow {
  return { handle: slot, verdict, next };
}

/** In parts whose epochs a replica remembers until it has the verdicts. */
export function* byHistories(rows: readonly VerdictAnswer[]): Generator<readonly VerdictAnswer[]> {
  let part: VerdictAnswer[] = [];
  let epochs = 0;
  for (const row of rows) {
    if (part.length > 0 && epochs + row.history.length > HISTORY_MAX) {
      yield part;
      part = [];
      epochs = 0;
    }
    part.push(row);
    epochs += row.history.length;
  }
  if (part.length > 0) yield part;
}
