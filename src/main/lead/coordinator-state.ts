/** What a coordinator has told of itself last, and of who leads: for those who look at the node. */
import type { Coordinator, CoordinatorEvent } from './coordinator.js';

/** Of a coordinator that can be out of reach; there is none of the static one. */
export interface CoordinatorStatus {
  readonly kind: 'etcd';
  readonly connected: boolean;
  /** Why it is not, or how it came about. */
  readonly reason: string;
  /** Without a lease this node acknowledges nothing. */
  readonly lease: {
    readonly held: boolean;
    readonly reason: string;
    /** For how long it holds still, ms; 0: it does not. */
    readonly leftMs: number;
  };
}

/** Who leads a space, by whose word. */
export interface LeaderWord {
  readonly by: 'static' | 'etcd';
  /** undefined: nobody does. */
  readonly nodeId: string | undefined;
  /** Why nobody does, as far as this node knows. */
  readonly reason: string;
}

export class CoordinatorState {
  readonly #coordinator: Coordinator;
  #link = { connected: false, reason: 'it has not answered yet' };
  #lease = { held: false, reason: 'it was not granted yet' };
  /** Why a space waits for a leader; '' is all of them. */
  readonly #waiting = new Map<string, string>();

  constructor(coordinator: Coordinator) {
    this.#coordinator = coordinator;
  }

  take(event: CoordinatorEvent): void {
    switch (event.kind) {
      case 'link':
        this.#link = { connected: event.connected, reason: event.reason };
        break;
      case 'lease':
        this.#lease = { held: event.held, reason: event.reason };
        if (event.held) this.#waiting.delete('');
        break;
      case 'waiting':
        this.#waiting.set(event.space, event.reason);
        break;
      case 'leader':
        if (event.leader) this.#waiting.delete(event.space);
    }
  }

  get status(): CoordinatorStatus | undefined {
    const { kind, ackUntilMs } = this.#coordinator;
    if (kind === 'static') return undefined;
    const leftMs = Math.max(0, Math.round(ackUntilMs - performance.now()));
    const { held, reason } = this.#lease;
    return { kind, ...this.#link, lease: { held, reason, leftMs: held ? leftMs : 0 } };
  }

  /**
   * @param primary whom this node knows as the primary: of whom the static one says nothing, and
   *   etcd while it cannot be asked
   */
  leaderOf(space: string, primary: string): LeaderWord {
    const { kind } = this.#coordinator;
    if (kind === 'static' || !this.#link.connected)
      return { by: kind, nodeId: primary, reason: '' };
    const nodeId = this.#coordinator.leaderOf(space)?.nodeId;
    const waits = this.#waiting.get(space) ?? this.#waiting.get('');
    const why = waits ?? 'none of its nodes lives';
    return { by: kind, nodeId, reason: nodeId === undefined ? why : '' };
  }
}
