/** Epochs that a primary has told on its connection, of spaces whose verdict is to follow. */
import { HISTORY_MAX } from '../../shared/limits.js';
import type { Handle } from '../../shared/wire/protocol.js';
import type { HistoryRow } from '../../shared/wire/role-frames.js';

export class ToldHistory {
  /** By space, in the order in which they were told of. */
  readonly #rows = new Map<Handle, HistoryRow[]>();
  #count = 0;

  /** The newest ones are kept, as the primary itself does; an older release might send more. */
  add(rows: readonly HistoryRow[]): void {
    for (const row of rows) {
      const own = this.#rows.get(row.handle);
      if (own) own.push(row);
      else this.#rows.set(row.handle, [row]);
    }
    this.#count += rows.length;
    for (const [handle, own] of this.#rows) {
      const excess = this.#count - HISTORY_MAX;
      if (excess <= 0) return;
      this.#count -= own.splice(0, excess).length;
      if (own.length === 0) this.#rows.delete(handle);
    }
  }

  /** Those of one space, in order; they are told once. */
  take(handle: Handle): HistoryRow[] {
    const own = this.#rows.get(handle) ?? [];
    this.#rows.delete(handle);
    this.#count -= own.length;
    return own;
  }
}
