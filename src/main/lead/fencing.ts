/**
 * How a primary ends: the first word of a higher epoch stops appends and acknowledgements at once,
 * then the role is given up durably, and the node waits for the new primary to dial it (FAULTS
 * rows 64, 67, 68). Nothing of its log is touched here: lead/rejoin.ts does that.
 */
import { dialable } from '../../shared/address.js';
import { type EngramError, failure } from '../../shared/errors.js';
import { checkReach, judgeHeard } from '../../shared/lead/heard.js';
import type { Member } from '../../shared/log/node-record.js';
import { seeEpoch } from '../../shared/log/space-facts.js';
import { roleRecord } from '../../shared/log/state.js';
import type { NodeMemory } from '../../shared/memory/slab.js';
import { idOf } from '../../shared/names.js';
import type { Epoch } from '../../shared/position.js';
import { endWaits, type SpaceState } from '../log/space-table.js';
import type { Wal } from '../log/wal.js';
import { Gate } from '../runtime/turns.js';
import type { Replication } from '../ship/replication.js';

/** Whether what was appended in this epoch may be acknowledged: after the fdatasync, asked last. */
export function mayAcknowledge(space: SpaceState, epoch: Epoch): boolean {
  return !space.isFenced && space.facts.role === 'primary' && space.facts.epoch === epoch;
}

/** Says who leads a space instead, and where. */
export function notLedHere(code: 'NotPrimary' | 'Fenced', space: SpaceState): EngramError {
  const { name, members, role } = space.facts;
  const heard = role === 'primary' ? space.heardOf : undefined;
  const primary = role === 'primary' ? (heard?.leader?.nodeId ?? '') : space.facts.primary;
  const epochSeen = Math.max(space.facts.epochSeen, heard?.epoch ?? 0);
  const address = dialable(members.find((m) => m.nodeId === primary) ?? heard?.leader);
  const where = address ? ` at ${address.host}:${address.port}` : '';
  const who = primary === '' ? 'nobody that this node knows of' : `${primary}${where}`;
  return failure(code, `${name} is led by ${who}, in epoch ${epochSeen} or later`, {
    details: { primaryNodeId: primary || undefined, address, epoch: epochSeen },
  });
}

export function fencedError(space: SpaceState): EngramError {
  return notLedHere('Fenced', space);
}

export interface FencingHooks {
  /** One change of roles after the other. */
  serially<T>(work: () => Promise<T>, space?: SpaceState): Promise<T>;
  /** The node is a replica of the space from now on. */
  changed(space: SpaceState): void;
  /** This node led the space, and must not any more. */
  fenced(space: SpaceState, epoch: Epoch, leader: Member | undefined): void;
  /** Two nodes lead in one epoch: somebody must look (row 68). */
  incident(space: SpaceState, epoch: Epoch, other: string): void;
  /** Another node leads it in our epoch. @returns whether the space has two beginnings: seen to */
  isMet(space: SpaceState): boolean;
  /** The epoch that this node asks its members for; undefined: none, at present. */
  asksFor(space: SpaceState): Epoch | undefined;
  /** A replica has seen a higher epoch: nothing more is taken from who led it so far. */
  seen(space: SpaceState): void;
  failed(error: unknown): void;
}

export class Fencing {
  readonly #nodeId: string;
  readonly #memory: NodeMemory;
  readonly #wal: Wal;
  readonly #replication: Replication;
  readonly #hooks: FencingHooks;
  /** Epochs that are on their way to the disk, the role with them where the space was led. */
  readonly #leaving = new Map<SpaceState, Epoch>();
  readonly #gate = new Gate();

  constructor(
    nodeId: string,
    memory: NodeMemory,
    wal: Wal,
    replication: Replication,
    hooks: FencingHooks,
  ) {
    this.#nodeId = nodeId;
    this.#memory = memory;
    this.#wal = wal;
    this.#replication = replication;
    this.#hooks = hooks;
  }

  /**
   * Somebody has named this epoch of the space, and who leads in it where that was said: by any
   * frame, answer or record, whoever had asked (row 111). A primary of a lower epoch acknowledges
   * nothing from this moment on; a replica takes nothing more of one once it is durable here. Of
   * two that lead in one epoch the lower id gives way. Throws EpochOutOfReach, and takes nothing.
   */
  heard(space: SpaceState, epoch: Epoch, leader: Member | undefined): void {
    // Its own candidacy comes back before its own promise is durable.
    if (!leader && this.#hooks.asksFor(space) === epoch) return;
    checkReach(space.facts.epochSeen, epoch, `${space.facts.name} was named to this node`);
    const { role, epoch: led, epochSeen, primary, promisedTo } = space.facts;
    const own = { nodeId: this.#nodeId, role, epoch: led, epochSeen, primary, promisedTo };
    const heard = judgeHeard(own, epoch, leader?.nodeId);
    if (heard === 'known') return;
    if (heard === 'incident') {
      if (!this.#hooks.isMet(space)) this.conflict(space, leader!);
      return;
    }
    const isNews = leader !== undefined && space.heardOf?.leader === undefined;
    if (heard !== 'seen') this.stop(space, epoch, leader);
    if ((isNews && heard !== 'seen') || epoch > this.#leavingAt(space)) {
      this.#leave(space, epoch, leader);
    }
  }

  #leavingAt(space: SpaceState): Epoch {
    return this.#leaving.get(space) ?? 0;
  }

  /** Two lead in one epoch, and nobody can say whose entries count: the lower id gives way. */
  conflict(space: SpaceState, leader: Member): void {
    const { epoch } = space.facts;
    this.#hooks.incident(space, epoch, leader.nodeId);
    if (leader.nodeId < this.#nodeId) return;
    const isNews = space.heardOf?.leader === undefined;
    this.stop(space, epoch, leader);
    if (isNews) this.#leave(space, epoch, leader);
  }

  #leave(space: SpaceState, epoch: Epoch, leader: Member | undefined): void {
    const work = (): Promise<void> =>
      // In the queue it may have become a replica, or a primary, meanwhile.
      space.facts.role === 'primary'
        ? this.stepAside(space, epoch, leader)
        : this.#see(space, epoch);
    this.#leaving.set(space, Math.max(epoch, this.#leavingAt(space)));
    this.#hooks
      .serially(() => this.#gate.through(work), space)
      .catch((error) => this.#hooks.failed(error))
      .finally(() => {
        if (this.#leavingAt(space) === epoch) this.#leaving.delete(space);
      });
  }

  /** A replica's: durable before anything of a lower epoch is refused. */
  async #see(space: SpaceState, epoch: Epoch): Promise<void> {
    if (epoch <= space.facts.epochSeen) return;
    await this.#record(space, epoch);
    this.#hooks.seen(space);
  }

  async #record({ facts }: SpaceState, epoch: Epoch): Promise<void> {
    await this.#wal.record({ kind: 'epoch-seen', id: facts.id, epoch }, () => {
      seeEpoch(facts, epoch);
    });
  }

  /** The log takes entries again: the role that it could not be given up in is given up now. */
  leaveAtLast(space: SpaceState): void {
    const { facts, heardOf, isFenced } = space;
    const { promisedTo, epochSeen } = facts;
    const isPromised = epochSeen > facts.epoch && promisedTo !== this.#nodeId;
    if (facts.role !== 'primary' || !isFenced || !(heardOf || isPromised)) return;
    this.#leave(space, heardOf?.epoch ?? epochSeen, heardOf?.leader);
  }

  /** At once: no append is taken, none acknowledged, nothing shipped. */
  stop(space: SpaceState, epoch: Epoch, leader: Member | undefined): void {
    const { heardOf } = space;
    if (!heardOf || leader || epoch > heardOf.epoch) space.heardOf = { epoch, leader };
    if (heardOf) return;
    this.halt(space);
    this.#hooks.fenced(space, epoch, leader);
  }

  /** The same, as planned. */
  halt(space: SpaceState): void {
    space.isFenced = true;
    this.#replication.drop(space);
    endWaits(space, () => fencedError(space), 1);
  }

  /**
   * Durably: the epoch is seen, and this node leads the space no more. In the queue of roles.
   * @param isPlanned it has handed the space over itself
   */
  async stepAside(
    space: SpaceState,
    epoch: Epoch,
    leader: Member | undefined,
    isPlanned = false,
  ): Promise<void> {
    const { facts } = space;
    if (facts.role !== 'primary') return;
    // It was promoted while this waited in the queue.
    if (!isPlanned && !leader && facts.epoch >= epoch) return;
    if (!isPlanned) this.stop(space, epoch, leader);
    // What was appended stands before the change in the log: it counts as this node's own.
    await this.#wal.whenDurable(space, this.#memory.allocated(space.slot));
    await this.#record(space, epoch);
    const primary = leader?.nodeId ?? '';
    const members = withLeader(facts.members, leader);
    const next = { ...facts, role: 'replica' as const, primary, members, directoryId: undefined };
    await this.#wal.record(roleRecord(next), () => {
      becomeReplica(space);
      facts.primary = primary;
      facts.directoryId = undefined;
      facts.members = members;
      space.primaryId = idOf(primary);
      if (isPlanned) space.isFenced = false;
    });
    this.#hooks.changed(space);
  }

  /** The right to lead may be gone (a lease that ran out): at once, and not durably. */
  stepDown(space: SpaceState, reason: string): void {
    if (space.facts.role !== 'primary' || space.isFenced) return;
    space.isFenced = true;
    const why = failure('LeaseLost', `${space.facts.name}: ${reason}`);
    space.pause = why;
    // Shipped on: what it has is lost to nobody while members can still have it (rows 62, 69).
    endWaits(space, () => why, 1);
  }

  /** This node leads the space in this very epoch still: what was stopped goes on. */
  resume(space: SpaceState, epoch: Epoch): void {
    const { role, epoch: own, epochSeen } = space.facts;
    if (role !== 'primary' || own !== epoch || epochSeen !== epoch) return;
    if (this.#leaving.has(space) || space.heardOf) return;
    space.isFenced = false;
    space.pause = undefined;
    this.#replication.lead([space]);
  }
}

/** In the turn in which the record of it becomes durable. What it led it has applied itself. */
export function becomeReplica(space: SpaceState): void {
  const { facts } = space;
  if (facts.role === 'primary') endWaits(space, () => fencedError(space));
  if (facts.role === 'primary' && space.hasLed) facts.applied = facts.position.sequence;
  facts.role = 'replica';
  // They say what was acknowledged to it as this epoch's primary.
  facts.slots.clear();
  facts.copied = false;
  space.heardOf = undefined;
  if (space.refusal?.code === 'StalePrimary') space.refusal = undefined;
  space.replicas = [];
  space.pause = undefined;
}

function withLeader(members: readonly Member[], leader: Member | undefined): readonly Member[] {
  if (!leader || leader.port === 0) return members;
  return [...members.filter((m) => m.nodeId !== leader.nodeId), leader];
}
