/**
 * How a primary ends: the first word of a higher epoch stops appends and acknowledgements at once,
 * then the role is given up durably, and the node waits for the new primary to dial it (FAULTS
 * rows 64, 67, 68). Nothing of its log is touched here: rejoin.ts does that.
 */
import { dialable } from '../shared/dialable.js';
import { type EngramError, failure } from '../shared/errors.js';
import type { Member } from '../shared/node-record.js';
import type { Epoch } from '../shared/position.js';
import type { NodeMemory } from '../shared/slab.js';
import { roleRecord, seeEpoch } from '../shared/state.js';
import { idOf } from './names.js';
import type { Replication } from './replication.js';
import { endWaits, type SpaceState } from './space-table.js';
import { Gate } from './turns.js';
import type { Wal } from './wal.js';

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
  /** This node asks for an epoch of its own: a member that promises it says so to its primary. */
  isCandidate(space: SpaceState): boolean;
  failed(error: unknown): void;
}

export class Fencing {
  readonly #nodeId: string;
  readonly #memory: NodeMemory;
  readonly #wal: Wal;
  readonly #replication: Replication;
  readonly #hooks: FencingHooks;
  /** Spaces whose role is being given up. */
  readonly #leaving = new Set<SpaceState>();
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
   * Another node has said that the space has a higher epoch, or a leader in ours. Of two that lead
   * in one epoch the lower id gives way.
   */
  heard(space: SpaceState, epoch: Epoch, leader: Member | undefined): void {
    const { facts } = space;
    if (facts.role !== 'primary') return;
    if (epoch < facts.epoch) return;
    // Our own candidacy comes back; a rival's epoch shows itself in the promises.
    if (!leader && this.#hooks.isCandidate(space)) return;
    if (epoch === facts.epoch) {
      if (!leader || leader.nodeId === this.#nodeId) return;
      this.#hooks.incident(space, epoch, leader.nodeId);
      if (leader.nodeId < this.#nodeId) return;
    }
    this.stop(space, epoch, leader);
    this.#leave(space, epoch, leader);
  }

  #leave(space: SpaceState, epoch: Epoch, leader: Member | undefined): void {
    this.#leaving.add(space);
    this.#hooks
      .serially(() => this.#gate.through(() => this.stepAside(space, epoch, leader)), space)
      .catch((error) => this.#hooks.failed(error))
      .finally(() => this.#leaving.delete(space));
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
    if (leader || !space.heardOf) space.heardOf = { epoch, leader };
    if (space.isFenced) return;
    this.halt(space);
    this.#hooks.fenced(space, epoch, leader);
  }

  /** The same, as planned. */
  halt(space: SpaceState): void {
    space.isFenced = true;
    this.#replication.drop(space);
    endWaits(space, fencedError(space), 1);
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
    const { id } = facts;
    await this.#wal.record({ kind: 'epoch-seen', id, epoch }, () => {
      seeEpoch(facts, epoch);
    });
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
    space.pause = failure('LeaseLost', `${space.facts.name}: ${reason}`);
    // Shipped on: what it has is lost to nobody while members can still have it (rows 62, 69).
    endWaits(space, space.pause, 1);
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
  if (facts.role === 'primary') endWaits(space, fencedError(space));
  if (facts.role === 'primary' && space.hasLed) facts.applied = facts.position.sequence;
  facts.role = 'replica';
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
