/**
 * The other members of a space, as one that wants to lead it meets them: who they are, where they
 * listen, where they stand, what they promise.
 */

import type { Address } from '../../../shared/address.js';
import { EngramError, failure, withCode } from '../../../shared/errors.js';
import { MEMBER_ASK_MS } from '../../../shared/limits.js';
import type { Member } from '../../../shared/log/node-record.js';
import { countingSets } from '../../../shared/members/members.js';
import type { Epoch, Position } from '../../../shared/position.js';
import type { StandingRow, TipRow } from '../../../shared/wire/peer-frames.js';
import type { Promised } from '../../../shared/wire/role-frames.js';
import type { SpaceState } from '../../log/space-table.js';
import type { PeerClient } from '../../peer/client.js';
import { MemberCalls } from '../../peer/member-calls.js';

/** One that did not answer, and why. */
export interface SilentMember {
  readonly nodeId: string;
  readonly reason: string;
}

/** Where a member stands, as it says itself. */
export type MemberStanding = StandingRow & { readonly nodeId: string };

/** What the other members have said of a space. */
export interface Poll {
  readonly answers: readonly MemberStanding[];
  readonly silent: readonly SilentMember[];
}

/** A member's word on an epoch. */
export interface PromiseAnswer {
  readonly nodeId: string;
  readonly isGranted: boolean;
  readonly epochSeen: Epoch;
  readonly position: Position;
  readonly reason: string;
  /** Of who answers; undefined where it speaks version 1, or gave no answer. */
  readonly directoryId?: string | undefined;
}

export class Electorate {
  readonly #nodeId: string;
  readonly #peers: PeerClient;
  readonly #calls: MemberCalls;
  /** The nodes that this one ships to, or could: where they listen. */
  readonly #known: () => readonly Member[];
  readonly #address: () => Address | undefined;
  readonly #lives: (nodeId: string) => boolean;

  /**
   * @param known where nodes listen
   * @param address where this one does
   * @param lives false of a node that is known to be gone
   */
  constructor(
    nodeId: string,
    peers: PeerClient,
    known: () => readonly Member[],
    address: () => Address | undefined,
    lives: (nodeId: string) => boolean,
  ) {
    this.#nodeId = nodeId;
    this.#peers = peers;
    this.#calls = new MemberCalls(peers);
    this.#known = known;
    this.#address = address;
    this.#lives = lives;
  }

  /** This node, as others may dial it; port 0 where it does not listen. */
  get self(): Member {
    return { nodeId: this.#nodeId, ...(this.#address() ?? { host: '', port: 0 }) };
  }

  /** The ids of the other nodes that have it, its primary and whoever counts among them. */
  idsOf(space: SpaceState): string[] {
    const { members, primary, sets } = space.facts;
    const named = members.length > 0 ? members : this.#known();
    const counting = countingSets(sets).flatMap((set) => set.members);
    const ids = new Set([...named, ...counting].map((m) => m.nodeId));
    if (primary !== '') ids.add(primary);
    ids.delete(this.#nodeId);
    return [...ids];
  }

  /** Where a member of the space listens, as far as this node knows. */
  memberOf(space: SpaceState, nodeId: string): Member | undefined {
    const configured = this.#known().find((m) => m.nodeId === nodeId);
    return configured ?? space.facts.members.find((m) => m.nodeId === nodeId);
  }

  /** The other members that can be dialled. */
  reachable(space: SpaceState): Member[] {
    return this.idsOf(space)
      .map((id) => this.memberOf(space, id))
      .filter((member) => member !== undefined && member.port > 0) as Member[];
  }

  /**
   * Asks where every other member stands: promises nothing, burns nothing.
   * @param suffices whether nobody else need be waited for; default: whoever lives is
   */
  async poll(
    space: SpaceState,
    suffices: (answers: readonly MemberStanding[]) => boolean = () => false,
  ): Promise<Poll> {
    const answers: MemberStanding[] = [];
    const silent: SilentMember[] = [];
    const ids = this.idsOf(space);
    const asked = ids.map(async (nodeId) => {
      const told = await this.#standing(space, nodeId).catch(reasonOf);
      if (typeof told === 'string') silent.push({ nodeId, reason: told });
      else answers.push({ nodeId, ...told });
    });
    const lives = ids.map((id) => this.#lives(id));
    await enoughOf(asked, () => suffices(answers), lives);
    const heard = [...answers, ...silent].map((a) => a.nodeId);
    for (const nodeId of ids.filter((id) => !heard.includes(id))) {
      const gone = 'the coordinator says that it is gone';
      silent.push({ nodeId, reason: this.#lives(nodeId) ? 'it was not waited for' : gone });
    }
    return { answers: [...answers], silent: [...silent] };
  }

  async #standing(space: SpaceState, nodeId: string): Promise<StandingRow | string> {
    const member = this.memberOf(space, nodeId);
    if (!member || member.port === 0) return 'nobody knows where it listens';
    const row = await this.#calls.standing(member, space.facts.id);
    return row.isKnown ? row : 'it does not know the space';
  }

  /** What a member has durable of a space that it leads. Rejects NotPrimary, and as a question. */
  async tipOf(space: SpaceState, nodeId: string): Promise<TipRow> {
    const member = this.memberOf(space, nodeId);
    if (!member || member.port === 0) {
      const found = `${space.facts.name}: nobody knows where ${nodeId}, which leads it, listens`;
      throw failure('NotPrimary', found, { details: { primaryNodeId: nodeId } });
    }
    return await this.#calls.tip(member, space.facts.id);
  }

  /**
   * Asks these members for their promise; silence is none.
   * @param suffices whether nobody else need be waited for; default: all are
   */
  async promises(
    space: SpaceState,
    nodeIds: readonly string[],
    epoch: Epoch,
    handover: bigint,
    suffices: (given: readonly PromiseAnswer[]) => boolean = () => false,
  ): Promise<PromiseAnswer[]> {
    const given: PromiseAnswer[] = [];
    const asked = nodeIds.map(async (nodeId) => {
      const member = this.memberOf(space, nodeId);
      const none = { nodeId, isGranted: false, epochSeen: 0, position: NONE };
      if (!member) given.push({ ...none, reason: 'nobody knows where it listens' });
      else {
        const answer = await this.#promise(space, member, epoch, handover).catch(reasonOf);
        given.push(
          typeof answer === 'string' ? { ...none, reason: answer } : { ...answer, nodeId },
        );
      }
    });
    await enoughOf(asked, () => suffices(given));
    return [...given];
  }

  /** A hand-over is a matter of one space; other promises go together. */
  async #promise(
    space: SpaceState,
    member: Member,
    epoch: Epoch,
    handover: bigint,
  ): Promise<Promised> {
    const { id } = space.facts;
    if (handover === 0n) return await this.#calls.promise(member, id, epoch, this.self);
    const question = { kind: 'promise', id, epoch, candidate: this.self, handover } as const;
    const [answer] = await this.#peers.ask(member, question, ['promised'], MEMBER_ASK_MS);
    if (!answer) throw failure('ProtocolViolation', `${member.nodeId} gave no answer`);
    return answer;
  }

  /** Asks a member to take the space over. Rejects as it does. */
  async takeOver(
    space: SpaceState,
    nodeId: string,
    handover: bigint,
    timeoutMs: number,
  ): Promise<Epoch> {
    const member = this.memberOf(space, nodeId)!;
    const { id, position } = space.facts;
    const question = { kind: 'take-over', id, position, handover } as const;
    const [answer] = await this.#peers.ask(member, question, ['took-over'], timeoutMs);
    if (!answer) throw failure('ProtocolViolation', `${nodeId} gave no answer`);
    if (answer.epoch > 0) return answer.epoch;
    throw failure('PromotionRefused', `${nodeId}: ${withCode(answer.code, answer.reason)}`);
  }
}

/** How long one that need not answer, or is gone by the coordinator's word, still may. */
const UNNEEDED_MEMBER_MS = 50;

/**
 * Resolves when all that are `waited` for are through, or enough are: a word of the others is
 * welcome, but not waited for. Rejects as they do.
 */
async function enoughOf(
  asked: readonly Promise<void>[],
  isEnough: () => boolean,
  waited: readonly boolean[] = asked.map(() => true),
): Promise<void> {
  const early = new Promise<void>((resolve, reject) => {
    if (isEnough()) resolve();
    for (const one of asked) one.then(() => isEnough() && resolve()).catch(reject);
  });
  await Promise.race([Promise.all(asked.filter((_, n) => waited[n])), early]);
  await atMost(Promise.all(asked), UNNEEDED_MEMBER_MS);
}

/** Resolves with the work, or when the time is over. */
async function atMost(work: Promise<unknown>, ms: number): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise((resolve) => {
    timer = setTimeout(resolve, ms);
  });
  await Promise.race([work, late]);
  clearTimeout(timer);
}

const NONE: Position = { epoch: 0, sequence: 0, headerCrc: 0 };

function reasonOf(error: unknown): string {
  if (!(error instanceof EngramError)) throw error;
  return error.message.split('\n', 1)[0]!;
}
