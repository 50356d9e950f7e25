/**
 * What is wrong with a node, in words: one list of problems out of its figures, the same for the
 * page, the JSON, the probes and the command line. Problems of many spaces are one, counted.
 */
import { byName } from '../../../shared/natural-order.js';
import type { PrimaryStatus } from '../../follow/primary-links.js';
import { isCopy, lacksCopies, type WatchedCopy } from '../../ship/copies.js';
import type { SpaceReplicaStatus } from '../../ship/status.js';
import { clipped } from '../../tell/line.js';
import type { SpaceGlance, SpaceStatus } from '../status.js';
import { type Advice, adviceOf } from './advice.js';
import { type Chapter, KINDS, type ProblemKind, REFUSED_STATES } from './kinds.js';
import { type HealthWord, lagText, type Todo, todoOf, worse } from './words.js';

/** One thing that is wrong. */
export interface Problem {
  readonly kind: ProblemKind;
  readonly health: HealthWord;
  /** What whoever reads it must do. */
  readonly todo: Todo;
  /** Of docs/OPERATIONS.md: what to do about it. */
  readonly chapter: Chapter;
  /** The node itself (empty), a replica or a primary. */
  readonly subject: string;
  readonly text: string;
  /** Of all problems of a node: this one, as `?cause=` of /replication/status takes it. */
  readonly cause: string;
  readonly advice: Advice;
  /** How many spaces it concerns; 0: not a matter of spaces. */
  readonly spaces: number;
  /** The first few of them. */
  readonly examples: readonly string[];
  /** Makes /ready fail: this node does not do what it was opened for. */
  readonly isUnready: boolean;
}

/** What the problems of spaces are told with. */
export interface KnownOfNode {
  /** By id: the primaries that have shipped to this node since it was opened. */
  readonly primaries: ReadonlyMap<string, PrimaryStatus>;
  /** By replica id: why its link was lost last. */
  readonly losses: ReadonlyMap<string, string>;
  /** What is wrong with the node itself. */
  readonly own: readonly Problem[];
}

/** A problem of this kind: `more` says what it is more than the least. */
export function problem(
  kind: ProblemKind,
  text: string,
  more: Partial<Omit<Problem, 'kind' | 'text' | 'todo' | 'chapter' | 'cause' | 'advice'>> = {},
): Problem {
  const { chapter, health: least } = KINDS[kind];
  const { health = least, subject = '', spaces = 0, examples = [], isUnready = false } = more;
  const told = { subject, text: clipped(text), spaces, examples, isUnready };
  const cause = causeOf(kind, subject);
  const advice = adviceOf(kind, subject, examples[0] ?? '');
  return { kind, health, todo: todoOf(health), chapter, cause, advice, ...told };
}

function causeOf(kind: ProblemKind, subject: string): string {
  return subject === '' ? kind : `${kind}:${subject}`;
}

const EXAMPLES_MAX = 5;
const NO_CAUSES: readonly string[] = [];

interface Group {
  kind: ProblemKind;
  health: HealthWord;
  subject: string;
  spaces: number;
  examples: string[];
  isUnready: boolean;
  worstLagMs: number;
  /** The space of that; empty: none lags. */
  worst: string;
  detail: string;
  /** Spaces of which too few others have what is appended. */
  bare: number;
}

/** Who follows a space without entries is taken in with the first one: nothing lacks a copy yet. */
function copyOf(
  replica: SpaceReplicaStatus,
  { members, durableSequence }: SpaceStatus,
): WatchedCopy {
  const isLearner = durableSequence > 0 && members.learners.includes(replica.replicaId);
  return { ...replica, isLearner };
}

function isBareSpace(space: SpaceStatus): boolean {
  const copies = space.replicas.map((replica) => copyOf(replica, space));
  return lacksCopies(copies, space.members.keep);
}

/** Nobody leads it, or the one who leads cannot be reached and nobody else says that it lives. */
function lacksLeader({ leader }: SpaceStatus, isFollowed: boolean): boolean {
  return leader.nodeId === undefined || (!isFollowed && leader.by === 'static');
}

/**
 * What keeps a node from taking entries of a space: whoever leads it acknowledges nothing, whoever
 * follows it gets nothing.
 */
const STOPS: Readonly<Record<SpaceStatus['role'], readonly ProblemKind[]>> = {
  primary: ['log-failed', 'log-read-only', 'retention-full', 'lease-lost'],
  replica: ['log-failed', 'log-read-only'],
};

/** The word of one space. @param isFollowed whether the primary of a followed space is there */
function wordOfSpace(space: SpaceStatus, isFollowed: boolean): HealthWord {
  const isRepairing = space.repair?.state === 'repairing';
  if (!isRepairing && space.damage.some((range) => !range.accepted)) return 'corrupt';
  let word: HealthWord = isRepairing || !isFollowed ? 'degraded' : 'healthy';
  if (space.applyBlocked) word = worse(word, healthOfBlock(space.applyBlocked));
  if (space.refusal) word = worse(word, healthOfRefusal(space.refusal));
  if (lacksLeader(space, isFollowed) || isBareSpace(space)) word = worse(word, 'failed');
  for (const { status, slot } of space.replicas) {
    if (status === 'lagging') word = worse(word, 'lagging');
    else if (status !== 'healthy' || slot === 'unreserved') word = worse(word, 'degraded');
  }
  return word;
}

/** A space that another node leads is well there, whatever this one was. */
function healthOfRefusal({ code }: NonNullable<SpaceStatus['refusal']>): HealthWord {
  return code === 'Fenced' ? 'degraded' : 'failed';
}

/** A callback that has not returned yet may still. */
function healthOfBlock({ reason }: NonNullable<SpaceStatus['applyBlocked']>): HealthWord {
  return reason === 'silent' ? 'degraded' : 'failed';
}

/** Gathers the problems of all spaces, and counts their words. */
export class SpaceProblems {
  readonly counts: Record<HealthWord, number> = {
    healthy: 0,
    lagging: 0,
    degraded: 0,
    failed: 0,
    corrupt: 0,
  };
  readonly #groups = new Map<string, Group>();
  readonly #known: KnownOfNode;
  /** Of the space that is added. */
  #causes: string[] = [];

  constructor(known: KnownOfNode) {
    this.#known = known;
  }

  /** A space whose primary is here, or connected. */
  #isFollowed({ role, primaryNodeId }: Pick<SpaceStatus, 'role' | 'primaryNodeId'>): boolean {
    return role === 'primary' || (this.#known.primaries.get(primaryNodeId)?.isConnected ?? false);
  }

  /** What of the node itself keeps it from taking entries of a space. */
  #stopsOf({ role }: Pick<SpaceStatus, 'role'>): readonly Problem[] {
    return this.#known.own.filter(({ kind }) => STOPS[role].includes(kind));
  }

  /** A space of which nothing is wrong but, maybe, how far its replicas are. */
  isCalm(glance: SpaceGlance): boolean {
    return !glance.isTroubled && this.#isFollowed(glance) && this.#stopsOf(glance).length === 0;
  }

  /** Counts a calm space. */
  count(word: 'healthy' | 'lagging'): { word: HealthWord; causes: readonly string[] } {
    this.counts[word]++;
    return { word, causes: NO_CAUSES };
  }

  /** @returns the space's word, and the problems that it has a part in */
  add(space: SpaceStatus): { word: HealthWord; causes: readonly string[] } {
    this.#causes = [];
    const isFollowed = this.#isFollowed(space);
    let word = wordOfSpace(space, isFollowed);
    for (const { cause } of this.#stopsOf(space)) {
      word = worse(word, 'failed');
      this.#causes.push(cause);
    }
    this.counts[word]++;
    if (word === 'corrupt') {
      const { from, to } = space.damage.find((range) => !range.accepted)!;
      const which = `entries ${from} ${to === 0 ? 'and on' : `to ${to}`}`;
      this.#note('damaged', space, { detail: `${which} of ${space.name}`, isUnready: true });
    } else if (space.repair) {
      const detail = `${space.name} (${space.repair.reason})`;
      const isUnready = space.refusal !== undefined;
      this.#note('repairing', space, {
        detail,
        isUnready,
        health: isUnready ? 'failed' : undefined,
      });
    } else if (space.refusal) {
      const { code, message: detail } = space.refusal;
      const more = { subject: code, isUnready: code === 'StalePrimary' };
      this.#note('refused', space, { ...more, detail, health: healthOfRefusal(space.refusal) });
    }
    if (space.applyBlocked) {
      const { sequence, reason, callback } = space.applyBlocked;
      const why = callback ? `${callback}() does not return` : reason;
      const detail = `${space.name} at ${sequence} (${why})`;
      this.#note('apply-blocked', space, { detail, health: healthOfBlock(space.applyBlocked) });
    }
    if (space.leader.nodeId === undefined) {
      this.#note('leaderless', space, { detail: space.leader.reason });
    } else if (!isFollowed) {
      const health = lacksLeader(space, isFollowed) ? undefined : 'degraded';
      this.#note('primary-gone', space, { subject: space.primaryNodeId, health });
    }
    const isBare = isBareSpace(space);
    for (const replica of space.replicas) this.#replica(space, replica, isBare);
    return { word, causes: this.#causes };
  }

  /** @param isBare too few others take its place */
  #replica(space: SpaceStatus, replica: SpaceReplicaStatus, isBare: boolean): void {
    const { replicaId: subject, slot, status, state, lagMs, reason } = replica;
    const health = isBare && !isCopy(copyOf(replica, space)) ? 'failed' : undefined;
    const note = (kind: ProblemKind, detail: string): Group =>
      this.#note(kind, space, { subject, detail, health });
    const refused = REFUSED_STATES.find((known) => known === state);
    const loss = this.#known.losses.get(subject) ?? reason;
    if (slot === 'unreserved') note('slot-unreserved', '');
    if (refused) note(refused, reason);
    else if (status === 'failed') note('replica-failed', loss);
    else if (status !== 'degraded') {
      if (health !== undefined) note('learner', '');
    } else if (state === 'never-connected') note('never-connected', loss);
    else if (state === 'silent' || state === 'stalled') note(state, reason);
    else {
      const group = note('replica-lagging', state);
      const ms = lagMs === 'unknown' ? Number.POSITIVE_INFINITY : lagMs;
      if (ms <= group.worstLagMs) return;
      group.worstLagMs = ms;
      group.worst = space.name;
    }
  }

  /** @param more.health where it is worse, or better, than the kind is by itself */
  #note(
    kind: ProblemKind,
    { name }: SpaceStatus,
    more: {
      readonly subject?: string;
      readonly detail?: string;
      readonly isUnready?: boolean;
      readonly health?: HealthWord | undefined;
    },
  ): Group {
    const { subject = '', detail = '', isUnready = false, health = KINDS[kind].health } = more;
    const key = causeOf(kind, subject);
    this.#causes.push(key);
    let group = this.#groups.get(key);
    if (!group) {
      const of = { kind, health, subject, detail, isUnready };
      group = { ...of, spaces: 0, examples: [], worstLagMs: -1, worst: '', bare: 0 };
      this.#groups.set(key, group);
    }
    // One of them is enough.
    group.isUnready ||= isUnready;
    group.health = worse(group.health, health);
    if (worse(health, KINDS[kind].health) !== KINDS[kind].health && subject !== '') group.bare++;
    group.spaces++;
    keepFirst(group.examples, name);
    return group;
  }

  /** Of the node itself, then of its spaces. */
  list(): Problem[] {
    const ofSpaces = [...this.#groups.values()].map((group) =>
      problem(group.kind, textOf(group, this.#known.primaries.get(group.subject)), {
        ...group,
        examples: examplesOf(group),
      }),
    );
    return [...this.#known.own, ...ofSpaces];
  }
}

/** The worst stands first. */
function examplesOf({ examples, worst }: Group): readonly string[] {
  if (worst === '') return examples;
  return [worst, ...examples.filter((name) => name !== worst)].slice(0, EXAMPLES_MAX);
}

/** The first few of all, in the order of names. */
function keepFirst(names: string[], name: string): void {
  if (names.length === EXAMPLES_MAX && byName(name, names.at(-1)!) > 0) return;
  const at = names.findIndex((one) => byName(name, one) < 0);
  names.splice(at < 0 ? names.length : at, 0, name);
  names.length = Math.min(names.length, EXAMPLES_MAX);
}

function textOf(group: Group, primary: PrimaryStatus | undefined): string {
  const { kind, subject, spaces, detail, worstLagMs, bare } = group;
  const of = spaces === 1 ? group.examples[0]! : `${spaces.toLocaleString('en')} spaces`;
  const more = `and more: ${of} in all`;
  const all = spaces === 1 ? detail : `${detail}, ${more}`;
  const alone = bare === 0 ? '' : `; appends to ${bare === spaces ? of : `${bare} of them`} are`;
  const copies = alone === '' ? '' : `${alone} on too few disks, ack is refused or late`;
  switch (kind) {
    case 'damaged':
      return `Acknowledged entries cannot be read: ${all}`;
    case 'repairing':
      return `Damaged entries are asked for: ${all}`;
    case 'refused':
      return `No appends are taken here for ${of}: ${detail}`;
    case 'apply-blocked':
      return `Nothing is applied any more: ${all}`;
    case 'leaderless':
      return `Nobody leads ${of}, no appends are taken anywhere: ${detail}`;
    case 'primary-gone': {
      const why = primary ? `is gone (${primary.reason})` : 'has not connected';
      return `Primary ${subject} ${why}: nothing new comes for ${of}`;
    }
    case 'learner': {
      const agreed = 'the members have not agreed on its directory';
      return `Replica ${subject} does not count yet (${agreed}): ${of}${copies}`;
    }
    case 'slot-unreserved':
      return `What ${subject} lacks of ${of} is about to be given up: it is too far behind`;
    case 'never-connected': {
      const unknown = `how far it has ${of} is not known`;
      return `Replica ${subject} has never been connected (${detail}): ${unknown}${copies}`;
    }
    case 'replica-failed':
      return `Replica ${subject} has failed (${detail}): it gets nothing of ${of}${copies}`;
    case 'replica-lagging': {
      const isKnown = Number.isFinite(worstLagMs);
      const lags = isKnown ? `is ${lagText(worstLagMs)} behind` : 'is behind, how far is not known';
      return `Replica ${subject} ${lags} (${detail}): ${of}${copies}`;
    }
    default:
      return `Replica ${subject} is ${kind} (${detail}): ${of}${copies}`;
  }
}
