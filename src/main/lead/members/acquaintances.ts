/**
 * Whom this node knows: members of the spaces that are here, nodes that its configuration or its
 * coordinator names. Where nodes prove who they are, nobody else is let in, whatever it has proved
 * (FAULTS row 45). Who knows nobody takes the first that comes. Members may have changed while this
 * node was away: where a stranger is refused, the members it knows are asked whom they name.
 */
import { failure } from '../../../shared/errors.js';
import {
  ASK_SPACES_MAX,
  KNOCKS_AT_ONCE,
  MEMBER_ADDRESSES_MAX,
  MEMBER_ASK_MS,
  VOUCHED_MAX,
} from '../../../shared/limits.js';
import type { Member } from '../../../shared/log/node-record.js';
import { unlike } from '../../../shared/log/space-facts.js';
import { countingSets } from '../../../shared/members/members.js';
import { type AllowedSpaces, mayReplicate } from '../../../shared/names.js';
import type { SpaceState } from '../../log/space-table.js';
import type { PeerClient } from '../../peer/client.js';

/** What is known may be so old before it is looked at again, ms; of whom it does not name, less. */
const FRESH_MS = 1_000;
const STRANGER_FRESH_MS = 100;
/** Members are asked about strangers so often. */
const ASK_EVERY_MS = 1_000;

export interface AcquaintanceParts {
  readonly nodeId: string;
  /** Whether nodes prove who they are: without a key anybody may call himself a member. */
  readonly isProved: boolean;
  /** By the option of that name. */
  readonly mayReplicate: AllowedSpaces;
  readonly peers: PeerClient;
  spaces(): Iterable<SpaceState>;
  /** Other nodes that are configured, were added, or that the coordinator names. */
  known(): readonly Member[];
  isLinked(nodeId: string): boolean;
  /** The members of a space that can be dialled. */
  reachable(space: SpaceState): readonly Member[];
}

export class Acquaintances {
  readonly #parts: AcquaintanceParts;
  #names = new Set<string>();
  #hosts = new Set<string>();
  #hasSpaces = false;
  #seenMs = Number.NEGATIVE_INFINITY;
  /** Whom members have named, while this node does not know of them by itself. */
  readonly #vouched = new Set<string>();
  /** Addresses from which members have come, the latest last. */
  readonly #addresses = new Set<string>();
  #askedMs = Number.NEGATIVE_INFINITY;
  /** Where asking goes on: each space has its turn. */
  #next = 0;

  constructor(parts: AcquaintanceParts) {
    this.#parts = parts;
  }

  #look(olderThanMs: number): void {
    const nowMs = performance.now();
    if (nowMs - this.#seenMs < olderThanMs) return;
    this.#seenMs = nowMs;
    const { nodeId, mayReplicate: allowed, known, spaces } = this.#parts;
    const names = new Set(Object.keys(allowed ?? {}));
    const hosts = new Set<string>();
    const meet = (member: Member): void => {
      names.add(member.nodeId);
      if (member.nodeId !== nodeId) hosts.add(member.host);
    };
    for (const member of known()) meet(member);
    this.#hasSpaces = false;
    for (const { slot, facts } of unlike(spaces())) {
      if (slot === 0) continue;
      this.#hasSpaces = true;
      for (const member of facts.members) meet(member);
      for (const set of countingSets(facts.sets)) {
        for (const member of set.members) names.add(member.nodeId);
      }
      if (facts.primary !== '') names.add(facts.primary);
    }
    names.delete(nodeId);
    this.#names = names;
    this.#hosts = hosts;
  }

  /** A member of something here, or named. */
  knows(nodeId: string): boolean {
    this.#look(FRESH_MS);
    if (this.#names.has(nodeId) || this.#vouched.has(nodeId)) return true;
    // Whoever was the first to come may have brought a space since anybody looked.
    this.#look(this.#knowsNobody ? 0 : STRANGER_FRESH_MS);
    return this.#names.has(nodeId);
  }

  /** It has neither a space nor the name of any other node. */
  get #knowsNobody(): boolean {
    return this.#names.size === 0 && this.#vouched.size === 0 && !this.#hasSpaces;
  }

  isMembers(address: string): boolean {
    this.#look(FRESH_MS);
    return this.#addresses.has(address) || this.#hosts.has(address);
  }

  /** Throws NotMember. */
  check(nodeId: string): void {
    const { isProved, nodeId: own } = this.#parts;
    if (!isProved) return;
    if (!this.knows(nodeId) && nodeId !== own && !this.#knowsNobody) {
      void this.#ask();
      throw failure('NotMember', `${nodeId} is no member of anything that node ${own} knows`);
    }
  }

  /** One that was let in has come from there. */
  came(address: string): void {
    if (!this.#parts.isProved) return;
    this.#addresses.delete(address);
    this.#addresses.add(address);
    const [first] = this.#addresses;
    if (this.#addresses.size > MEMBER_ADDRESSES_MAX) this.#addresses.delete(first!);
  }

  /** Whether a node may replicate a space with this one, either way. */
  mayReplicate(nodeId: string, space: string): boolean {
    return mayReplicate(this.#parts.mayReplicate, nodeId, space);
  }

  /** Members of spaces that nobody ships here may know of changes that this node has missed. */
  async #ask(): Promise<void> {
    const { peers, isLinked, reachable, spaces } = this.#parts;
    if (performance.now() - this.#askedMs < ASK_EVERY_MS) return;
    this.#askedMs = performance.now();
    const left = [...spaces()].filter(({ slot, facts }) => {
      return slot !== 0 && facts.role === 'replica' && !isLinked(facts.primary);
    });
    const asked = left.length > ASK_SPACES_MAX ? [...left, ...left] : left;
    const from = left.length > ASK_SPACES_MAX ? this.#next % left.length : 0;
    const some = asked.slice(from, from + ASK_SPACES_MAX);
    this.#next = from + ASK_SPACES_MAX;
    const idsOf = new Map<string, { member: Member; ids: string[] }>();
    for (const space of some) {
      for (const member of reachable(space)) {
        const known = idsOf.get(member.nodeId);
        if (known) known.ids.push(space.facts.id);
        else if (idsOf.size < KNOCKS_AT_ONCE) {
          idsOf.set(member.nodeId, { member, ids: [space.facts.id] });
        }
      }
    }
    const calls = [...idsOf.values()].map(async ({ member, ids }) => {
      const question = { kind: 'standing-ask', ids } as const;
      for (const { rows } of await peers.ask(member, question, ['standing'], MEMBER_ASK_MS)) {
        for (const set of rows.flatMap((row) => countingSets(row.sets))) {
          for (const { nodeId } of set.members) this.#vouch(nodeId);
        }
      }
    });
    await Promise.allSettled(calls);
  }

  #vouch(nodeId: string): void {
    this.#vouched.delete(nodeId);
    this.#vouched.add(nodeId);
    const [first] = this.#vouched;
    if (this.#vouched.size > VOUCHED_MAX) this.#vouched.delete(first!);
  }
}
