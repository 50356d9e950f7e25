/**
 * Who leads what, on this node: makes spaces known, takes them from primaries that introduce them,
 * gives led ones other replicas. Changes come one after the other, each durable before it holds.
 */
import type { History } from '../shared/epoch.js';
import { EngramError, failure } from '../shared/errors.js';
import { judgeIntroduction } from '../shared/heard.js';
import { DEFAULT_KEEP } from '../shared/limits.js';
import { type MemberId, type MembersRow, rowsUpTo } from '../shared/members.js';
import { joinRows, sameRows } from '../shared/members-rows.js';
import { type Member, sameMembers } from '../shared/node-record.js';
import type { Epoch, Sequence } from '../shared/position.js';
import type { PositionRow, SpaceRow } from '../shared/protocol.js';
import type { NodeMemory } from '../shared/slab.js';
import { newSpaceFacts, roleRecord, type SpaceFacts } from '../shared/state.js';
import type { Address, NodeConfig } from './config.js';
import { isOfDamage } from './damage.js';
import { becomeReplica } from './fencing.js';
import type { MetNode, SpaceAnswer } from './member-questions.js';
import { idOf, spaceIdOf } from './names.js';
import type { OpenSpaceOptions } from './node-types.js';
import { noPlace, positionRow } from './position-rows.js';
import type { Replication } from './replication.js';
import { RoleQueue } from './role-queue.js';
import type { SpaceState, SpaceTable } from './space-table.js';
import { Gate, inParts } from './turns.js';
import type { Wal } from './wal.js';

export interface RoleHooks {
  /** This node has become the primary or a replica of a space. */
  changed(space: SpaceState): void;
  /** A replica is introduced again: its applying goes on. */
  followed(space: SpaceState): void;
  appliedTo(space: SpaceState): Sequence;
  /** The host is being given a snapshot of it: nothing else is taken. */
  isInstalling(space: SpaceState): boolean;
  unconfirmed(names: readonly string[], silent: readonly string[]): void;
  /** A higher epoch than ours, or another leader in ours, has come to a space that we lead. */
  stop(space: SpaceState, epoch: Epoch, leader: Member | undefined): void;
  heard(space: SpaceState, epoch: Epoch, leader: Member | undefined): void;
  /** Two other nodes lead in one epoch. */
  incident(space: SpaceState, epoch: Epoch, other: string): void;
  /** Goes back to what is shared with the primary. */
  back(
    space: SpaceState,
    epoch: Epoch,
    primary: History,
    unjudged: number,
  ): Promise<PositionRow['answer']>;
}

/** The node, and the directory of it, that introduces its spaces. */
export interface Introducer {
  readonly nodeId: string;
  /** 32 hex digits; undefined where it speaks version 1. */
  readonly directoryId: string | undefined;
}

export class Roles {
  readonly #config: NodeConfig;
  readonly #memory: NodeMemory;
  readonly #spaces: SpaceTable;
  readonly #wal: Wal;
  readonly #replication: Replication;
  readonly #address: () => Address | undefined;
  readonly #hooks: RoleHooks;
  readonly #queue = new RoleQueue();
  /** Spaces that are being made. */
  readonly #gate = new Gate();
  /** Changes of addresses that are not over. */
  #readdressing = 0;
  /** Made in this turn without an answer of these members. */
  readonly #unheard = new Map<string, { names: string[]; silent: readonly string[] }>();

  constructor(
    config: NodeConfig,
    memory: NodeMemory,
    spaces: SpaceTable,
    wal: Wal,
    replication: Replication,
    address: () => Address | undefined,
    hooks: RoleHooks,
  ) {
    this.#config = config;
    this.#memory = memory;
    this.#spaces = spaces;
    this.#wal = wal;
    this.#replication = replication;
    this.#address = address;
    this.#hooks = hooks;
  }

  /** Resolves when no change is under way. */
  get settled(): Promise<unknown> {
    return this.#queue.settled;
  }

  /** One change of roles after the other, of one space or of all. */
  serially<T>(work: () => Promise<T>, space?: SpaceState): Promise<T> {
    return this.#queue.run(work, space?.facts.id);
  }

  /** The space that is here or, where this node leads, a new one. */
  async open(name: string, options: OpenSpaceOptions): Promise<SpaceState> {
    const known = this.#spaces.byName(name);
    const id = known?.facts.id ?? spaceIdOf(name);
    const ids = this.#replication.members.map((r) => r.nodeId);
    for (const replica of options.replicas ?? []) {
      if (!ids.includes(replica)) {
        const names = ids.join(', ') || 'none';
        throw failure('ReplicaNotFound', `${replica} is none of the replicas: ${names}`);
      }
    }
    // Most are here, and nothing about them is to change: thousands are opened in a moment.
    if (known && this.#queue.isIdle(id) && !this.#isToChange(known, options)) return opened(known);
    // Others are opened and made beside it: they share questions and fdatasyncs.
    return await this.#queue.run(() => this.#open(id, name, options), id);
  }

  #replicasIn({ replicas }: OpenSpaceOptions): readonly string[] {
    return replicas ?? this.#replication.members.map((r) => r.nodeId);
  }

  #isToChange({ facts, replicas }: SpaceState, options: OpenSpaceOptions): boolean {
    return facts.role === 'primary' && this.#replicasIn(options).join() !== replicas.join();
  }

  async #open(id: string, name: string, options: OpenSpaceOptions): Promise<SpaceState> {
    const known = this.#spaces.byId(id);
    const replicas = this.#replicasIn(options);
    if (known) {
      if (this.#isToChange(known, options)) await this.#replicateTo(new Map([[known, replicas]]));
      return opened(known);
    }
    if (!(options.lead ?? this.#config.lead)) {
      throw failure('SpaceUnknown', `${name} is not here, and this node was not told to lead it`);
    }
    return await this.#gate.through(() => this.#make(id, name, replicas));
  }

  /** Unless another member knows it. */
  async #make(id: string, name: string, replicas: readonly string[]): Promise<SpaceState> {
    const { openConfirmMs } = this.#config;
    const answers = await this.#replication.questions.ask(id, name, replicas, openConfirmMs);
    if (answers.silent.length > 0) this.#unconfirmed(name, answers.silent);
    const best = answers.known.sort((a, b) => b.epoch - a.epoch)[0];
    if (best) return await this.#join(id, name, best);
    const facts = this.#ledFacts(id, name, 1, replicas);
    facts.sets = this.#firstSets(answers.met);
    const state = await this.#create(facts);
    state.replicas = replicas;
    this.#replication.lead([state]);
    return state;
  }

  /** Those that are made beside each other are told together. */
  #unconfirmed(name: string, silent: readonly string[]): void {
    if (this.#unheard.size === 0) setImmediate(() => this.#tellUnconfirmed());
    const key = silent.join();
    const known = this.#unheard.get(key);
    if (known) known.names.push(name);
    else this.#unheard.set(key, { names: [name], silent });
  }

  #tellUnconfirmed(): void {
    const all = [...this.#unheard.values()];
    this.#unheard.clear();
    for (const { names, silent } of all) this.#hooks.unconfirmed(names, silent);
  }

  /** Who follows a led space is durable; replicas that were added while it ran come back. */
  restoreMembers(led: readonly SpaceState[]): void {
    const known = new Set(this.#replication.members.map((m) => m.nodeId));
    for (const space of led) {
      const members = space.facts.members.filter((m) => m.nodeId !== this.#config.nodeId);
      for (const member of members) {
        if (!known.has(member.nodeId)) this.#replication.add(member);
        known.add(member.nodeId);
      }
      space.replicas = members.map((m) => m.nodeId);
    }
  }

  /** The coordinator has given this node the first epoch of a space that no node has. */
  async createLed(name: string, epoch: Epoch): Promise<void> {
    const id = spaceIdOf(name);
    await this.#queue.run(async () => {
      const state = await this.#create(this.#ledFacts(id, name, epoch, []));
      this.#replication.lead([state]);
    }, id);
  }

  /**
   * Version 0: this directory and those that were met. Others come by a change. Nobody counts by
   * sets while one of them has told no directory: it speaks version 1 of the protocol.
   */
  #firstSets(met: readonly MetNode[]): MembersRow[] {
    const { nodeId } = this.#config;
    const own = { nodeId, directoryId: this.#replication.directoryId };
    const members: MemberId[] = [own];
    for (const { nodeId: id, directoryId } of met) {
      if (directoryId === undefined) return [];
      members.push({ nodeId: id, directoryId });
    }
    const next = { members, keep: DEFAULT_KEEP };
    return [{ epoch: 1, sequence: 0, next, old: undefined }];
  }

  #ledFacts(id: string, name: string, epoch: Epoch, replicas: readonly string[]): SpaceFacts {
    const facts = newSpaceFacts(id, name);
    facts.role = 'primary';
    facts.epoch = epoch;
    facts.epochSeen = epoch;
    facts.primary = this.#config.nodeId;
    facts.directoryId = this.#replication.directoryId;
    facts.members = this.#members(replicas);
    return facts;
  }

  /** Another member knows the space: here it becomes a replica, and waits to be dialled. */
  async #join(id: string, name: string, answer: SpaceAnswer): Promise<SpaceState> {
    if (answer.primary === this.#config.nodeId) {
      throw failure(
        'StalePrimary',
        `${answer.replicaId} has ${name} from this node in epoch ${answer.epoch}; it is not here`,
      );
    }
    const facts = newSpaceFacts(id, name);
    facts.epoch = answer.epoch;
    facts.epochSeen = answer.epoch;
    facts.primary = answer.primary;
    return await this.#create(facts);
  }

  /** Before the first ack: what do the replicas that can be reached say of these spaces? */
  async confirm(spaces: readonly SpaceState[]): Promise<void> {
    const silent = await this.#replication.questions.confirm(spaces, this.#config.openConfirmMs);
    if (silent.length === 0) return;
    this.#hooks.unconfirmed(
      spaces.map((s) => s.facts.name),
      silent,
    );
  }

  /** Gives led spaces other sets of replicas, durably; they have confirmed when it resolves. */
  async #replicateTo(changes: ReadonlyMap<SpaceState, readonly string[]>): Promise<void> {
    await inParts([...changes], async ([space, replicas]) => {
      await this.#setMembers(space, this.#members(replicas));
      space.replicas = replicas;
      this.#replication.lead([space]);
    });
    await this.confirm([...changes.keys()]);
  }

  async #setMembers(space: SpaceState, members: readonly Member[]): Promise<void> {
    if (sameMembers(space.facts.members, members)) return;
    await this.#wal.record(roleRecord({ ...space.facts, members }), () => {
      space.facts.members = members;
    });
  }

  /** Nodes that are shipped to are dialled where the coordinator has them now. */
  async readdress(members: readonly Member[]): Promise<void> {
    const isMoved = (member: Member): boolean => {
      const before = this.#replication.members.find((m) => m.nodeId === member.nodeId);
      return before !== undefined && !sameMembers([before], [member]);
    };
    // A change of the whole node lets no other pass, and as a rule nobody has moved.
    if (this.#readdressing === 0 && !members.some(isMoved)) return;
    this.#readdressing++;
    const done = this.serially(async () => {
      for (const member of members) {
        const before = this.#replication.members.find((m) => m.nodeId === member.nodeId);
        if (!before || sameMembers([before], [member])) continue;
        await this.#replication.remove(member.nodeId);
        this.#replication.add(member);
        const led = this.#led.filter((s) => s.replicas.includes(member.nodeId));
        await inParts(led, async (space) => {
          const { replicas } = space;
          const all = this.#replication.members.filter((m) => replicas.includes(m.nodeId));
          await this.#ship(space, all);
        });
      }
    });
    await done.finally(() => this.#readdressing--);
  }

  /** A led space goes to these nodes, as the coordinator has it; durable when it resolves. */
  setReplicas(name: string, replicas: readonly Member[]): Promise<void> {
    const space = this.#spaces.byName(name);
    return this.serially(async () => {
      if (space?.facts.role !== 'primary') return;
      const known = this.#replication.members.map((m) => m.nodeId);
      for (const member of replicas) {
        if (!known.includes(member.nodeId)) this.#replication.add(member);
      }
      await this.#ship(space, replicas);
      const ids = replicas.map((m) => m.nodeId);
      for (const id of space.facts.slots.keys()) {
        if (!ids.includes(id)) space.facts.slots.delete(id);
      }
    }, space);
  }

  async #ship(space: SpaceState, replicas: readonly Member[]): Promise<void> {
    const ids = replicas.map((m) => m.nodeId);
    await this.#setMembers(space, this.#members(ids));
    space.replicas = ids;
    this.#replication.lead([space]);
  }

  /**
   * Ships to one more node: every led space that went to all the others goes to it as well,
   * durably. Rejects Configuration where the id is taken.
   */
  addReplica(replica: Member): Promise<void> {
    return this.serially(async () => {
      const ids = this.#replication.members.map((m) => m.nodeId);
      if ([this.#config.nodeId, ...ids].includes(replica.nodeId)) {
        throw failure('Configuration', `the nodeId ${replica.nodeId} is taken`);
      }
      this.#replication.add(replica);
      const led = this.#led.filter((s) => ids.every((id) => s.replicas.includes(id)));
      await this.#replicateTo(new Map(led.map((s) => [s, [...s.replicas, replica.nodeId]])));
    });
  }

  /** Ships to this node no more, durably; its slots are gone. Rejects ReplicaNotFound. */
  removeReplica(replicaId: string): Promise<void> {
    return this.serially(async () => {
      const ids = this.#replication.members.map((m) => m.nodeId);
      if (!ids.includes(replicaId)) {
        const known = ids.join(', ') || 'none';
        throw failure('ReplicaNotFound', `${replicaId} is none of the replicas: ${known}`);
      }
      const led = this.#led.filter((s) => s.replicas.includes(replicaId));
      const left = (s: SpaceState): string[] => s.replicas.filter((id) => id !== replicaId);
      await this.#replicateTo(new Map(led.map((s) => [s, left(s)])));
      for (const { facts } of this.#led) facts.slots.delete(replicaId);
      await this.#replication.remove(replicaId);
    });
  }

  get #led(): SpaceState[] {
    return this.#spaces.spaces.filter((s) => s.facts.role === 'primary');
  }

  /** This node, where it can be dialled, and the named replicas. */
  #members(replicas: readonly string[]): Member[] {
    const { nodeId } = this.#config;
    const address = this.#address();
    const own = address ? [{ nodeId, ...address }] : [];
    return [...own, ...this.#replication.members.filter((r) => replicas.includes(r.nodeId))];
  }

  /** Makes a space known here, durably. */
  async #create(facts: SpaceFacts): Promise<SpaceState> {
    this.#spaces.reserve(facts);
    let state: SpaceState | undefined;
    try {
      await this.#wal.record(roleRecord(facts), () => {
        state = this.#spaces.add(facts);
      });
    } catch (error) {
      this.#spaces.unreserve(facts);
      throw error;
    }
    this.#hooks.changed(state!);
    return state!;
  }

  /** A primary introduces its spaces to this node. */
  register(primary: Introducer, rows: readonly SpaceRow[]): Promise<PositionRow[]> {
    return inParts(rows, (row) => this.#queue.run(() => this.#registerOne(primary, row), row.id));
  }

  async #registerOne(primary: Introducer, row: SpaceRow): Promise<PositionRow> {
    const { handle } = row;
    const { nodeId: primaryId } = primary;
    let space = this.#spaces.byId(row.id);
    if (!space) {
      if (spaceIdOf(row.name) !== row.id) {
        throw failure('ProtocolViolation', `the id ${row.id} is not that of ${row.name}`);
      }
      const facts = newSpaceFacts(row.id, row.name);
      facts.epoch = row.epoch;
      facts.epochSeen = row.epoch;
      facts.primary = primaryId;
      facts.directoryId = primary.directoryId;
      facts.members = row.members;
      facts.sets = rowsUpTo(row.sets, 0);
      try {
        space = await this.#create(facts);
      } catch (error) {
        if (!(error instanceof EngramError) || error.code !== 'Configuration') throw error;
        return noPlace(row);
      }
    }
    const { facts } = space;
    const own = { ...facts, nodeId: this.#config.nodeId };
    const verdict = judgeIntroduction(own, row.epoch, primaryId);
    if (verdict === 'fenced') return positionRow(handle, 'follows', space, 0);
    if (verdict === 'promised' && !facts.copied) return positionRow(handle, 'forked', space, 0);
    const leader = row.members.find((m) => m.nodeId === primaryId);
    if (verdict === 'two-lead' && !facts.copied) {
      return this.#twoLead(space, row, leader ?? { nodeId: primaryId, host: '', port: 0 });
    }
    if (facts.role === 'primary') {
      this.#hooks.stop(space, row.epoch, leader);
      // What this node has appended stands before the change in the log.
      await this.#wal.whenDurable(space, this.#memory.allocated(space.slot));
    }
    await this.#follow(space, primary, row);
    // What is damaged here is not continued, and nothing of it is acknowledged.
    if (space.refusal) return positionRow(handle, 'refused', space, 0);
    // What an older connection has staged is on its way; the position is what is durable.
    await this.#wal.whenDurable(space, this.#memory.allocated(space.slot));
    if (this.#hooks.isInstalling(space)) return positionRow(handle, 'installing', space, 0);
    this.#hooks.followed(space);
    return positionRow(handle, 'follows', space, this.#hooks.appliedTo(space));
  }

  /** Two nodes lead in one epoch (row 68): each is told of the other one; nothing goes on. */
  #twoLead(space: SpaceState, row: SpaceRow, other: Member): PositionRow {
    const isOurs = space.facts.role === 'primary';
    if (isOurs) this.#hooks.heard(space, row.epoch, other);
    else this.#hooks.incident(space, row.epoch, other.nodeId);
    return positionRow(row.handle, isOurs ? 'leads' : 'forked', space, 0);
  }

  /** From now on, durably, this node follows that primary in its epoch. */
  async #follow(space: SpaceState, from: Introducer, row: SpaceRow): Promise<void> {
    const { facts } = space;
    const { epoch, members } = row;
    const { nodeId: primary, directoryId } = from;
    space.toldSets = row.sets;
    const sets = startingSets(facts, row.sets);
    const isSame = facts.role === 'replica' && epoch === facts.epoch && !facts.copied;
    const isKnown = facts.directoryId === directoryId && sameRows(facts.sets, sets);
    if (isSame && isKnown && sameMembers(facts.members, members)) return;
    const next = { ...facts, role: 'replica' as const, epoch, primary, directoryId, members, sets };
    await this.#wal.record(roleRecord(next), () => {
      becomeReplica(space);
      space.isFenced = false;
      facts.primary = primary;
      facts.directoryId = directoryId;
      facts.members = members;
      facts.sets = joinRows(sets, facts.sets);
      space.primaryId = idOf(primary);
      this.#spaces.setEpoch(space, epoch);
    });
    this.#hooks.changed(space);
  }

  /** All that the space had was taken back: it begins with the set that its primary began with. */
  async #startAnew({ facts, toldSets }: SpaceState): Promise<void> {
    const sets = startingSets(facts, toldSets);
    if (facts.role !== 'replica' || sameRows(facts.sets, sets)) return;
    await this.#wal.record(roleRecord({ ...facts, sets }), () => {
      facts.sets = sets;
    });
  }

  /** Goes back to what is shared with a primary, and says where that is; see Rejoin.back. */
  rejoin(
    space: SpaceState,
    epoch: Epoch,
    primary: History,
    unjudged: number,
  ): Promise<Omit<PositionRow, 'handle'>> {
    return this.serially(async () => {
      const answer = await this.#hooks.back(space, epoch, primary, unjudged);
      await this.#startAnew(space);
      return positionRow(0, answer, space, this.#hooks.appliedTo(space));
    }, space);
  }
}

/**
 * Who counts where a log begins is in no entry: a node that has none of the space takes what its
 * primary says, and one that knows of no set what holds for the part that it has.
 */
function startingSets({ sets, position }: SpaceFacts, told: readonly MembersRow[]): MembersRow[] {
  const { sequence } = position;
  if (sequence > 0 && sets.length > 0) return sets;
  const rows = rowsUpTo(told, sequence);
  return rows.length > 0 ? rows : sets;
}

/** Throws why it takes nothing, if so; what is damaged can be read around. */
function opened(space: SpaceState): SpaceState {
  if (space.refusal && !isOfDamage(space.refusal)) throw space.refusal;
  return space;
}
