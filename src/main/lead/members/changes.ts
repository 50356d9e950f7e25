/**
 * Changes of members (DESIGN 14): what a led space is to be on against what its log says counts.
 * The primary writes the pending entry, then, when enough have it, the settled one; what an earlier
 * primary has left pending it finishes. shared/members/wish.ts and shared/members/quorum.ts decide.
 */

import { DEFAULT_KEEP } from '../../../shared/limits.js';
import {
  countingSets,
  fits,
  type MemberId,
  type MemberSet,
  type Members,
  sameNames,
  sameSet,
} from '../../../shared/members/members.js';
import { type Floor, maySettle, mayWriteFloor } from '../../../shared/members/quorum.js';
import {
  carriedSet,
  comers,
  learners,
  nextSet,
  type WishedNode,
} from '../../../shared/members/wish.js';
import type { NodeMemory } from '../../../shared/memory/slab.js';
import type { Sequence } from '../../../shared/position.js';
import type { SpaceState, SpaceTable } from '../../log/space-table.js';
import type { Wal } from '../../log/wal.js';
import { Turns } from '../../runtime/turns.js';
import type { Replication } from '../../ship/replication.js';
import type { ShipperHandle } from '../../ship/shipper-handle.js';
import { stageMembers } from './entries.js';

/** Between two looks at what is not yet as it is to be, at the least. */
const LOOK_MS = 20;
/** The same where nothing is under way: a node that is away may come, and says so itself. */
const QUIET_MS = 250;
/** Looks at all may take so much of the time. */
const LOOK_SHARE = 0.1;

/** What counts in a space, for its status. */
export interface MembersStatus {
  /** The ack level that promotions keep; undefined: nobody has said who counts. */
  readonly keep: number | undefined;
  /** Who counts, by this node's log: in the newest set. */
  readonly counting: readonly MemberId[];
  /** Who counted before the change that is under way, and counts until it is settled. */
  readonly pending: readonly MemberId[] | undefined;
  /** Nodes that get the space and do not count, yet: they are new, or their directory is. */
  readonly learners: readonly string[];
}

export interface ChangeParts {
  readonly nodeId: string;
  readonly memory: NodeMemory;
  readonly spaces: SpaceTable;
  readonly wal: Wal;
  readonly replication: Replication;
  /** From now on a led space goes to these nodes alone, durably. */
  shipTo(space: SpaceState, nodeIds: readonly string[]): Promise<void>;
  /** What etcd has as a witness; undefined: nothing, or nobody is one. */
  floorOf(space: SpaceState): Floor | undefined;
  /** undefined: there is no witness. */
  readonly writeFloor: ((space: SpaceState, floor: Floor) => Promise<void>) | undefined;
  /** A change of so many spaces is settled. */
  settled(told: SettledChange): void;
  failed(error: unknown): void;
}

export interface SettledChange {
  readonly spaces: readonly string[];
  /** Node ids; one whose directory is another one is in both. */
  readonly added: readonly string[];
  readonly removed: readonly string[];
}

interface Change {
  /** The nodes that the space is to be on, besides this one. */
  wish: readonly string[];
  /** Where this node stood at the look before: who has that is ready. */
  mark: Sequence;
  isBusy: boolean;
  /** Something is to be looked at, whoever is connected. */
  isNew: boolean;
}

export class MemberChanges {
  readonly #parts: ChangeParts;
  /** Led spaces that are not as they are to be. */
  readonly #open = new Map<SpaceState, Change>();
  readonly #told = new Map<string, { spaces: string[]; added: string[]; removed: string[] }>();
  /** Who waits until a node counts nowhere. */
  readonly #leaving = new Set<() => void>();
  /** Of the open ones, those that are looked at in the next turn. */
  readonly #soon = new Set<SpaceState>();
  /** When all open ones are looked at again, and until when they are not, monotonic ms. */
  #allDueMs = 0;
  #restUntilMs = 0;
  #timer: NodeJS.Timeout | undefined;
  #isLooking = false;
  #isClosed = false;

  constructor(parts: ChangeParts) {
    this.#parts = parts;
  }

  get #own(): MemberId {
    const { nodeId, replication } = this.#parts;
    return { nodeId, directoryId: replication.directoryId };
  }

  /** The nodes that a led space is to be on, besides this one. */
  wishOf(space: SpaceState): readonly string[] {
    return this.#open.get(space)?.wish ?? this.#found(space);
  }

  /** Whom it goes to, and who counts, can it be dialled or not; not who is about to go. */
  #found({ facts, replicas }: SpaceState): string[] {
    const row = facts.sets.at(-1);
    const next = row?.next.members.map((m) => m.nodeId) ?? [];
    const old = row?.old?.members.map((m) => m.nodeId) ?? [];
    const isGoing = (id: string): boolean => old.includes(id) && !next.includes(id);
    const all = [...new Set([...replicas, ...next])];
    return all.filter((id) => id !== this.#parts.nodeId && !isGoing(id));
  }

  /**
   * A led space is to be on these nodes from now on.
   * @returns those that it is shipped to meanwhile: who still counts is among them
   */
  want(space: SpaceState, wish: readonly string[]): readonly string[] {
    // Thousands are made, or led anew, as they are to be: nobody has to look at them.
    if (this.#open.has(space) || !this.#isAsWished(space, wish)) this.#begin(space, wish);
    return this.#shippedTo(space, wish);
  }

  #begin(space: SpaceState, wish: readonly string[]): Change {
    const known = this.#open.get(space);
    const change = known ?? { wish, mark: Number.POSITIVE_INFINITY, isBusy: false, isNew: true };
    this.#open.set(space, Object.assign(change, { wish, isNew: true }));
    this.#lookAt(space);
    return change;
  }

  /** Nothing is pending, who counts is who is wished, by what is known of directories now. */
  #isAsWished(space: SpaceState, wish: readonly string[]): boolean {
    const row = space.facts.sets.at(-1);
    if (!row || row.old) return false;
    const { next: current } = row;
    const wished = this.#wished(space, wish, Number.POSITIVE_INFINITY);
    if (!sameSet(current, nextSet(current, this.#own, wished))) return false;
    if (!current.members.every((m) => this.#isWished(m, wish))) return false;
    return learners(current, wished).length === 0 && this.#goesWhereItIsTo(space, wish);
  }

  /** It is shipped to nobody who neither counts nor is wished. */
  #goesWhereItIsTo(space: SpaceState, wish: readonly string[]): boolean {
    const ids = this.#shippedTo(space, wish);
    return space.replicas.every((id) => ids.includes(id));
  }

  #shippedTo({ facts }: SpaceState, wish: readonly string[]): readonly string[] {
    const counting = countingSets(facts.sets).flatMap((set) => set.members.map((m) => m.nodeId));
    const others = counting.filter((id) => id !== this.#parts.nodeId);
    return [...new Set([...wish, ...others])];
  }

  /**
   * This node leads the space from now on: what its log has pending is finished here. Whom an
   * earlier primary was about to let go is not wished any more.
   */
  led(space: SpaceState): void {
    this.want(space, this.#found(space));
  }

  /** As `led`, of all that this node leads on. */
  leadOn(spaces: readonly SpaceState[]): void {
    for (const space of this.#unlike(spaces)) this.led(space);
  }

  /** A link has come up: the directory there may be another one than the one that counts. */
  linked(replicaId: string): void {
    const isOf = ({ facts, replicas }: SpaceState): boolean =>
      facts.role === 'primary' && replicas.includes(replicaId);
    for (const space of this.#unlike(this.#parts.spaces.spaces.filter(isOf))) {
      if (this.statusOf(space).learners.includes(replicaId)) this.want(space, this.wishOf(space));
    }
  }

  /** Without those that are like the one before, of which nothing is open, nor came to be. */
  *#unlike(spaces: readonly SpaceState[]): Generator<SpaceState> {
    let last: SpaceState | undefined;
    for (const space of spaces) {
      // Read from one log, they share the objects.
      const isSame =
        space.replicas === last?.replicas && space.facts.sets.at(-1) === last.facts.sets.at(-1);
      if (isSame && !this.#open.has(space)) continue;
      yield space;
      last = this.#open.has(space) ? undefined : space;
    }
  }

  statusOf(space: SpaceState): MembersStatus {
    const { facts } = space;
    const row = facts.sets.at(-1);
    const isLed = facts.role === 'primary' && row !== undefined;
    const wished = isLed ? this.#wished(space, this.wishOf(space), 0) : [];
    return {
      keep: row?.next.keep,
      counting: row?.next.members ?? [],
      pending: row?.old?.members,
      learners: row ? [...learners(row.next, wished), ...comers(row)] : [],
    };
  }

  /** Whether a node counts in a space that this node leads, in either set. */
  counts(replicaId: string): boolean {
    return this.countingIn(replicaId).length > 0;
  }

  /** The led spaces in which a node counts. */
  countingIn(replicaId: string): SpaceState[] {
    return this.#parts.spaces.spaces.filter(({ facts }) => {
      const sets = facts.role === 'primary' ? countingSets(facts.sets) : [];
      return sets.some((set) => set.members.some((m) => m.nodeId === replicaId));
    });
  }

  /** Resolves with whether the node counts nowhere within the time. */
  async left(replicaId: string, ms: number): Promise<boolean> {
    if (!this.counts(replicaId)) return true;
    return await new Promise((resolve) => {
      const done = (): void => {
        if (this.counts(replicaId) && !this.#isClosed) return;
        clearTimeout(timer);
        this.#leaving.delete(done);
        resolve(!this.counts(replicaId));
      };
      const timer = setTimeout(() => {
        this.#leaving.delete(done);
        resolve(false);
      }, ms);
      this.#leaving.add(done);
    });
  }

  /** Without asking the members before: an operator has said so. Durable when it resolves. */
  async force(space: SpaceState, wish: readonly string[]): Promise<void> {
    const change = this.#begin(space, wish);
    const current = this.#currentOf(space);
    const isLeft = (m: MemberId): boolean =>
      m.nodeId === this.#parts.nodeId || wish.includes(m.nodeId);
    const members = current.members.filter(isLeft);
    await this.#write(space, change, current, {
      next: { ...current, members },
      old: undefined,
    });
  }

  /**
   * The change that is pending, or about to be, is settled without asking who counted before: an
   * operator has said so. Durable when it resolves. @returns who counts no more
   */
  async settle(space: SpaceState): Promise<readonly MemberId[]> {
    const row = space.facts.sets.at(-1);
    if (!row || space.facts.role !== 'primary') return [];
    const wish = this.wishOf(space);
    const { ownFlushed } = this.#parts.replication.quorum.progressOf(space);
    const wished = this.#wished(space, wish, ownFlushed);
    const next = row.old ? row.next : nextSet(row.next, this.#own, wished);
    const before = row.old ?? row.next;
    if (sameSet(before, next)) return [];
    await this.#write(space, this.#begin(space, wish), before, { next, old: undefined });
    return before.members.filter((m) => !next.members.some((o) => fits(o, m)));
  }

  /** Nothing is looked at any more. */
  close(): void {
    this.#isClosed = true;
    clearTimeout(this.#timer);
    this.#open.clear();
    for (const done of [...this.#leaving]) done();
  }

  // --- looking -----------------------------------------------------------------------------

  /** In the next turn, whenever all are looked at. */
  #lookAt(space: SpaceState): void {
    this.#soon.add(space);
    this.#arm();
  }

  #arm(): void {
    if (this.#isClosed || this.#isLooking || this.#open.size === 0) return;
    clearTimeout(this.#timer);
    const ms = this.#soon.size > 0 ? 0 : Math.max(0, this.#allDueMs - performance.now());
    this.#timer = setTimeout(() => {
      this.#look().catch((error) => this.#parts.failed(error));
    }, ms);
    this.#timer.unref();
  }

  async #look(): Promise<void> {
    const beginMs = performance.now();
    const isOfAll = beginMs >= this.#allDueMs;
    const soon = [...this.#soon];
    this.#soon.clear();
    this.#isLooking = true;
    try {
      const isQuiet = await this.#lookThrough(isOfAll ? this.#open.keys() : soon);
      for (const done of [...this.#leaving]) done();
      const endMs = performance.now();
      if (isOfAll) this.#restUntilMs = endMs + (endMs - beginMs) / LOOK_SHARE;
      const dueMs = Math.max(this.#restUntilMs, endMs + (isQuiet ? QUIET_MS : LOOK_MS));
      this.#allDueMs = isOfAll ? dueMs : Math.min(this.#allDueMs, dueMs);
    } finally {
      this.#isLooking = false;
    }
    this.#arm();
  }

  /** @returns whether nothing is under way in any of them */
  async #lookThrough(spaces: Iterable<SpaceState>): Promise<boolean> {
    let isQuiet = true;
    const turns = new Turns();
    for (const space of spaces) {
      if (turns.isOver) await turns.next();
      turns.spaces--;
      if (this.#isClosed) break;
      const change = this.#open.get(space);
      if (!change) continue;
      if (space.facts.role !== 'primary') this.#open.delete(space);
      else if (change.isBusy) isQuiet = false;
      else if (this.#mayChange(space, change) && this.#step(space, change)) isQuiet = false;
    }
    return isQuiet;
  }

  /**
   * It leads, and its epoch has an entry. A space begins with whatever its host appends: who learns
   * waits for that, who is to go does not. With a witness nobody waits: should the founder be lost
   * before it has appended, others are to lead by themselves.
   */
  #mayChange(space: SpaceState, change: Change): boolean {
    const { facts, isFenced, pause, refusal } = space;
    if (isFenced || pause || refusal || this.#parts.wal.refusal) return false;
    if (facts.position.sequence > 0) return facts.history.at(-1)?.epoch === facts.epoch;
    if (this.#parts.writeFloor) return true;
    return !this.#currentOf(space).members.every((m) => this.#isWished(m, change.wish));
  }

  #isWished({ nodeId }: MemberId, wish: readonly string[]): boolean {
    return nodeId === this.#parts.nodeId || wish.includes(nodeId);
  }

  /** @returns whether there is something under way */
  #step(space: SpaceState, change: Change): boolean {
    const { replication, memory, floorOf, writeFloor } = this.#parts;
    if (this.#isOfVersion1(space, change)) {
      space.facts.sets = [];
      // Who waits for acknowledgements counts anew.
      memory.wakeMain();
    }
    const row = space.facts.sets.at(-1);
    if (row?.old) {
      const progress = replication.quorum.progressOf(space);
      if (maySettle(row, progress, floorOf(space))) {
        const { next, old } = row;
        void this.#write(space, change, old, { next, old: undefined });
      } else if (writeFloor && mayWriteFloor(row, progress)) {
        this.#busy(change, writeFloor(space, row));
      }
      return true;
    }
    if (!change.isNew && !this.#mayHaveCome(space, change)) return false;
    const { ownFlushed: mark, isFounded } = replication.quorum.progressOf(space);
    // Another node may have made the space as well: its set is what they settle it by.
    if (!isFounded) return true;
    const wished = this.#wished(space, change.wish, change.mark);
    change.mark = mark;
    const current = this.#currentOf(space);
    const next = nextSet(current, this.#own, wished);
    const isSame = row ? sameSet(current, next) : sameNames(current, next);
    if (isSame) {
      this.#atRest(space, change, learners(current, wished).length > 0);
      // Who goes waits for who comes: looked at until that one is there, or cannot come.
      const isAsWished = current.members.every((m) => this.#isWished(m, change.wish));
      if (!isAsWished && wished.some((node) => node.isComing)) change.isNew = true;
    } else if (!this.#speaksVersion1(space)) {
      void this.#write(space, change, current, { next, old: current });
    }
    return true;
  }

  /**
   * Nobody was met when the space was made, and who has come since speaks version 1: it knows of no
   * sets, and no other node has been told of this one. The space goes on as one of theirs.
   */
  #isOfVersion1({ facts }: SpaceState, { wish }: Change): boolean {
    const row = facts.sets.at(-1);
    if (row?.sequence !== 0 || row.next.members.length > 1) return false;
    const versions = wish.map((id) => this.#shipperOf(id)?.link.version ?? 0);
    return versions.includes(1) && versions.every((version) => version < 2);
  }

  /** Of those that do not count yet, one is connected. */
  #mayHaveCome(space: SpaceState, { wish }: Change): boolean {
    const { members } = this.#currentOf(space);
    return wish.some((id) => {
      const shipper = this.#shipperOf(id);
      if (!shipper?.isConnected) return false;
      const member = members.find((m) => m.nodeId === id);
      return member?.directoryId !== shipper.link.directoryId;
    });
  }

  #currentOf({ facts, replicas }: SpaceState): MemberSet {
    const row = facts.sets.at(-1);
    return row?.next ?? carriedSet([this.#parts.nodeId, ...replicas], DEFAULT_KEEP);
  }

  #shipperOf(nodeId: string): ShipperHandle | undefined {
    return this.#parts.replication.shippers.find((s) => s.replica.nodeId === nodeId);
  }

  #wished({ slot, facts }: SpaceState, wish: readonly string[], mark: Sequence): WishedNode[] {
    return wish.map((nodeId) => {
      const shipper = this.#shipperOf(nodeId);
      const directoryId = shipper?.isConnected ? shipper.link.directoryId : undefined;
      const isFollowing =
        directoryId !== undefined && shipper!.progress.epoch(slot) === facts.epoch;
      const isReady = isFollowing && shipper!.flushedOf(slot, facts.epoch) >= mark;
      const isComing = shipper !== undefined && this.#parts.replication.mayCome(shipper, slot);
      return { nodeId, directoryId, isComing, isReady };
    });
  }

  /** A member that could not read such entries. */
  #speaksVersion1({ replicas }: SpaceState): boolean {
    return replicas.some((id) => this.#shipperOf(id)?.link.version === 1);
  }

  /** Nothing can be written now: who neither counts nor is wished gets nothing any more. */
  #atRest(space: SpaceState, change: Change, hasLearners: boolean): void {
    change.isNew = false;
    // What is wished is on its way there by itself.
    if (!this.#goesWhereItIsTo(space, change.wish)) {
      this.#busy(change, this.#parts.shipTo(space, this.#shippedTo(space, change.wish)));
    } else if (!hasLearners) this.#open.delete(space);
  }

  // --- writing -----------------------------------------------------------------------------

  #busy(change: Change, work: Promise<void>): void {
    change.isBusy = true;
    work
      // What the log, or etcd, does not take now it may take at the next look.
      .catch(() => undefined)
      .finally(() => {
        change.isBusy = false;
        change.isNew = true;
      });
  }

  async #write(
    space: SpaceState,
    change: Change,
    before: MemberSet,
    members: Members,
  ): Promise<void> {
    const work = stageMembers(this.#parts.wal, space, members).then(() => {
      if (!members.old) this.#tell(space, before, members.next);
    });
    this.#busy(change, work);
    await work.catch(() => undefined);
    this.#lookAt(space);
  }

  /** A change of many spaces is told once. */
  #tell({ facts }: SpaceState, before: MemberSet, now: MemberSet): void {
    const without = (a: MemberSet, b: MemberSet): string[] =>
      a.members.filter((m) => !b.members.some((o) => fits(o, m))).map((m) => m.nodeId);
    const added = without(now, before);
    const removed = without(before, now);
    if (this.#told.size === 0) setTimeout(() => this.#tellAll(), LOOK_MS).unref();
    const key = JSON.stringify([added, removed]);
    const known = this.#told.get(key);
    if (known) known.spaces.push(facts.name);
    else this.#told.set(key, { spaces: [facts.name], added, removed });
  }

  #tellAll(): void {
    const all = [...this.#told.values()];
    this.#told.clear();
    for (const told of all) this.#parts.settled(told);
  }
}
