/** Which spaces a replica is to be introduced to, and what it has answered on this connection. */

import { failure } from '../../shared/errors.js';
import { HISTORY_MAX } from '../../shared/limits.js';
import type { AckedBefore, AnsweredRow } from '../../shared/link/answered-rows.js';
import type { ShippedSpace } from '../../shared/link/shipped-rows.js';
import type { VerdictAnswer } from '../../shared/link/verdict-rows.js';
import type { ReplicaProgress } from '../../shared/memory/progress.js';
import type { Slot } from '../../shared/position.js';
import type { PositionRow, SpaceRow, VerdictRow } from '../../shared/wire/protocol.js';

/** A space on this connection. */
interface Asked {
  /** Positions still to come: one for each introduction. */
  owed: number;
  /** What it was known to have when it was asked; of the eldest question that is open. */
  acked: AckedBefore;
  position: PositionRow | undefined;
}

/** One object for all spaces of a connection that is new. */
const NOTHING_ACKED: AckedBefore = { epoch: 0, flushed: 0 };

export class Introductions {
  readonly #spaces = new Map<Slot, ShippedSpace>();
  /** By slot: a hundred thousand in a table cost more to find than all else here. */
  #asked: (Asked | undefined)[] = [];
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
    const asked = this.#asked[slot];
    if (asked) asked.position = undefined;
  }

  /** The rows that introduce these spaces; each will be answered with a position. */
  rowsOf(spaces: readonly ShippedSpace[]): SpaceRow[] {
    return spaces.map((s) => {
      const { slot: handle, id, epoch, name, members, sets } = s;
      const asked = this.#askedOf(handle);
      // A stream goes on meanwhile: the replica may look where it stands, acknowledge more, and
      // only then answer for all the spaces of the frame.
      if (asked.owed++ === 0) asked.acked = this.#ackedIn(handle);
      return { handle, id, epoch, name, members, sets };
    });
  }

  #askedOf(slot: Slot): Asked {
    let asked = this.#asked[slot];
    if (!asked) {
      asked = { owed: 0, acked: NOTHING_ACKED, position: undefined };
      this.#asked[slot] = asked;
    }
    return asked;
  }

  #ackedIn(slot: Slot): AckedBefore {
    const epoch = this.#progress.epoch(slot);
    return epoch === 0 ? NOTHING_ACKED : { epoch, flushed: this.#progress.flushed(slot) };
  }

  /** Throws ProtocolViolation for a position that nobody asked for. */
  answered(rows: readonly PositionRow[]): AnsweredRow[] {
    return rows.map((row) => {
      const { handle, answer, epochSeen, position, applied } = row;
      const asked = this.#asked[handle];
      if (!asked || asked.owed === 0) {
        throw failure('ProtocolViolation', `a position on handle ${handle} nobody asked for`);
      }
      asked.owed--;
      asked.position = row;
      return { handle, answer, epochSeen, position, applied, acked: asked.acked };
    });
  }

  /** The replica goes back, and will say anew where it stands. */
  expectAgain(slot: Slot): void {
    const asked = this.#askedOf(slot);
    asked.position = undefined;
    asked.owed++;
  }

  /** A space that was answered for on this connection. */
  answerOf(slot: Slot): { space: ShippedSpace; position: PositionRow } | undefined {
    const space = this.#spaces.get(slot);
    const position = this.#asked[slot]?.position;
    return space && position && { space, position };
  }

  /** The connection is lost, and what was said on it. */
  disconnected(): void {
    this.#asked = [];
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
