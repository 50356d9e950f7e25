/**
 * Spaces without a leader: when this node tries for each, and what it does then. Who is not the
 * first candidate waits, bounded; a promotion that comes to nothing is tried again, backed off and
 * jittered; so many at once and no more, so that a lost node is no storm.
 */
import type { EngramError } from '../../../shared/errors.js';
import { candidates, leads } from '../../../shared/lead/placement.js';
import {
  CANDIDATE_AT_WORK_MS,
  CANDIDATE_STEP_MS,
  CANDIDATE_WAITS_MAX,
  PROMOTION_BACKOFF_MS,
  PROMOTIONS_MAX,
  RESUME_GRACE_MS,
} from '../../../shared/limits.js';
import type { Epoch } from '../../../shared/position.js';
import type { Standing } from '../coordinator.js';
import type { EtcdRecords, Known } from './records.js';

export interface CandidacyHooks {
  /** The lease is held and this node is known to the others. */
  mayTry(): boolean;
  standingOf(space: string): Standing | undefined;
  /** Goes on in the epoch that this node was given last. */
  resume(known: Known, epoch: Epoch): Promise<void>;
  promote(space: string): Promise<void>;
  /** An attempt is over, and was a good one. */
  done(known: Known): void;
  /** Nobody is made leader by this node, for now. */
  waiting(space: string, reason: string): void;
}

interface Attempt {
  timer: NodeJS.Timeout | undefined;
  failures: number;
  /** How often it has waited for a candidate before this node. */
  waits: number;
}

export class EtcdCandidacy {
  readonly #nodeId: string;
  readonly #records: EtcdRecords;
  readonly #hooks: CandidacyHooks;
  readonly #attempts = new Map<string, Attempt>();
  /** Spaces on which work is under way. */
  readonly #busy = new Set<string>();
  /** When each node has become a leader last, monotonic ms. */
  readonly #ledMs = new Map<string, number>();
  #queue: (() => void)[] = [];
  #running = 0;

  constructor(nodeId: string, records: EtcdRecords, hooks: CandidacyHooks) {
    this.#nodeId = nodeId;
    this.#records = records;
    this.#hooks = hooks;
  }

  isTrying(space: string): boolean {
    return this.#busy.has(space);
  }

  /** This node leads a space since now. */
  hasBegun(nodeId: string): void {
    this.#ledMs.set(nodeId, performance.now());
  }

  /**
   * Of thousands of spaces without a leader those of the first candidate take longer than its
   * turn: while it goes on with others, it gets to this one, too.
   */
  #isAnothersYet({ row }: Known, attempt: Attempt): boolean {
    if (attempt.waits >= CANDIDATE_WAITS_MAX) return false;
    const order = candidates(row, this.#records.living);
    const before = order.slice(0, Math.max(0, order.indexOf(this.#nodeId)));
    const sinceMs = performance.now() - CANDIDATE_AT_WORK_MS;
    return before.some((id) => (this.#ledMs.get(id) ?? 0) > sinceMs);
  }

  /** Nobody leads this space: sees to it, in this node's turn. */
  consider({ row, id }: Known): void {
    if (this.#attempts.has(row.name) || this.#busy.has(row.name)) return;
    const order = candidates(row, this.#records.living);
    const rank = order.indexOf(this.#nodeId);
    if (rank < 0) return;
    const standing = this.#hooks.standingOf(row.name);
    // Once it has been led, only who has it can lead it.
    if (row.epoch > 0 && !standing) return;
    if (standing?.refusal) {
      this.#hooks.waiting(row.name, standing.refusal);
      // Looked at again with the next comparison, in which it may be mended.
      return;
    }
    const first = order[0];
    // Who led it last may be back in a moment; who is about to make it, among thousands, is.
    const meant = row.epoch > 0 ? row.leader?.nodeId : row.nodeIds[0];
    const isPrior = !row.released && first === meant;
    // Drained, it is the last one; where all leases went at once, the others are back in a moment.
    const isDrained = this.#records.living.get(this.#nodeId)?.isDrained ?? false;
    const graceMs = isDrained || (rank > 0 && isPrior) ? RESUME_GRACE_MS : 0;
    const jitterMs = rank > 0 ? (Math.random() * CANDIDATE_STEP_MS) / 3 : 0;
    const attempt: Attempt = { timer: undefined, failures: 0, waits: 0 };
    this.#attempts.set(row.name, attempt);
    this.#later(id, row.name, attempt, graceMs + rank * CANDIDATE_STEP_MS + jitterMs);
  }

  #later(id: string, space: string, attempt: Attempt, ms: number): void {
    if (ms === 0) {
      this.#enter(id, space, attempt);
      return;
    }
    attempt.timer = setTimeout(() => this.#enter(id, space, attempt), ms);
    attempt.timer.unref();
  }

  #enter(id: string, space: string, attempt: Attempt): void {
    attempt.timer = undefined;
    this.#queue.push(() => {
      if (this.#attempts.get(space) !== attempt || this.#busy.has(space)) return;
      const known = this.#records.space(id);
      if (!known || !this.#hooks.mayTry() || leads(known.row, this.#records.sessions)) {
        this.#attempts.delete(space);
      } else if (this.#isAnothersYet(known, attempt)) {
        attempt.waits++;
        this.#later(id, space, attempt, CANDIDATE_STEP_MS);
      } else {
        void this.#run(known, attempt);
      }
    });
    this.#drain();
  }

  #drain(): void {
    while (this.#running < PROMOTIONS_MAX) {
      const next = this.#queue.shift();
      if (!next) return;
      next();
    }
  }

  async #run(known: Known, attempt: Attempt): Promise<void> {
    const space = known.row.name;
    this.#running++;
    this.#busy.add(space);
    try {
      await this.#try(known);
      if (this.#attempts.get(space) === attempt) this.#attempts.delete(space);
    } catch (error) {
      this.#failed(known.id, space, attempt, error as EngramError);
    } finally {
      this.#busy.delete(space);
      this.#running--;
      this.#drain();
    }
    this.#hooks.done(known);
  }

  async #try(known: Known): Promise<void> {
    const { row } = known;
    const standing = this.#hooks.standingOf(row.name);
    const wasOurs = row.leader?.nodeId === this.#nodeId;
    // Nobody was given an epoch since: what this node has is all that there is.
    if (wasOurs && standing?.role === 'primary' && standing.epoch === row.epoch) {
      await this.#hooks.resume(known, row.epoch);
    } else {
      await this.#hooks.promote(row.name);
    }
  }

  #failed(id: string, space: string, attempt: Attempt, error: EngramError): void {
    if (this.#attempts.get(space) !== attempt) return;
    // Another node leads now, or is about to: that is no failure.
    const isAnothers = error.code === 'NotPrimary';
    if (!isAnothers) this.#hooks.waiting(space, error.message.split('\n', 1)[0]!);
    const { first, last } = PROMOTION_BACKOFF_MS;
    const ms = Math.min(last, first * 2 ** Math.min(10, attempt.failures++));
    this.#later(id, space, attempt, ms * (0.5 + Math.random() / 2));
  }

  /** Somebody leads it. */
  withdraw(space: string): void {
    const attempt = this.#attempts.get(space);
    if (!attempt) return;
    clearTimeout(attempt.timer);
    this.#attempts.delete(space);
  }

  /** This node may lead nothing, for now or for good. */
  stop(): void {
    for (const attempt of this.#attempts.values()) clearTimeout(attempt.timer);
    this.#attempts.clear();
    this.#ledMs.clear();
    this.#queue = [];
  }
}
