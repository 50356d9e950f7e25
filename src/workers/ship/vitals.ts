/** What a shipper tells of itself and its node: the pace of catch-up, and whether main moves. */
import { MAIN_STALLED_MS } from '../../shared/limits.js';
import type { ReplicaProgress } from '../../shared/memory/progress.js';
import type { NodeMemory } from '../../shared/memory/slab.js';
import type { Lsn, Sequence, Slot } from '../../shared/position.js';
import type { HeartbeatRow } from '../../shared/wire/protocol.js';

/** Over how long the pace is measured. */
const PACE_MS = 1_000;

export class Vitals {
  readonly #memory: NodeMemory;
  readonly #progress: ReplicaProgress;
  /** What main's beat was when it last moved, and when that was. */
  #beat = 0;
  #beatMs: number;
  #paceMs: number;
  #paceCursor: Lsn = 0;
  readonly #told = new Map<Slot, Sequence>();
  readonly #toldCheckpoints = new Map<Slot, Sequence>();
  /** undefined: somebody is to be told anew. */
  #checkpointTick: number | undefined;

  constructor(memory: NodeMemory, progress: ReplicaProgress, nowMs: number) {
    this.#memory = memory;
    this.#progress = progress;
    this.#beatMs = nowMs;
    this.#paceMs = nowMs;
  }

  /**
   * @param cursor where the log is read for the replica; undefined: nothing is streamed
   * @returns whether the pace was measured, once a second
   */
  tick(nowMs: number, cursor: Lsn | undefined): boolean {
    const beat = this.#memory.mainBeat;
    if (beat !== this.#beat) {
      this.#beat = beat;
      this.#beatMs = nowMs;
    }
    const tookMs = nowMs - this.#paceMs;
    if (tookMs < PACE_MS) return false;
    const moved = Math.max(0, (cursor ?? 0) - this.#paceCursor);
    this.#progress.setPace(cursor ?? 0, Math.round((1_000 * moved) / tookMs));
    this.#paceMs = nowMs;
    this.#paceCursor = cursor ?? 0;
    return true;
  }

  /** The durable positions that have changed since they were told. */
  positions(slots: Iterable<Slot>): HeartbeatRow[] {
    const rows: HeartbeatRow[] = [];
    for (const slot of slots) {
      const sequence = this.#memory.durable(slot);
      if (this.#told.get(slot) === sequence) continue;
      this.#told.set(slot, sequence);
      rows.push({ handle: slot, sequence });
    }
    return rows;
  }

  /** One more space is streamed: of its checkpoint nothing has been told. */
  joined(): void {
    this.#checkpointTick = undefined;
  }

  /** The checkpoints that have moved since they were told. Read when nothing has: one word. */
  checkpoints(slots: Iterable<Slot>): HeartbeatRow[] {
    const tick = this.#memory.checkpointTick;
    if (tick === this.#checkpointTick) return [];
    this.#checkpointTick = tick;
    const rows: HeartbeatRow[] = [];
    for (const slot of slots) {
      const sequence = this.#memory.checkpoint(slot);
      if (sequence === (this.#toldCheckpoints.get(slot) ?? 0)) continue;
      this.#toldCheckpoints.set(slot, sequence);
      rows.push({ handle: slot, sequence });
    }
    return rows;
  }

  /** The connection is lost, and what was told on it. */
  disconnected(): void {
    this.#told.clear();
    this.#toldCheckpoints.clear();
    this.#checkpointTick = undefined;
  }

  /** For how long main has not moved; 0 while it does. Liveness is never feigned (row 75). */
  stalledMs(nowMs: number): number {
    const ms = Math.round(nowMs - this.#beatMs);
    return ms >= MAIN_STALLED_MS ? ms : 0;
  }
}
