/**
 * Appends that ask for replicas while too few are connected (FAULTS row 117). Where a link may come
 * (a promotion, an opening, a new replica, one that was lost a moment ago) they wait for it, within
 * their time and before they take a sequence; where none can, they are rejected at once.
 */
import { failure } from '../../shared/errors.js';
import { WAITING_APPENDS_MAX } from '../../shared/limits.js';
import type { HostWait, SpaceState } from '../log/space-table.js';
import type { ShipperHandle } from './shipper-handle.js';

interface LinkWait extends HostWait {
  readonly settle: (error?: Error) => void;
}

export class LinkWaits {
  readonly #shippersOf: (space: SpaceState) => readonly ShipperHandle[];
  /** A coordinator gives a space its replicas as nodes come. */
  readonly #isPlaced: boolean;
  /** In the order of the calls. */
  readonly #waits = new Map<SpaceState, Set<LinkWait>>();
  #size = 0;

  constructor(shippersOf: (space: SpaceState) => readonly ShipperHandle[], isPlaced: boolean) {
    this.#shippersOf = shippersOf;
    this.#isPlaced = isPlaced;
  }

  /**
   * Resolves when so many replicas are connected; those that wait do so in the order in which they
   * came. Rejects NotEnoughReplicas: at once where no more can come, or with a `timeoutMs` of 0;
   * Backpressure where too many wait already.
   * @returns undefined: they are, and nobody waits before
   */
  whenConnected(space: SpaceState, replicas: number, timeoutMs: number): Promise<void> | undefined {
    const before = this.#waits.get(space);
    if (!before && this.#isEnough(space, replicas)) return undefined;
    if (timeoutMs === 0 || !this.#isHope(space, replicas)) {
      return Promise.reject(this.#notEnough(space, replicas));
    }
    if (this.#size >= WAITING_APPENDS_MAX) {
      return Promise.reject(failure('Backpressure', `${this.#size} appends wait for links`));
    }
    const waits = before ?? new Set<LinkWait>();
    this.#waits.set(space, waits);
    return new Promise((resolve, reject) => {
      const settle = (error?: Error): void => {
        clearTimeout(timer);
        if (waits.delete(wait)) this.#size--;
        if (waits.size === 0) this.#waits.delete(space);
        space.hostWaits.delete(wait);
        if (error) reject(error);
        else resolve();
      };
      const wait: LinkWait = { replicas, settle, reject: settle };
      // Where the loop was blocked its thread may have said so, and nobody has heard of it yet.
      const late = (): void =>
        settle(this.#isEnough(space, replicas) ? undefined : this.#notEnough(space, replicas));
      const timer = setTimeout(late, timeoutMs);
      waits.add(wait);
      // It ends with the history in which it was called.
      space.hostWaits.add(wait);
      this.#size++;
    });
  }

  #connected(space: SpaceState): readonly ShipperHandle[] {
    return this.#shippersOf(space).filter((s) => s.isConnected || s.isStreaming);
  }

  #isEnough(space: SpaceState, replicas: number): boolean {
    return this.#connected(space).length >= replicas;
  }

  #isHope(space: SpaceState, replicas: number): boolean {
    if (this.#isPlaced && space.replicas.length < replicas) return true;
    const may = this.#shippersOf(space).filter(
      (s) => s.isConnected || s.isStreaming || s.mayConnect,
    );
    return may.length >= replicas;
  }

  #notEnough(space: SpaceState, replicas: number): Error {
    const connected = this.#connected(space).map((s) => s.replica.nodeId);
    const names = connected.join(', ') || 'none';
    const found = `${space.facts.name} asks for ${replicas} replicas, connected: ${names}`;
    return failure('NotEnoughReplicas', found, { details: { connected } });
  }

  /** A link has come or gone, or a space has other replicas. */
  look(): void {
    for (const [space, waits] of this.#waits) {
      for (const { replicas, settle } of waits) {
        if (this.#isEnough(space, replicas)) settle();
        else if (!this.#isHope(space, replicas)) settle(this.#notEnough(space, replicas));
      }
    }
  }

  close(): void {
    for (const [space, waits] of this.#waits) {
      const why = `waiting for replicas of ${space.facts.name}, and the node closes`;
      for (const { settle } of waits) settle(failure('Closed', why));
    }
  }
}
