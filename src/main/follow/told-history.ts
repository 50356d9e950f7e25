/** Epochs that a primary has told on its connection, of spaces whose verdict is to follow. */
import { HISTORY_MAX } from '../../shared/limits.js';
import type { Handle } from '../../shared/wire/protocol.js';
import type { HistoryRow } from '../../shared/wire/role-frames.js';

export class ToldHistory {
  #rows: HistoryRow[] = [];

  /** The newest ones are kept, as the primary itself does; an older release might send more. */
  add(rows: readonly HistoryRow[]): void {
    this.#rows.push(...rows);
    if (this.#rows.length > HISTORY_MAX) this.#rows.splice(0, this.#rows.length - HISTORY_MAX);
  }

  /** Those of one space, in order; they are told once. */
  take(handle: Handle): HistoryRow[] {
    const own = this.#rows.filter((row) => row.handle === handle);
    if (own.length > 0) this.#rows = this.#rows.filter((row) => row.handle !== handle);
    return own;
  }
}
