/**
 * Two candidates for one space (FAULTS row 113): the one that is behind lets the other one go
 * first (shared/lead/duel.ts has the order), and who has promised an epoch lets its candidate lead.
 */
import { duelWaitMs, type Rival } from '../../../shared/lead/duel.js';
import { PROMISE_HOLD_MS } from '../../../shared/limits.js';
import type { Epoch } from '../../../shared/position.js';
import type { SpaceState } from '../../log/space-table.js';
import { pause } from '../../runtime/deadline.js';

const LOOK_MS = 10;

export class Duels {
  readonly #nodeId: string;
  /** Who has asked for this node's promise while it is a candidate itself. */
  readonly #rivals = new WeakMap<SpaceState, Set<string>>();
  /** What another candidate was promised last, and when, monotonic ms. */
  readonly #promised = new WeakMap<SpaceState, { epoch: Epoch; sinceMs: number }>();

  constructor(nodeId: string) {
    this.#nodeId = nodeId;
  }

  /** This node is a candidate from now on. */
  begins(space: SpaceState): void {
    this.#rivals.set(space, new Set());
  }

  /** Another one is, too. */
  asked(space: SpaceState, candidate: string): void {
    this.#rivals.get(space)?.add(candidate);
  }

  promised(space: SpaceState, epoch: Epoch): void {
    this.#promised.set(space, { epoch, sinceMs: performance.now() });
  }

  /**
   * A higher epoch than `asked` was met.
   * @param others that have answered
   * @returns why this node stops asking, if it does
   */
  async giveWay(
    space: SpaceState,
    others: readonly Rival[],
    asked: Epoch,
    round: number,
  ): Promise<string | undefined> {
    const nodeId = this.#nodeId;
    const { facts } = space;
    // Who only answers is not waited for: two that both let it go first would meet again.
    const asking = others.filter((other) => this.#rivals.get(space)?.has(other.nodeId));
    const rivals = asking.length > 0 ? asking : others;
    const own = { nodeId, position: facts.position };
    await pause(duelWaitMs(own, rivals, round, Math.random()));
    const { promisedTo, epochSeen } = facts;
    if (epochSeen <= asked || promisedTo === '' || promisedTo === nodeId) return undefined;
    return `${promisedTo} has the promise of this node for epoch ${epochSeen}`;
  }

  /** Waits for whom this node has just promised an epoch. @returns who leads since, if anybody */
  async led(space: SpaceState): Promise<string | undefined> {
    const promised = this.#promised.get(space);
    const { facts } = space;
    if (!promised || facts.epoch >= promised.epoch) return undefined;
    const untilMs = promised.sinceMs + PROMISE_HOLD_MS;
    while (facts.epoch < promised.epoch) {
      if (performance.now() >= untilMs) return undefined;
      await pause(LOOK_MS);
    }
    return `${facts.primary} leads it, in epoch ${facts.epoch}`;
  }
}
