/**
 * The node as its coordinator sees it: where it stands, what it is told to lead, to follow and to
 * ship to; and how spaces are opened where a coordinator says where they are. How a space is
 * promoted, fenced and rejoined is lead/leadership.ts's business.
 */

import type { Address } from '../../shared/address.js';
import { dialable } from '../../shared/address.js';
import { EngramError, failure, firstLine } from '../../shared/errors.js';
import type { Member } from '../../shared/log/node-record.js';
import { checkNewName } from '../../shared/names.js';
import type { Epoch } from '../../shared/position.js';
import type { SpaceState, SpaceTable } from '../log/space-table.js';
import type { Wal } from '../log/wal.js';
import type { Emit } from '../runtime/emit.js';
import type { CoordinatedNode, Coordinator, CoordinatorEvent, Standing } from './coordinator.js';
import { CoordinatorState } from './coordinator-state.js';
import type { LeadEvents } from './events.js';
import type { Fencing } from './fencing.js';
import type { ReplicaSets } from './members/replica-sets.js';
import type { LeadConfig, OpenSpaceOptions } from './options.js';
import type { Roles } from './roles.js';

/** How long opening a space waits for somebody to lead it, besides the life of a lease. */
const LEADER_WAIT_MS = 10_000;

/** What its coordinator has a node do. */
interface Leading {
  readonly roles: Pick<Roles, 'createLed'>;
  readonly fencing: Pick<Fencing, 'stepDown' | 'heard'>;
  readonly replicas: Pick<ReplicaSets, 'readdress' | 'place'>;
  promote(name: string): Promise<unknown>;
  resume(space: SpaceState, epoch: Epoch): void;
}

export interface CoordinatedParts {
  readonly config: LeadConfig;
  readonly coordinator: Coordinator;
  readonly spaces: SpaceTable;
  readonly leadership: Leading;
  readonly wal: Wal;
  /** Aborted when the node closes. */
  readonly stop: AbortSignal;
  readonly emit: Emit<LeadEvents>;
  /** The node ships to this one. */
  readonly isLinked: (nodeId: string) => boolean;
  address(): Address | undefined;
}

export class Coordinated implements CoordinatedNode {
  readonly #parts: CoordinatedParts;
  /** As those see it who look at the node. */
  readonly seen: CoordinatorState;
  readonly nodeId: string;
  readonly clusterId: string;
  /** Where nodes were last known to listen, living or not. */
  readonly #addresses = new Map<string, Member>();
  /** Led spaces that are to be on nodes whose address nobody knows. */
  readonly #unplaced = new Map<string, readonly string[]>();
  /** Who waits for something to be known of a space. */
  readonly #waiting = new Map<string, Set<() => void>>();

  constructor(parts: CoordinatedParts) {
    this.#parts = parts;
    this.seen = new CoordinatorState(parts.coordinator);
    this.nodeId = parts.config.nodeId;
    this.clusterId = parts.config.clusterId;
    for (const space of parts.spaces.spaces) {
      for (const member of space.facts.members) this.#addresses.set(member.nodeId, member);
    }
  }

  get address(): Address | undefined {
    return this.#parts.config.advertise ?? dialable(this.#parts.address());
  }

  // --- where it stands ---------------------------------------------------------------------

  *standings(): Iterable<Standing> {
    for (const space of this.#parts.spaces.spaces) yield this.#standing(space);
  }

  standingOf(name: string): Standing | undefined {
    const space = this.#parts.spaces.byName(name);
    return space && this.#standing(space);
  }

  nodesOf(name: string): readonly string[] {
    const members = this.#parts.spaces.byName(name)?.facts.members ?? [];
    return [...new Set([this.nodeId, ...members.map((m) => m.nodeId)])];
  }

  #standing(space: SpaceState): Standing {
    const { facts, refusal, isRewinding } = space;
    const why = this.#parts.wal.failure ?? refusal;
    const rewinds = isRewinding ? 'it goes back to what it shares with its primary' : undefined;
    return {
      space: facts.name,
      role: facts.role,
      epoch: facts.epoch,
      position: facts.position,
      leads: facts.role === 'primary' && !space.isFenced,
      refusal: why?.message.split('\n', 1)[0] ?? rewinds,
    };
  }

  // --- what it is told ---------------------------------------------------------------------

  async promote(name: string, nodeIds: readonly string[]): Promise<void> {
    const { spaces, leadership, coordinator } = this.#parts;
    if (spaces.byName(name)) {
      await leadership.promote(name);
    } else {
      // No node has it: whoever is given its first epoch makes it.
      const epoch = await coordinator.claim(name, 0);
      try {
        const nodes = this.members.filter((m) => nodeIds.includes(m.nodeId));
        await leadership.roles.createLed(name, epoch, nodes);
      } catch (error) {
        await coordinator.release(name, epoch).catch(() => undefined);
        throw error;
      }
    }
    this.#told(name);
  }

  stepDown(name: string, reason: string): void {
    const space = this.#parts.spaces.byName(name);
    if (space) this.#parts.leadership.fencing.stepDown(space, reason);
    this.#told(name);
  }

  resume(name: string, epoch: Epoch): void {
    const space = this.#parts.spaces.byName(name);
    if (!space) return;
    this.#parts.leadership.resume(space, epoch);
    this.#told(name);
  }

  heard(name: string, epoch: Epoch, leader: Member | undefined, isNews: boolean): void {
    const space = this.#parts.spaces.byName(name);
    if (!space) return;
    const { role, primary } = space.facts;
    // Whoever was given it asks for this node's promise next, which makes it durable as well: of
    // thousands that change hands each would cost one more record. Nobody ships it meanwhile.
    if (isNews && role === 'replica' && !this.#parts.isLinked(primary)) return;
    try {
      this.#parts.leadership.fencing.heard(space, epoch, leader);
    } catch (error) {
      if (!(error instanceof EngramError)) throw error;
      // Whoever has written it: what is out of reach is nobody's epoch.
      const reason = `its record in etcd is not followed: ${firstLine(error)}`;
      this.#parts.emit('leader-waiting', { space: name, reason });
    }
  }

  setMembers(members: readonly Member[]): void {
    for (const member of members) this.#addresses.set(member.nodeId, member);
    const others = members.filter((m) => m.nodeId !== this.nodeId);
    this.#parts.leadership.replicas.readdress(others).catch(() => undefined);
    for (const [name, nodeIds] of this.#unplaced) {
      if (this.#isKnown(nodeIds)) void this.setReplicas(name, nodeIds).catch(() => undefined);
    }
  }

  /** Where the other nodes listen, as far as the coordinator has ever said. */
  get members(): Member[] {
    return [...this.#addresses.values()].filter((m) => m.nodeId !== this.nodeId);
  }

  async setReplicas(name: string, nodeIds: readonly string[]): Promise<void> {
    // Where nobody knows yet how one can be dialled: again when it is known (row 107).
    if (this.#isKnown(nodeIds)) this.#unplaced.delete(name);
    else this.#unplaced.set(name, nodeIds);
    const members = this.members.filter((m) => nodeIds.includes(m.nodeId));
    const others = nodeIds.filter((id) => id !== this.nodeId);
    await this.#parts.leadership.replicas.place(name, members, others);
  }

  #isKnown(nodeIds: readonly string[]): boolean {
    return nodeIds.every((id) => id === this.nodeId || this.#addresses.has(id));
  }

  event(event: CoordinatorEvent): void {
    const { kind, ...told } = event;
    this.seen.take(event);
    const { emit } = this.#parts;
    if (kind === 'link') emit('coordinator', told as Told<'link'>);
    else if (kind === 'lease') emit('lease', told as Told<'lease'>);
    else if (kind === 'waiting') emit('leader-waiting', told as Told<'waiting'>);
    else emit('leader', told as Told<'leader'>);
    if (event.kind === 'leader') this.#told(event.space);
  }

  #told(space: string): void {
    for (const look of [...(this.#waiting.get(space) ?? [])]) look();
  }

  /** A space is known here, or in another role: who waits for it looks again. */
  roleChanged(space: SpaceState): void {
    this.#told(space.facts.name);
  }

  // --- opening a space ---------------------------------------------------------------------

  /**
   * The space that is here, once it is known who leads it; a new one is given its nodes first.
   * Rejects Configuration, SpaceUnknown, CoordinatorUnavailable, Closed.
   */
  async open(name: string, options: OpenSpaceOptions): Promise<SpaceState> {
    const { spaces, coordinator, config } = this.#parts;
    if (options.replicas) {
      throw failure('Configuration', 'openSpace was given replicas: etcd says where a space goes');
    }
    if (!spaces.byName(name)) {
      const mayCreate = options.lead ?? config.lead;
      const leader = coordinator.leaderOf(name);
      if (!mayCreate && !leader) throw this.#unknown(name);
      if (!leader) checkNewName('the name of a space', name);
      const placement = await coordinator.place(name, options.lead);
      if (!placement?.nodeIds.includes(this.nodeId)) throw this.#unknown(name);
    }
    return await this.#settled(name);
  }

  #unknown(name: string): EngramError {
    const leader = this.#parts.coordinator.leaderOf(name);
    const where = leader ? `it is led by ${leader.nodeId}` : 'nobody is known to have it';
    return failure('SpaceUnknown', `${name} is not on node ${this.nodeId}: ${where}`, {
      details: { primaryNodeId: leader?.nodeId, address: leader?.address },
    });
  }

  /** The space, if it is here and led, from here or by a node that is known. */
  #settledSpace(name: string): SpaceState | undefined {
    const { spaces, coordinator } = this.#parts;
    const space = spaces.byName(name);
    if (!space) return undefined;
    const leader = coordinator.leaderOf(name);
    if (leader && leader.nodeId !== this.nodeId) return space;
    return space.facts.role === 'primary' && !space.isFenced && !space.pause ? space : undefined;
  }

  async #settled(name: string): Promise<SpaceState> {
    const found = this.#settledSpace(name);
    if (found) return found;
    const { config, stop } = this.#parts;
    const ttlMs = config.coordinator.kind === 'etcd' ? config.coordinator.ttlMs : 0;
    const waitMs = ttlMs + LEADER_WAIT_MS;
    return await new Promise((resolve, reject) => {
      const done = (settle: () => void): void => {
        clearTimeout(timer);
        stop.removeEventListener('abort', closed);
        waiting.delete(look);
        if (waiting.size === 0) this.#waiting.delete(name);
        settle();
      };
      const look = (): void => {
        const space = this.#settledSpace(name);
        if (space) done(() => resolve(space));
      };
      const failed = (code: 'Closed' | 'CoordinatorUnavailable', why: string): void =>
        done(() => reject(failure(code, why)));
      const closed = (): void => failed('Closed', `opening ${name} on a node that closes`);
      const late = (): void =>
        failed('CoordinatorUnavailable', `${name} has had no leader for ${waitMs} ms`);
      const timer = setTimeout(late, waitMs);
      const waiting = this.#waiting.get(name) ?? new Set();
      this.#waiting.set(name, waiting.add(look));
      stop.addEventListener('abort', closed);
    });
  }
}

type Told<K extends CoordinatorEvent['kind']> = Omit<
  Extract<CoordinatorEvent, { kind: K }>,
  'kind'
>;
