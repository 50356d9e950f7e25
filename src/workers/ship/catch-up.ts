/** Brings the segment reader's window to the cursor, asking main where the next segment is. */

import { EngramError, firstLine } from '../../shared/errors.js';
import { SEEK_AFTER_BYTES, SEEK_STREAMS_MAX } from '../../shared/limits.js';
import type { SegmentPlace, WantedEntry } from '../../shared/link/control.js';
import type { NodeMemory } from '../../shared/memory/slab.js';
import type { Lsn } from '../../shared/position.js';
import type { BatchSource } from './batch-source.js';
import type { SegmentReader } from './segment-reader.js';

export interface CatchUpHooks {
  /** Which segment holds this LSN? Main answers with `entered`. */
  ask(lsn: Lsn): void;
  /** Where do these begin? Main answers with `sought`. */
  seek(lsn: Lsn, wanted: readonly WantedEntry[]): void;
  lost(reason: string, fatal: string | undefined): void;
  /** The window holds what follows the cursor. */
  loaded(): void;
}

export class CatchUp {
  readonly #memory: NodeMemory;
  readonly #reader: SegmentReader;
  readonly #source: BatchSource;
  readonly #hooks: CatchUpHooks;
  /** A read is under way, or main is asked. */
  isLoading = false;
  /** What was wanted when main was asked to seek. */
  #sought = { lsn: 0, changes: 0, upTo: 0 };

  constructor(memory: NodeMemory, reader: SegmentReader, source: BatchSource, hooks: CatchUpHooks) {
    this.#memory = memory;
    this.#reader = reader;
    this.#source = source;
    this.#hooks = hooks;
  }

  load(): void {
    this.isLoading = true;
    const { cursor } = this.#source;
    if (this.#source.passed >= SEEK_AFTER_BYTES && this.#seek(cursor)) return;
    if (this.#reader.resolve(cursor) === undefined || this.#reader.isOpenEnded) {
      this.#hooks.ask(cursor);
    } else {
      void this.#loadWindow();
    }
  }

  /** Where few streams lag, what only others have is not read. @returns whether main is asked */
  #seek(cursor: Lsn): boolean {
    const { changes } = this.#source;
    // Read before what lags: what becomes durable from here on stands behind it.
    const upTo = this.#memory.durableLsn;
    const wanted = this.#source.lagging(SEEK_STREAMS_MAX);
    if (!wanted) return false;
    this.#source.passed = 0;
    this.#sought = { lsn: cursor, changes, upTo };
    this.#hooks.seek(cursor, wanted);
    return true;
  }

  /** Main's answer to `seek`: what has come to be wanted meanwhile may stand before it. */
  sought(lsn: Lsn): void {
    const { lsn: asked, changes, upTo } = this.#sought;
    const isAsAsked = this.#source.cursor === asked && this.#source.changes === changes;
    if (isAsAsked) this.#source.cursor = Math.max(asked, Math.min(lsn, upTo));
    this.isLoading = false;
    this.#hooks.loaded();
  }

  /** Main's answer to `ask`. */
  async entered(lsn: Lsn, segment: SegmentPlace | undefined): Promise<void> {
    if (!segment) {
      this.isLoading = false;
      this.#hooks.lost(`no segment holds LSN ${lsn}`, 'CorruptionDetected');
      return;
    }
    // What it read on at was freed: no stream of this replica needs anything before this one.
    if (this.#source.cursor === lsn) this.#source.cursor = Math.max(lsn, segment.start);
    try {
      await this.#reader.enter(segment);
    } catch (error) {
      this.isLoading = false;
      this.#failed(error);
      return;
    }
    await this.#loadWindow();
  }

  async #loadWindow(): Promise<void> {
    try {
      const lsn = this.#reader.resolve(this.#source.cursor);
      if (lsn === this.#source.cursor) await this.#reader.load(lsn, this.#memory.durableLsn);
    } catch (error) {
      this.#failed(error);
    } finally {
      this.isLoading = false;
    }
    this.#hooks.loaded();
  }

  #failed(error: unknown): void {
    const isRot = error instanceof EngramError && error.code === 'CorruptionDetected';
    this.#hooks.lost(`reading the log: ${firstLine(error)}`, isRot ? error.code : undefined);
  }
}
