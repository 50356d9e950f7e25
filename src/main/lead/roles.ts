/**
 * Who leads what, on this node: makes spaces known, takes them from primaries that introduce them,
 * gives led ones other replicas. Changes come one after the other, each durable before it holds.
 */

import { EngramError, failure } from '../../shared/errors.js';
import { founderOf, type History } from '../../shared/lead/epoch.js';
import { checkReach, judgeIntroduction } from '../../shared/lead/heard.js';
import { DEFAULT_KEEP } from '../../shared/limits.js';
import { type Member, sameMembers } from '../../shared/log/node-record.js';
import { newSpaceFacts, type SpaceFacts } from '../../shared/log/space-facts.js';
import { roleRecord } from '../../shared/log/state.js';
import { type MemberId, type MembersRow, rowsUpTo, sameSet } from '../../shared/members/members.js';
import { leadsAlone } from '../../shared/members/quorum.js';
import { joinRows, sameRows } from '../../shared/members/rows.js';
import type { NodeMemory } from '../../shared/memory/slab.js';
import { checkNewName, idOf, mayReplicate, spaceIdOf } from '../../shared/names.js';
import type { Epoch, Sequence } from '../../shared/position.js';
import type { PositionRow, SpaceRow } from '../../shared/wire/protocol.js';
import type { Introducer } from '../follow/host.js';
import { noPlace, positionRow } from '../follow/position-rows.js';
import type { SpaceState, SpaceTable } from '../log/space-table.js';
import type { Wal } from '../log/wal.js';
import { isOfDamage } from '../read/damage.js';
import { Gate, inParts } from '../runtime/turns.js';
import type { MetNode, SpaceAnswer } from '../ship/member-questions.js';
import type { Replication } from '../ship/replication.js';
import { becomeReplica } from './fencing.js';
import type { MemberChanges } from './members/changes.js';
import type { ReplicaSets } from './members/replica-sets.js';
import type { LeadConfig, OpenSpaceOptions } from './options.js';
import { RoleQueue } from './role-queue.js';

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
  /** All that a replica has is taken back: it goes to quarantine. */
  undo(space: SpaceState): Promise<void>;
  /** Whoever began the history that this replica has follows another one now. */
  mayLeave(space: SpaceState): Promise<boolean>;
  /** Goes back to what is shared with the primary. */
  back(
    space: SpaceState,
    epoch: Epoch,
    primary: History,
    unjudged: number,
  ): Promise<PositionRow['answer']>;
}

export class Roles {
  readonly #config: LeadConfig;
  readonly #memory: NodeMemory;
  readonly #spaces: SpaceTable;
  readonly #wal: Wal;
  readonly #replication: Replication;
  readonly #replicas: ReplicaSets;
  readonly #changes: MemberChanges;
  readonly #hooks: RoleHooks;
  readonly #queue = new RoleQueue();
  /** Spaces that are being made. */
  readonly #gate = new Gate();
  /** Made in this turn without an answer of these members. */
  readonly #unheard = new Map<string, { names: string[]; silent: readonly string[] }>();
  /** Who counted first in the space that was made last. */
  #firstRow: MembersRow | undefined;

  constructor(
    config: LeadConfig,
    memory: NodeMemory,
    spaces: SpaceTable,
    wal: Wal,
    replication: Replication,
    replicas: ReplicaSets,
    changes: MemberChanges,
    hooks: RoleHooks,
  ) {
    this.#config = config;
    this.#memory = memory;
    this.#spaces = spaces;
    this.#wal = wal;
    this.#replication = replication;
    this.#replicas = replicas;
    this.#changes = changes;
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
    const { ids } = this.#replicas;
    for (const replica of options.replicas ?? []) {
      if (!ids.includes(replica)) {
        const names = ids.join(', ') || 'none';
        throw failure('ReplicaNotFound', `${replica} is none of the replicas: ${names}`);
      }
      if (this.#may(name)(replica)) continue;
      throw failure('Configuration', `mayReplicate does not let ${replica} have ${name}`);
    }
    // Most are here, and nothing about them is to change: thousands are opened in a moment.
    if (known && this.#queue.isIdle(id) && !this.#isToChange(known, options)) return opened(known);
    // Others are opened and made beside it: they share questions and fdatasyncs.
    return await this.#queue.run(() => this.#open(id, name, options), id);
  }

  /** Whether a node may have the space, by the options. */
  #may(name: string): (nodeId: string) => boolean {
    return (nodeId) => mayReplicate(this.#config.mayReplicate, nodeId, name);
  }

  /** @param space that is here: nobody goes because nobody has been named */
  #replicasIn(name: string, { replicas }: OpenSpaceOptions, space?: SpaceState): readonly string[] {
    const wished = space?.facts.role === 'primary' ? this.#changes.wishOf(space) : [];
    return replicas ?? [...new Set([...wished, ...this.#replicas.ids])].filter(this.#may(name));
  }

  #isToChange(space: SpaceState, options: OpenSpaceOptions): boolean {
    if (space.facts.role !== 'primary') return false;
    return (
      this.#replicasIn(space.facts.name, options, space).join() !==
      this.#changes.wishOf(space).join()
    );
  }

  async #open(id: string, name: string, options: OpenSpaceOptions): Promise<SpaceState> {
    const known = this.#spaces.byId(id);
    const replicas = this.#replicasIn(name, options, known);
    if (known) {
      if (this.#isToChange(known, options)) {
        await this.#replicas.replicateTo(new Map([[known, replicas]]));
      }
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
    checkNewName('the name of a space', name);
    const facts = this.#ledFacts(id, name, 1, replicas);
    facts.sets = this.#firstSets(1, answers.met);
    const state = await this.#create(facts);
    this.#lead(state, replicas, answers.silent);
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

  /** The coordinator has given this node the first epoch of a space that no node has. */
  async createLed(name: string, epoch: Epoch, nodes: readonly Member[]): Promise<void> {
    const id = spaceIdOf(name);
    const ids = nodes.map((m) => m.nodeId);
    await this.#queue.run(async () => {
      this.#replicas.meet(nodes);
      const { questions } = this.#replication;
      const { met, silent } = await questions.ask(id, name, ids, this.#config.openConfirmMs);
      const facts = this.#ledFacts(id, name, epoch, ids);
      facts.sets = this.#firstSets(epoch, met);
      this.#lead(await this.#create(facts), ids, silent);
    }, id);
  }

  /** A new space goes to its replicas; those that were not met are to count, too. */
  #lead(space: SpaceState, replicas: readonly string[], silent: readonly string[]): void {
    space.replicas = replicas;
    this.#replication.lead([space]);
    if (silent.length > 0) this.#changes.want(space, replicas);
  }

  /**
   * Version 0: this directory and those that were met. Others come by a change. Nobody counts by
   * sets while one of them has told no directory: it speaks version 1 of the protocol.
   */
  #firstSets(epoch: Epoch, met: readonly MetNode[]): MembersRow[] {
    const { nodeId } = this.#config;
    const own = { nodeId, directoryId: this.#replication.directoryId };
    const members: MemberId[] = [own];
    for (const { nodeId: id, directoryId } of met) {
      if (directoryId === undefined) return [];
      members.push({ nodeId: id, directoryId });
    }
    const next = { members, keep: DEFAULT_KEEP };
    // Thousands of spaces begin alike, and keep one object.
    const last = this.#firstRow;
    if (last?.epoch === epoch && sameSet(last.next, next)) return [last];
    this.#firstRow = { epoch, sequence: 0, next, old: undefined };
    return [this.#firstRow];
  }

  #ledFacts(id: string, name: string, epoch: Epoch, replicas: readonly string[]): SpaceFacts {
    const facts = newSpaceFacts(id, name);
    facts.role = 'primary';
    facts.epoch = epoch;
    facts.epochSeen = epoch;
    facts.primary = this.#config.nodeId;
    facts.directoryId = this.#replication.directoryId;
    facts.members = this.#replicas.membersOf(replicas);
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
    checkReach(undefined, answer.epoch, `${answer.replicaId} has ${name}`);
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
    return inParts(
      rows,
      (row) =>
        this.#unchanged(primary, row) ??
        this.#queue.run(() => this.#registerOne(primary, row), row.id),
    );
  }

  /** The answer where all is as it was, as with nearly all when a primary comes back. */
  #unchanged(primary: Introducer, row: SpaceRow): PositionRow | undefined {
    const space = this.#spaces.byId(row.id);
    if (!space || space.slot === 0 || !this.#queue.isIdle(row.id)) return undefined;
    const { facts, slot } = space;
    if (facts.epochSeen !== row.epoch || row.sets.some((set) => set.epoch > row.epoch)) {
      return undefined;
    }
    const isLed = facts.primary === primary.nodeId && !isOtherDirectory(facts, primary);
    if (!isLed || !isFollowing(facts, primary, row) || this.#isOwnBeginning(space, primary)) {
      return undefined;
    }
    const isStaged = this.#memory.durable(slot) < this.#memory.allocated(slot);
    if (isStaged || space.refusal || this.#hooks.isInstalling(space)) return undefined;
    space.toldSets = row.sets;
    this.#hooks.followed(space);
    return positionRow(row.handle, 'follows', space, this.#hooks.appliedTo(space));
  }

  async #registerOne(primary: Introducer, row: SpaceRow): Promise<PositionRow> {
    const { handle } = row;
    const { nodeId: primaryId } = primary;
    let space = this.#spaces.byId(row.id);
    const named = Math.max(row.epoch, ...row.sets.map((set) => set.epoch));
    checkReach(space?.facts.epochSeen, named, `${primaryId} introduces ${row.name}`);
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
    const { nodeId } = this.#config;
    const own = { nodeId, directoryId: this.#replication.directoryId };
    const isAlone = leadsAlone(row.sets, own);
    const verdict = judgeIntroduction({ ...facts, nodeId }, row.epoch, primaryId, isAlone);
    if (verdict === 'fenced') return positionRow(handle, 'follows', space, 0);
    if (verdict === 'promised' && !facts.copied) return positionRow(handle, 'forked', space, 0);
    const leader = row.members.find((m) => m.nodeId === primaryId);
    const isOther = row.epoch === facts.epoch && isOtherDirectory(facts, primary);
    const isRival = (verdict === 'two-lead' || isOther) && !facts.copied;
    if (isRival && !(await this.#isLeft(space))) {
      return this.#twoLead(space, row, leader ?? { nodeId: primaryId, host: '', port: 0 });
    }
    if (facts.role === 'primary') {
      this.#hooks.stop(space, row.epoch, leader);
      // What this node has appended stands before the change in the log.
      await this.#wal.whenDurable(space, this.#memory.allocated(space.slot));
    }
    await this.#follow(space, primary, row);
    if (isRival || this.#isOwnBeginning(space, primary)) {
      await this.#hooks.undo(space);
      await this.#startAnew(space);
    }
    // What is damaged here is not continued, and nothing of it is acknowledged.
    if (space.refusal) return positionRow(handle, 'refused', space, 0);
    // What an older connection has staged is on its way; the position is what is durable.
    await this.#wal.whenDurable(space, this.#memory.allocated(space.slot));
    if (this.#hooks.isInstalling(space)) return positionRow(handle, 'installing', space, 0);
    this.#hooks.followed(space);
    return positionRow(handle, 'follows', space, this.#hooks.appliedTo(space));
  }

  /** Of the history that this replica has, nobody goes on with it: its founder has given way. */
  async #isLeft(space: SpaceState): Promise<boolean> {
    const { role, primary, position, history } = space.facts;
    if (role !== 'replica') return false;
    const isOwn = founderOf(history) === this.#replication.directoryId;
    if (primary === '' && (position.sequence === 0 || isOwn)) return true;
    return await this.#hooks.mayLeave(space);
  }

  /** It gave way, and was stopped before its entries were taken back. */
  #isOwnBeginning({ facts }: SpaceState, { directoryId }: Introducer): boolean {
    const { history, epoch } = facts;
    const own = this.#replication.directoryId;
    return founderOf(history) === own && history[0]!.epoch === epoch && directoryId !== own;
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
    if (isFollowing(facts, from, row)) return;
    const sets = startingSets(facts, row.sets);
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

/** Durably, and with all that its primary says of it now. */
function isFollowing(facts: SpaceFacts, { directoryId }: Introducer, row: SpaceRow): boolean {
  const isSame = facts.role === 'replica' && row.epoch === facts.epoch && !facts.copied;
  if (!isSame || facts.directoryId !== directoryId) return false;
  const sets = startingSets(facts, row.sets);
  return sameRows(facts.sets, sets) && sameMembers(facts.members, row.members);
}

/** It has the name of the node that is followed, and is another directory. */
function isOtherDirectory(facts: SpaceFacts, { nodeId, directoryId }: Introducer): boolean {
  if (facts.directoryId === undefined || directoryId === undefined) return false;
  return facts.primary === nodeId && facts.directoryId !== directoryId;
}

/** Throws why it takes nothing, if so; what is damaged can be read around. */
function opened(space: SpaceState): SpaceState {
  if (space.refusal && !isOfDamage(space.refusal)) throw space.refusal;
  return space;
}
