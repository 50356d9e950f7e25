/** Waiting until replicas have flushed what was appended (DESIGN 5, step 7). */
import { failure } from '../shared/errors.js';
import type { Sequence } from '../shared/position.js';
import type { NodeMemory } from '../shared/slab.js';
import type { ShipperHandle } from './shipper-handle.js';
import type { SpaceState } from './space-table.js';
import type { Wal } from './wal.js';

interface AckWait {
  readonly space: SpaceState;
  readonly sequence: Sequence;
  readonly replicas: number;
  readonly resolve: () => void;
  readonly reject: (error: Error) => void;
}

export class AckWaits {
  readonly #memory: NodeMemory;
  readonly #wal: Wal;
  readonly #shippersOf: (space: SpaceState) => readonly ShipperHandle[];
  readonly #waits = new Set<AckWait>();
  #watching = false;

  constructor(
    memory: NodeMemory,
    wal: Wal,
    shippersOf: (space: SpaceState) => readonly ShipperHandle[],
  ) {
    this.#memory = memory;
    this.#wal = wal;
    this.#shippersOf = shippersOf;
  }

  /** Throws NotEnoughReplicas when fewer than `replicas` are connected. */
  requireConnected(space: SpaceState, replicas: number): void {
    const connected = this.#shippersOf(space).filter((s) => s.isConnected);
    if (connected.length >= replicas) return;
    const names = connected.map((s) => s.replica.nodeId).join(', ') || 'none';
    throw failure(
      'NotEnoughReplicas',
      `${space.facts.name} asks for ${replicas} replicas, connected: ${names}`,
      { details: { connected: connected.map((s) => s.replica.nodeId) } },
    );
  }

  /** Waits until `sequence` is durable here and flushed on `replicas` replicas. */
  async flushed(
    space: SpaceState,
    sequence: Sequence,
    replicas: number,
    timeoutMs: number,
  ): Promise<void> {
    if (this.#isFlushed(space, sequence, replicas)) return;
    await new Promise<void>((resolve, reject) => {
      const timer = setTimeout(() => {
        this.#waits.delete(wait);
        reject(this.#lateError(space, sequence, replicas, timeoutMs));
      }, timeoutMs);
      const done = (): void => {
        clearTimeout(timer);
        resolve();
      };
      const failed = (error: Error): void => {
        clearTimeout(timer);
        reject(error);
      };
      const wait: AckWait = { space, sequence, replicas, resolve: done, reject: failed };
      this.#wal.whenDurable(space, sequence).then(() => {
        if (this.#isFlushed(space, sequence, replicas)) return done();
        this.#waits.add(wait);
        void this.#watch();
      }, failed);
    });
  }

  #lateError(space: SpaceState, sequence: Sequence, replicas: number, timeoutMs: number): Error {
    const flushedOn = this.#shippersOf(space)
      .filter((s) => s.flushedOf(space.slot, space.facts.epoch) >= sequence)
      .map((s) => s.replica.nodeId);
    const durable = this.#memory.durable(space.slot) >= sequence;
    return failure(
      'AckTimeout',
      `entry ${sequence} of ${space.facts.name}: ${replicas} replicas asked for, flushed after ` +
        `${timeoutMs} ms on ${flushedOn.join(', ') || 'none'}, durable here: ${durable}`,
      { details: { sequence, flushedOn, durable } },
    );
  }

  #isFlushed(space: SpaceState, sequence: Sequence, replicas: number): boolean {
    if (this.#memory.durable(space.slot) < sequence) return false;
    let flushed = 0;
    for (const shipper of this.#shippersOf(space)) {
      if (shipper.flushedOf(space.slot, space.facts.epoch) >= sequence) flushed++;
    }
    return flushed >= replicas;
  }

  /** One loop serves all waits; the tick is read before the look, so no ack is missed. */
  async #watch(): Promise<void> {
    if (this.#watching) return;
    this.#watching = true;
    while (this.#waits.size > 0) {
      const seen = this.#memory.ackTick;
      for (const wait of this.#waits) {
        if (!this.#isFlushed(wait.space, wait.sequence, wait.replicas)) continue;
        this.#waits.delete(wait);
        wait.resolve();
      }
      if (this.#waits.size > 0) await this.#memory.waitAck(seen);
    }
    this.#watching = false;
  }

  /** The space is led elsewhere: who waits for its replicas is told so. */
  fail(space: SpaceState, error: Error): void {
    for (const wait of this.#waits) {
      if (wait.space !== space) continue;
      this.#waits.delete(wait);
      wait.reject(error);
    }
  }

  close(): void {
    for (const wait of this.#waits) {
      this.#waits.delete(wait);
      const { name } = wait.space.facts;
      wait.reject(failure('Closed', `waiting for replicas of ${name} on a node that closes`));
    }
  }
}
