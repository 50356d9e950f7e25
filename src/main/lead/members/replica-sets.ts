/**
 * Where led spaces go: which nodes are shipped to, where they listen, and what is wished. Who
 * counts follows from it by entries of the log (lead/members/changes.ts).
 */

import type { Address } from '../../../shared/address.js';
import { failure } from '../../../shared/errors.js';
import { type Member, sameMembers } from '../../../shared/log/node-record.js';
import { roleRecord } from '../../../shared/log/state.js';
import { type AllowedSpaces, mayReplicate } from '../../../shared/names.js';
import type { SpaceState, SpaceTable } from '../../log/space-table.js';
import type { Wal } from '../../log/wal.js';
import { inParts } from '../../runtime/turns.js';
import type { Replication } from '../../ship/replication.js';
import type { MemberChanges } from './changes.js';

/** How long a removal waits until its node counts nowhere, before it says what it waits for. */
const REMOVE_WAIT_MS = 10_000;

export interface ReplicaSetParts {
  readonly nodeId: string;
  readonly mayReplicate: AllowedSpaces;
  readonly spaces: SpaceTable;
  readonly wal: Wal;
  readonly replication: Replication;
  readonly changes: MemberChanges;
  /** Where this node can be dialled. */
  address(): Address | undefined;
  serially<T>(work: () => Promise<T>, space?: SpaceState): Promise<T>;
  /** Resolves when replicas of these spaces have said where they stand, or have not for a while. */
  confirm(spaces: readonly SpaceState[]): Promise<void>;
}

export class ReplicaSets {
  readonly #parts: ReplicaSetParts;
  /** Nodes that are being removed: no new space goes there. */
  readonly #leaving = new Set<string>();
  #lastFound: readonly Member[] = [];

  /** Changes of addresses that are not over. */
  #readdressing = 0;

  constructor(parts: ReplicaSetParts) {
    this.#parts = parts;
  }

  /** The ids of the nodes that a space goes to where nobody says otherwise. */
  get ids(): string[] {
    const { members } = this.#parts.replication;
    return members.map((m) => m.nodeId).filter((id) => !this.#leaving.has(id));
  }

  get #led(): SpaceState[] {
    return this.#parts.spaces.spaces.filter((s) => s.facts.role === 'primary');
  }

  /**
   * This node, where it can be dialled, and the named ones whose address is known. The same list
   * again where they are the same: thousands of spaces keep it.
   */
  membersOf(nodeIds: readonly string[]): readonly Member[] {
    const { nodeId, replication } = this.#parts;
    const address = this.#parts.address();
    const own = address ? [{ nodeId, ...address }] : [];
    const found = [...own, ...replication.members.filter((r) => nodeIds.includes(r.nodeId))];
    if (!sameMembers(this.#lastFound, found)) this.#lastFound = found;
    return this.#lastFound;
  }

  /** Who follows a led space is durable; replicas that were added while it ran come back. */
  restore(led: readonly SpaceState[]): void {
    const { nodeId, replication, changes } = this.#parts;
    const known = new Set(replication.members.map((m) => m.nodeId));
    // Most have the same ones, and share what is made of them.
    let last: readonly Member[] = [];
    let ids: readonly string[] = [];
    for (const space of led) {
      const { members } = space.facts;
      if (members !== last) {
        const others = members.filter((m) => m.nodeId !== nodeId);
        for (const member of others) {
          if (!known.has(member.nodeId)) replication.add(member);
          known.add(member.nodeId);
        }
        last = members;
        ids = others.map((m) => m.nodeId);
      }
      space.replicas = ids;
    }
    changes.leadOn(led);
  }

  /** From now on a led space goes to these nodes alone, durably: what others have is theirs. */
  async shipTo(space: SpaceState, nodeIds: readonly string[]): Promise<void> {
    const { replication, wal } = this.#parts;
    const { facts } = space;
    const members = this.membersOf(nodeIds);
    if (!sameMembers(facts.members, members)) {
      await wal.record(roleRecord({ ...facts, members }), () => {
        facts.members = members;
      });
    }
    space.replicas = nodeIds.filter((id) => replication.members.some((m) => m.nodeId === id));
    for (const id of facts.slots.keys()) {
      if (!nodeIds.includes(id)) facts.slots.delete(id);
    }
    replication.lead([space]);
  }

  /** Wishes led spaces onto other nodes; they have confirmed when it resolves. */
  async replicateTo(wishes: ReadonlyMap<SpaceState, readonly string[]>): Promise<void> {
    await inParts([...wishes], async ([space, wish]) => {
      await this.shipTo(space, this.#parts.changes.want(space, wish));
    });
    await this.#parts.confirm([...wishes.keys()]);
  }

  /** Nodes that are shipped to are dialled where the coordinator has them now. */
  async readdress(members: readonly Member[]): Promise<void> {
    const { replication, serially } = this.#parts;
    const isMoved = (member: Member): boolean => {
      const before = replication.members.find((m) => m.nodeId === member.nodeId);
      return before !== undefined && !sameMembers([before], [member]);
    };
    // A change of the whole node lets no other pass, and as a rule nobody has moved.
    if (this.#readdressing === 0 && !members.some(isMoved)) return;
    this.#readdressing++;
    const done = serially(async () => {
      for (const member of members) {
        const before = replication.members.find((m) => m.nodeId === member.nodeId);
        if (!before || sameMembers([before], [member])) continue;
        await replication.remove(member.nodeId);
        replication.add(member);
        const led = this.#led.filter((s) => s.replicas.includes(member.nodeId));
        await inParts(led, (space) => this.shipTo(space, space.replicas));
      }
    });
    await done.finally(() => this.#readdressing--);
  }

  /**
   * A led space is to be on these nodes, as the coordinator has it; durable when it resolves.
   * @param nodes those of them whose address is known
   */
  place(name: string, nodes: readonly Member[], wish: readonly string[]): Promise<void> {
    const { spaces, replication, serially, changes } = this.#parts;
    const space = spaces.byName(name);
    return serially(async () => {
      if (space?.facts.role !== 'primary') return;
      this.meet(nodes);
      const shipped = changes.want(space, wish);
      const known = replication.members.map((m) => m.nodeId);
      await this.shipTo(
        space,
        shipped.filter((id) => known.includes(id)),
      );
    }, space);
  }

  /** Nodes that are dialled from now on. */
  meet(nodes: readonly Member[]): void {
    const { replication, nodeId } = this.#parts;
    const known = [nodeId, ...replication.members.map((m) => m.nodeId)];
    for (const node of nodes) if (!known.includes(node.nodeId)) replication.add(node);
  }

  /**
   * Ships to one more node: every led space that was to be on all the others is to be on it, too,
   * durably. It counts once it is caught up and the change is settled, which goes on by itself.
   * One that is shipped to already has moved: it is dialled there from now on.
   * Rejects Configuration where it is this node, or is dialled there already.
   */
  add(replica: Member): Promise<void> {
    const { nodeId, replication, serially, changes, mayReplicate: allowed } = this.#parts;
    const known = replication.members.find((m) => m.nodeId === replica.nodeId);
    if (known && !sameMembers([known], [replica])) return this.readdress([replica]);
    return serially(async () => {
      const { ids } = this;
      if ([nodeId, ...replication.members.map((m) => m.nodeId)].includes(replica.nodeId)) {
        throw failure('Configuration', `the nodeId ${replica.nodeId} is taken`);
      }
      replication.add(replica);
      const wishes = this.#led
        .map((s) => [s, changes.wishOf(s)] as const)
        .filter(([s, wish]) => {
          const may = (id: string): boolean => mayReplicate(allowed, id, s.facts.name);
          return may(replica.nodeId) && ids.filter(may).every((id) => wish.includes(id));
        });
      await this.replicateTo(new Map(wishes.map(([s, wish]) => [s, [...wish, replica.nodeId]])));
    });
  }

  /**
   * No led space is to be on this node any more. Resolves when it counts nowhere and gets nothing;
   * its slots are gone. Rejects ReplicaNotFound; NotEnoughReplicas where too few of the others are
   * there to settle that: it goes on, and settles when they are.
   * @param isForced without asking them: what it alone has acknowledged may be lost
   */
  async remove(replicaId: string, isForced: boolean): Promise<void> {
    const { replication, serially, changes } = this.#parts;
    await serially(async () => {
      const ids = replication.members.map((m) => m.nodeId);
      if (!ids.includes(replicaId)) {
        const known = ids.join(', ') || 'none';
        throw failure('ReplicaNotFound', `${replicaId} is none of the replicas: ${known}`);
      }
      this.#leaving.add(replicaId);
      const led = this.#led.filter((s) => s.replicas.includes(replicaId));
      const left = (s: SpaceState): string[] => changes.wishOf(s).filter((id) => id !== replicaId);
      await this.replicateTo(new Map(led.map((s) => [s, left(s)])));
      if (!isForced) return;
      await inParts(changes.countingIn(replicaId), (s) => changes.force(s, left(s)));
    });
    if (await changes.left(replicaId, REMOVE_WAIT_MS)) await this.#gone(replicaId);
    else throw this.#pending(replicaId);
  }

  /** It counts nowhere: nothing goes there any more. */
  #gone(replicaId: string): Promise<void> {
    const { replication, serially } = this.#parts;
    return serially(async () => {
      await inParts(
        this.#led.filter((s) => s.replicas.includes(replicaId)),
        (space) =>
          this.shipTo(
            space,
            space.replicas.filter((id) => id !== replicaId),
          ),
      );
      for (const { facts } of this.#led) facts.slots.delete(replicaId);
      await replication.remove(replicaId);
      this.#leaving.delete(replicaId);
    });
  }

  #pending(replicaId: string): Error {
    const { replication, changes } = this.#parts;
    const counting = changes.countingIn(replicaId);
    const away = replication.members
      .map((m) => m.nodeId)
      .filter((id) => !replication.isConnected(id));
    const found =
      `the removal of ${replicaId} is not settled in ${counting.length} spaces after ` +
      `${REMOVE_WAIT_MS} ms; not connected: ${away.join(', ') || 'none'}; a replaced directory ` +
      'agrees to nothing; { force: true } removes it without those that are missing';
    const details = { spaces: counting.map((s) => s.facts.name), away };
    return failure('NotEnoughReplicas', found, { details });
  }
}
