/**
 * Waiting until replicas have flushed what was appended (DESIGN 5, step 7). A wait belongs to the
 * history that it was begun in: `endWaits` ends it with that.
 */
import { failure } from '../../shared/errors.js';
import { epochBegins } from '../../shared/log/space-facts.js';
import type { NodeMemory } from '../../shared/memory/slab.js';
import type { Sequence } from '../../shared/position.js';
import { SequenceWaits } from '../log/sequence-waits.js';
import type { DurableWait, SpaceState } from '../log/space-table.js';
import type { Wal } from '../log/wal.js';
import { nextTurn } from '../runtime/turns.js';
import type { Quorum } from './quorum.js';
import type { ShipperHandle } from './shipper-handle.js';

/** So often in a row acks are looked at without a turn for anybody else. */
const LOOKS_A_TURN = 16;

interface AckWait extends DurableWait {
  /** First that it is durable here, then that it is flushed. */
  resolve: () => void;
  readonly space: SpaceState;
  readonly replicas: number;
}

export class AckWaits {
  readonly #memory: NodeMemory;
  readonly #wal: Wal;
  readonly #quorum: Quorum;
  /** A coordinator says which nodes a space is on. */
  readonly #isPlaced: boolean;
  readonly #shippersOf: (space: SpaceState) => readonly ShipperHandle[];
  readonly #waits = new Set<AckWait>();
  /** Those that are durable here and wait for replicas alone; by how many each waits for. */
  readonly #durable = new Map<SpaceState, Map<number, SequenceWaits<AckWait>>>();
  /** Spaces of which some have become durable in this turn, and nobody has looked since. */
  readonly #fresh = new Set<SpaceState>();
  #watching = false;
  /** The tick of the ack that the loop sleeps for. */
  #due = 0;
  #isClosed = false;

  constructor(
    memory: NodeMemory,
    wal: Wal,
    quorum: Quorum,
    shippersOf: (space: SpaceState) => readonly ShipperHandle[],
    isPlaced: boolean,
  ) {
    this.#isPlaced = isPlaced;
    this.#memory = memory;
    this.#wal = wal;
    this.#quorum = quorum;
    this.#shippersOf = shippersOf;
  }

  /** Throws Configuration when the space has fewer than `replicas`, and nobody gives it more. */
  requireConfigured(space: SpaceState, replicas: number): void {
    // With etcd a space gets its replicas as nodes come.
    if (space.replicas.length >= replicas || this.#isPlaced) return;
    const { name } = space.facts;
    const names = space.replicas.join(', ') || 'none';
    const found = `${name} has fewer than ${replicas} replicas: ${names}`;
    throw failure('Configuration', found, { details: { replicas: space.replicas } });
  }

  /** Waits until `sequence` is durable here and flushed on `replicas` replicas. */
  async flushed(
    space: SpaceState,
    sequence: Sequence,
    replicas: number,
    timeoutMs: number,
  ): Promise<void> {
    // What is not durable here counts nowhere yet.
    const isHere = this.#memory.durable(space.slot) >= sequence;
    if (isHere && this.#isFlushed(space, sequence, replicas)) return;
    if (this.#isClosed) throw closedError(space);
    await new Promise<void>((resolve, reject) => {
      const settle = (): void => {
        clearTimeout(timer);
        this.#waits.delete(wait);
        this.#leave(wait);
        space.durableWaits.delete(wait);
        space.hostWaits.delete(wait);
      };
      const failed = (error: Error): void => {
        settle();
        reject(error);
      };
      const flushed = (): void => {
        settle();
        resolve();
      };
      const durable = (): void => {
        wait.resolve = flushed;
        this.#waitForReplicas(wait);
        this.#lookAt(space);
      };
      const wait: AckWait = { space, sequence, replicas, resolve: durable, reject: failed };
      const late = (): void => {
        // Where the loop was blocked nobody has looked yet at what has come meanwhile.
        this.#settle([space]);
        if (this.#waits.has(wait)) failed(this.#lateError(space, sequence, replicas, timeoutMs));
      };
      const timer = setTimeout(late, timeoutMs);
      this.#waits.add(wait);
      space.hostWaits.add(wait);
      this.#wal.addWait(space, wait);
    });
  }

  #lateError(space: SpaceState, sequence: Sequence, replicas: number, timeoutMs: number): Error {
    const { slot, facts } = space;
    const least = Math.max(sequence, epochBegins(facts));
    const flushedOn = this.#shippersOf(space)
      .filter((s) => s.flushedOf(slot, facts.epoch) >= least)
      .map((s) => s.replica.nodeId);
    const durable = this.#memory.durable(slot) >= sequence;
    const lastSequence = this.#memory.allocated(slot);
    const learning = this.#quorum.learning(space);
    const details = { sequence, flushedOn, learning, durable, lastSequence };
    const idle = flushedOn.filter((id) => learning.includes(id)).join(', ');
    // It has the entry, and waiting for longer does not help: say what it is that is missing.
    const why = idle ? ` (${idle} counts once the members have agreed: status().members)` : '';
    const found =
      sequence > lastSequence
        ? `${facts.name} has no ${sequence} after ${timeoutMs} ms, its last is ${lastSequence}`
        : `entry ${sequence} of ${facts.name}: ${replicas} replicas asked for, flushed after ` +
          `${timeoutMs} ms on ${flushedOn.join(', ') || 'none'}${why}, durable here: ${durable}`;
    return failure('AckTimeout', found, { details });
  }

  #waitForReplicas(wait: AckWait): void {
    const { space, replicas } = wait;
    const ofSpace = this.#durable.get(space) ?? new Map<number, SequenceWaits<AckWait>>();
    this.#durable.set(space, ofSpace);
    const waits = ofSpace.get(replicas) ?? new SequenceWaits<AckWait>();
    ofSpace.set(replicas, waits);
    waits.add(wait);
  }

  #leave(wait: AckWait): void {
    const { space, replicas } = wait;
    const ofSpace = this.#durable.get(space);
    const waits = ofSpace?.get(replicas);
    if (!waits) return;
    waits.delete(wait);
    if (waits.size > 0) return;
    ofSpace!.delete(replicas);
    if (ofSpace!.size === 0) this.#durable.delete(space);
  }

  /** Once for all that become durable in one turn: a look costs more than a wait. */
  #lookAt(space: SpaceState): void {
    if (this.#fresh.size === 0) void Promise.resolve().then(this.#lookAtFresh);
    this.#fresh.add(space);
  }

  readonly #lookAtFresh = (): void => {
    const seen = this.#memory.ackTick;
    // The loop, where it begins, looks at all of them.
    if (!this.#watching) void this.#watch();
    else {
      const acks = this.#settle(this.#fresh);
      if (((seen + acks - this.#due) | 0) < 0) this.#sooner(seen + acks);
    }
    this.#fresh.clear();
  };

  /** @returns how many acks it takes, at the least, until one of their waits may be over */
  #settle(spaces: Iterable<SpaceState>): number {
    let acks = Number.POSITIVE_INFINITY;
    for (const space of spaces) {
      for (const [replicas, waits] of this.#durable.get(space) ?? []) {
        let having = this.#havingFlushed(space, waits.lowest);
        // As long as fewer have it, who of them counts need not be asked: that costs more.
        if (having >= replicas) {
          settleAll(waits, this.#quorum.acknowledgedUpTo(space, replicas));
          if (waits.size === 0) continue;
          having = this.#havingFlushed(space, waits.lowest);
        }
        // Each that lacks it has yet to say that it has it. Where enough do, not all of them count.
        acks = Math.min(acks, Math.max(1, replicas - having));
      }
    }
    return acks;
  }

  /** Asks who counts only where enough have it: that costs more. */
  #isFlushed(space: SpaceState, sequence: Sequence, replicas: number): boolean {
    if (this.#havingFlushed(space, sequence) < replicas) return false;
    return this.#quorum.acknowledgedUpTo(space, replicas) >= sequence;
  }

  /** How many replicas have it, whether they count or not. */
  #havingFlushed(space: SpaceState, sequence: Sequence): number {
    const { slot, facts } = space;
    let having = 0;
    for (const s of this.#shippersOf(space)) {
      if (s.flushedOf(slot, facts.epoch) >= sequence) having++;
    }
    return having;
  }

  /**
   * One loop serves all waits; the tick is read before the look, so no ack is missed. It sleeps
   * through acks that are not enough: of two replicas waited for, the first one's.
   */
  async #watch(): Promise<void> {
    this.#watching = true;
    let looks = 0;
    while (this.#durable.size > 0) {
      const seen = this.#memory.ackTick;
      const acks = this.#settle(this.#durable.keys());
      if (this.#durable.size === 0) break;
      this.#due = seen + acks;
      this.#memory.sleepUntilAck(this.#due);
      const sleep = this.#memory.waitAck(seen);
      // Where acks come faster than a look takes, others have their turn all the same.
      looks = sleep ? 0 : looks + 1;
      await (looks < LOOKS_A_TURN ? sleep : nextTurn());
    }
    this.#watching = false;
  }

  /** The loop sleeps for a later ack than one that is waited for from now on. */
  #sooner(due: number): void {
    this.#due = due;
    // It came while we looked, and its shipper did not know of this.
    if (!this.#memory.sleepUntilAck(due)) this.#memory.wakeMain();
  }

  close(): void {
    this.#isClosed = true;
    for (const wait of this.#waits) wait.reject(closedError(wait.space));
    // What waits for a word lives until the word is notified, and with it the whole node.
    this.#memory.wakeMain();
  }
}

/** All that wait for `sequence` or lower ones. */
function settleAll(waits: SequenceWaits<AckWait>, sequence: Sequence): void {
  let wait = waits.take(sequence);
  while (wait) {
    wait.resolve();
    wait = waits.take(sequence);
  }
}

function closedError({ facts }: SpaceState): Error {
  return failure('Closed', `waiting for what is flushed of ${facts.name}, and the node closes`);
}
