/**
 * The whole cluster as this node sees it: asks every member that it knows how it is, all at once
 * and not for long, at most once a second however many look.
 */
import { EngramError, failure } from '../../../shared/errors.js';
import { CLUSTER_ASK_MS, CLUSTER_MEMBERS_MAX } from '../../../shared/limits.js';
import { idOf } from '../../../shared/names.js';
import { byName } from '../../../shared/natural-order.js';
import type { GlanceLink } from '../../../shared/wire/peer-frames.js';
import type { KnownMember } from '../../lead/members/known-members.js';
import type { PeerClient } from '../../peer/client.js';
import type { MemberCalls } from '../../peer/member-calls.js';
import { within } from '../../runtime/deadline.js';
import { todoOf, worse } from '../health/words.js';
import type { SeenSpace } from '../seen-node.js';
import type { NodeSummary } from '../status.js';
import type { StatusBoard } from '../status-board.js';
import type { ClusterJson, LagJson, MemberJson, WhereJson } from './cluster-json.js';
import { glanceOf, reasonOf, type TakenGlance, takeGlance } from './glance.js';
import { ownCopy, toldCopy, whereOf } from './where.js';

/** How old what is shown may be. */
const FRESH_MS = 1_000;

export interface ClusterParts {
  readonly nodeId: string;
  readonly board: StatusBoard;
  readonly peers: PeerClient;
  readonly calls: MemberCalls;
  /** Where people find the page of this node; '': nobody can say. */
  page(): string;
  summary(): NodeSummary;
  members(): Promise<KnownMember[]>;
  space(name: string): SeenSpace | undefined;
}

/** What came of asking one member. */
type Answer =
  | { readonly state: 'answers'; readonly glance: TakenGlance }
  | { readonly state: 'older' }
  | { readonly state: 'away'; readonly reason: string };

interface Asked {
  readonly member: KnownMember;
  readonly answer: Answer;
  /** Monotonic ms; undefined: it was never there. */
  readonly sinceMs: number | undefined;
}

/** Everything but one space. */
type Whole = Omit<ClusterJson, 'space' | 'at'>;

/** All in monotonic ms. */
interface Seen {
  readonly isThere: boolean;
  /** undefined: it never was there. */
  readonly sinceMs: number | undefined;
  /** When it gave its last answer; undefined: never. */
  readonly heardMs: number | undefined;
}

interface Kept<T> {
  readonly atMs: number;
  readonly value: Promise<T>;
}

export class Cluster {
  readonly #parts: ClusterParts;
  #whole: Kept<Whole> | undefined;
  readonly #spaces = new Map<string, Kept<WhereJson>>();
  /** How each was when it was asked last. */
  readonly #seen = new Map<string, Seen>();

  constructor(parts: ClusterParts) {
    this.#parts = parts;
  }

  /**
   * All members, at most a second old; within 2 s, whoever is away.
   * @param name of a space: where it is, too
   */
  async json(name?: string): Promise<ClusterJson> {
    const [whole, space] = await Promise.all([
      this.#fresh(),
      name === undefined ? undefined : this.#where(name),
    ]);
    return { ...whole, at: Date.now(), ...(space && { space }) };
  }

  #fresh(): Promise<Whole> {
    if (isOld(this.#whole)) this.#whole = kept(this.#ask());
    return this.#whole!.value;
  }

  #where(name: string): Promise<WhereJson> {
    for (const [other, one] of this.#spaces) if (isOld(one)) this.#spaces.delete(other);
    let found = this.#spaces.get(name);
    if (!found) {
      found = kept(this.#locate(name));
      this.#spaces.set(name, found);
    }
    return found.value;
  }

  // --- how the members are -----------------------------------------------------------------

  async #ask(): Promise<Whole> {
    const { board, members, nodeId, page } = this.#parts;
    const known = (await members()).sort((a, b) => byName(a.nodeId, b.nodeId));
    const chosen = known.slice(0, CLUSTER_MEMBERS_MAX);
    const [snapshot, ...asked] = await Promise.all([
      board.fresh(),
      ...chosen.map((member) => this.#member(member)),
    ]);
    const own = glanceOf(snapshot, board.uptimeMs, page());
    for (const id of this.#seen.keys()) {
      if (!chosen.some((member) => member.nodeId === id)) this.#seen.delete(id);
    }
    const told = new Map([[nodeId, own]]);
    for (const { member, answer } of asked) {
      if (answer.state === 'answers') told.set(member.nodeId, answer.glance);
    }
    const rows = asked.map((one) => memberJson(one, told));
    const self = ownJson(own, snapshot.node, board.uptimeMs);
    const all = [...rows, self].sort((a, b) => byName(a.nodeId, b.nodeId));
    let { health } = own;
    for (const row of rows) {
      if (row.state === 'away') health = worse(health, 'degraded');
      else if (row.health) health = worse(health, row.health);
    }
    return {
      clusterId: snapshot.node.clusterId,
      nodeId,
      health,
      todo: todoOf(health),
      members: all,
      more: known.length - chosen.length,
      lag: lagJson(told, all),
    };
  }

  async #member(member: KnownMember): Promise<Asked> {
    const answer = await this.#answer(member);
    return { member, answer, sinceMs: this.#since(member.nodeId, answer.state !== 'away') };
  }

  async #answer(known: KnownMember): Promise<Answer> {
    const { nodeId, address } = known;
    if (!address) return { state: 'away', reason: 'nobody has said where it listens' };
    const untilMs = performance.now() + CLUSTER_ASK_MS;
    try {
      const call = await this.#parts.peers.open({ nodeId, ...address }, CLUSTER_ASK_MS);
      try {
        if (!call.knowsGlance) return { state: 'older' };
        const leftMs = (): number => Math.max(1, untilMs - performance.now());
        let glance: TakenGlance | undefined;
        await call.ask({ kind: 'glance-ask' }, ['glance'], leftMs(), (told) => {
          // Nothing more is taken of who goes on and on.
          if (glance) throw failure('ProtocolViolation', 'it gave more than one answer');
          glance = takeGlance(told, address.host);
          return leftMs();
        });
        if (!glance) throw failure('ProtocolViolation', 'it gave no answer');
        return { state: 'answers', glance };
      } finally {
        call.close();
      }
    } catch (error) {
      if (!(error instanceof EngramError)) throw error;
      return { state: 'away', reason: reasonOf(error) };
    }
  }

  /** @returns since when it is there or away, monotonic; undefined: it never was there */
  #since(nodeId: string, isThere: boolean): number | undefined {
    const nowMs = performance.now();
    const known = this.#seen.get(nodeId);
    const heardMs = isThere ? nowMs : known?.heardMs;
    const { replicas, primaries } = this.#parts.summary();
    const replica = replicas.find((one) => one.replicaId === nodeId);
    const primary = primaries.find((one) => one.primaryId === nodeId);
    let sinceMs = isThere && known?.isThere ? known.sinceMs : undefined;
    if (isThere && sinceMs === undefined) {
      const linkMs = replica && isUp(replica) ? replica.since : 0;
      sinceMs = nowMs - Math.max(linkMs, primary?.isConnected ? primary.since : 0);
    } else if (!isThere) {
      // Since it was heard last, by whatever link.
      const agos = [replica?.lastReceivedAgeMs, heardMs && nowMs - heardMs];
      if (primary) agos.push(primary.isConnected ? 0 : primary.since);
      const least = leastOf(agos);
      sinceMs = least === undefined ? undefined : nowMs - least;
    }
    this.#seen.set(nodeId, { isThere, sinceMs, heardMs });
    return sinceMs;
  }

  // --- where a space is --------------------------------------------------------------------

  async #locate(name: string): Promise<WhereJson> {
    const { nodeId, members, calls, space } = this.#parts;
    const id = idOf(name);
    const known = (await members()).slice(0, CLUSTER_MEMBERS_MAX);
    const asked = known.map(async ({ nodeId, address }) => {
      if (!address) return toldCopy(nodeId, 'nobody has said where it listens');
      const standing = calls.standing({ nodeId, ...address }, id);
      const told = await within(standing, CLUSTER_ASK_MS).catch((error: unknown) => {
        if (!(error instanceof EngramError)) throw error;
        return reasonOf(error);
      });
      return toldCopy(nodeId, told === 'late' ? `no answer in ${CLUSTER_ASK_MS} ms` : told);
    });
    const copies = [ownCopy(nodeId, space(name)?.status()), ...(await Promise.all(asked))];
    copies.sort((a, b) => byName(a.nodeId, b.nodeId));
    return whereOf(name, copies);
  }
}

function isOld(one: Kept<unknown> | undefined): boolean {
  return !one || performance.now() - one.atMs >= FRESH_MS;
}

/** From when it was asked on: what comes of it is for all that ask meanwhile. */
function kept<T>(value: Promise<T>): Kept<T> {
  return { atMs: performance.now(), value };
}

function ownJson(own: TakenGlance, node: NodeSummary, uptimeMs: number): MemberJson {
  const address = node.address ?? null;
  const there = { state: 'self', reason: '', heardBy: [], address } as const;
  return { nodeId: node.nodeId, ...there, forMs: Math.round(uptimeMs), ...saidJson(own) };
}

function memberJson(
  { member, answer, sinceMs }: Asked,
  told: ReadonlyMap<string, TakenGlance>,
): MemberJson {
  const { nodeId, address, led } = member;
  const { state } = answer;
  const away = state === 'away';
  const heard = away ? linksTo(nodeId, told) : [];
  const heardBy = heard.filter(isUp).map(({ by }) => by);
  const own = sinceMs === undefined ? undefined : performance.now() - sinceMs;
  // Members that have lost it may know better since when; those that have not, know nothing of it.
  const ago = heardBy.length > 0 ? own : leastOf([own, ...heard.map((link) => link.heardAgoMs)]);
  const forMs = ago === undefined ? null : Math.round(ago);
  const reason = away ? answer.reason : '';
  const said = state === 'answers' ? saidJson(answer.glance) : { ...SAYS_NOTHING, led };
  return { nodeId, state, forMs, reason, heardBy, address: address ?? null, ...said };
}

const SAYS_NOTHING = {
  ...{ health: null, todo: null, problems: null, worst: null, version: null, spaces: null },
  ...{ uptimeMs: null, url: null },
} as const;

type Said = Omit<MemberJson, 'nodeId' | 'state' | 'forMs' | 'reason' | 'heardBy' | 'address'>;

function saidJson({ links: _, worst, url, health, ...said }: TakenGlance): Said {
  const some = (text: string): string | null => (text === '' ? null : text);
  return { ...said, health, todo: todoOf(health), worst: some(worst), url: some(url) };
}

/** Links of other members to this one. */
function linksTo(
  nodeId: string,
  told: ReadonlyMap<string, TakenGlance>,
): (GlanceLink & { readonly by: string })[] {
  return [...told].flatMap(([by, { links }]) =>
    links.filter((link) => link.replicaId === nodeId).map((link) => ({ by, ...link })),
  );
}

function isUp({ state }: { readonly state: string }): boolean {
  return state === 'streaming' || state === 'catching-up';
}

function leastOf(agos: readonly (number | undefined)[]): number | undefined {
  const known = agos.filter((ms) => ms !== undefined);
  return known.length > 0 ? Math.min(...known) : undefined;
}

/** Of members alone, whatever else one of them may name. */
function lagJson(
  told: ReadonlyMap<string, TakenGlance>,
  members: readonly MemberJson[],
): LagJson[] {
  const known = new Set(members.map(({ nodeId }) => nodeId));
  const found = [...told].flatMap(([leader, { links }]) =>
    links
      .filter((link) => link.spaces > 0 && known.has(link.replicaId))
      .map(({ replicaId, lagMs, heardAgoMs: _, ...link }): LagJson => {
        return { leader, member: replicaId, ...link, lagMs: lagMs ?? 'unknown' };
      }),
  );
  return found.sort((a, b) => byName(a.leader, b.leader) || byName(a.member, b.member));
}
