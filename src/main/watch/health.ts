/**
 * What is wrong with a node, in words: one list of problems out of its figures, the same for the
 * page, the JSON, the probes and the command line. Problems of many spaces are one, counted.
 */
import type { ReplicaStatus } from '../../shared/link/lag.js';
import type { PrimaryStatus } from '../follow/primary-links.js';
import type { ReplicaLinkStatus, SpaceReplicaStatus } from '../ship/status.js';
import { clipped } from '../tell/line.js';
import type { NodeSummary, SpaceStatus } from './status.js';

/** From good to bad. `corrupt`: acknowledged data cannot be read. */
export const HEALTH_WORDS = ['healthy', 'lagging', 'degraded', 'failed', 'corrupt'] as const;
export type HealthWord = ReplicaStatus | 'corrupt';

export function worse(a: HealthWord, b: HealthWord): HealthWord {
  return HEALTH_WORDS.indexOf(b) > HEALTH_WORDS.indexOf(a) ? b : a;
}

export type ProblemKind =
  | 'log-failed'
  | 'log-read-only'
  | 'slow-disk'
  | 'retention-full'
  | 'damaged'
  | 'repairing'
  | 'refused'
  | 'replica-failed'
  | 'replica-lagging'
  | 'never-connected'
  | 'silent'
  | 'stalled'
  | 'slot-unreserved'
  | RefusedState
  | 'apply-blocked'
  | 'primary-gone'
  | 'primary-stalled'
  | 'lease-lost'
  | 'coordinator-away'
  | 'unused';

/** Named states in which a replica gets nothing of a space, however well its link is. */
const REFUSED_STATES = [
  'slot-lost',
  'rewind-needed',
  'snapshot-needed',
  'fenced',
  'forked',
  'regressed',
] as const;
type RefusedState = (typeof REFUSED_STATES)[number];

/** One thing that is wrong. */
export interface Problem {
  readonly kind: ProblemKind;
  readonly health: HealthWord;
  /** The node itself (empty), a replica or a primary. */
  readonly subject: string;
  readonly text: string;
  /** How many spaces it concerns; 0: not a matter of spaces. */
  readonly spaces: number;
  /** The first few of them. */
  readonly examples: readonly string[];
  /** Makes /ready fail: this node does not do what it was opened for. */
  readonly isUnready: boolean;
}

/** What the problems of spaces are told with. */
export interface LinksKnown {
  /** By id: the primaries that have shipped to this node since it was opened. */
  readonly primaries: ReadonlyMap<string, PrimaryStatus>;
  /** By replica id: why its link was lost last. */
  readonly losses: ReadonlyMap<string, string>;
}

const EXAMPLES_MAX = 5;

interface Group {
  kind: ProblemKind;
  health: HealthWord;
  subject: string;
  spaces: number;
  examples: string[];
  isUnready: boolean;
  worstLagMs: number;
  detail: string;
}

/** The word of one space. @param isFollowed whether the primary of a followed space is there */
export function wordOfSpace(space: SpaceStatus, isFollowed: boolean): HealthWord {
  const isRepairing = space.repair?.state === 'repairing';
  if (!isRepairing && space.damage.some((range) => !range.accepted)) return 'corrupt';
  if (space.applyBlocked) return 'failed';
  if (space.refusal) return healthOfRefusal(space.refusal);
  if (isRepairing || !isFollowed) return 'degraded';
  let word: HealthWord = 'healthy';
  for (const replica of space.replicas) word = worse(word, replica.status);
  return word;
}

/** A space that another node leads is well there, whatever this one was. */
function healthOfRefusal({ code }: NonNullable<SpaceStatus['refusal']>): HealthWord {
  return code === 'Fenced' ? 'degraded' : 'failed';
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
  readonly #links: LinksKnown;

  constructor(links: LinksKnown) {
    this.#links = links;
  }

  /** A space whose primary is here, or connected. */
  isFollowed({ role, primaryNodeId }: Pick<SpaceStatus, 'role' | 'primaryNodeId'>): boolean {
    return role === 'primary' || (this.#links.primaries.get(primaryNodeId)?.isConnected ?? false);
  }

  /** Counts a space of which nothing is wrong. */
  count(word: 'healthy' | 'lagging'): HealthWord {
    this.counts[word]++;
    return word;
  }

  /** @returns the space's word */
  add(space: SpaceStatus): HealthWord {
    const { name, primaryNodeId, refusal, applyBlocked } = space;
    const isFollowed = this.isFollowed(space);
    const word = wordOfSpace(space, isFollowed);
    this.counts[word]++;
    if (word === 'corrupt') {
      const { from, to } = space.damage.find((range) => !range.accepted)!;
      const which = `entries ${from} ${to === 0 ? 'and on' : `to ${to}`}`;
      this.#note('damaged', 'corrupt', '', name, `${which} of ${name}`, true);
    } else if (space.repair) {
      const { reason } = space.repair;
      const text = `${name} (${reason})`;
      this.#note('repairing', word, '', name, text, refusal !== undefined);
    } else if (refusal) {
      const isStale = refusal.code === 'StalePrimary';
      const health = healthOfRefusal(refusal);
      this.#note('refused', health, refusal.code, name, refusal.message, isStale);
    }
    if (applyBlocked) {
      const { sequence, reason, callback } = applyBlocked;
      const why = callback ? `${callback}() does not return` : reason;
      const health = reason === 'silent' ? 'degraded' : 'failed';
      this.#note('apply-blocked', health, '', name, `${name} at ${sequence} (${why})`, false);
    }
    if (!isFollowed) {
      this.#note('primary-gone', 'degraded', primaryNodeId, name, '', false);
    }
    for (const replica of space.replicas) this.#replica(name, replica);
    return word;
  }

  #replica(space: string, replica: SpaceReplicaStatus): void {
    const { replicaId, slot, status, state, lagMs, reason } = replica;
    const note = (kind: ProblemKind, health: HealthWord, detail: string): Group =>
      this.#note(kind, health, replicaId, space, detail, false);
    const refused = REFUSED_STATES.find((known) => known === state);
    const loss = this.#links.losses.get(replicaId) ?? reason;
    if (slot === 'unreserved') note('slot-unreserved', 'degraded', '');
    if (refused) note(refused, 'failed', reason);
    else if (status === 'failed') note('replica-failed', 'failed', loss);
    else if (status !== 'degraded') return;
    else if (state === 'never-connected') note('never-connected', 'degraded', loss);
    else if (state === 'silent' || state === 'stalled') note(state, 'degraded', reason);
    else {
      const group = note('replica-lagging', 'degraded', state);
      const ms = lagMs === 'unknown' ? Number.POSITIVE_INFINITY : lagMs;
      if (ms <= group.worstLagMs) return;
      group.worstLagMs = ms;
      // The worst stands first.
      group.examples = [space, ...group.examples.filter((name) => name !== space)];
      group.examples.length = Math.min(group.examples.length, EXAMPLES_MAX);
    }
  }

  #note(
    kind: ProblemKind,
    health: HealthWord,
    subject: string,
    space: string,
    detail: string,
    isUnready: boolean,
  ): Group {
    const key = `${kind} ${subject}`;
    let group = this.#groups.get(key);
    if (!group) {
      const of = { kind, health, subject, detail, isUnready };
      group = { ...of, spaces: 0, examples: [], worstLagMs: -1 };
      this.#groups.set(key, group);
    }
    // One of them is enough.
    group.isUnready ||= isUnready;
    group.spaces++;
    if (group.examples.length < EXAMPLES_MAX) group.examples.push(space);
    return group;
  }

  list(): Problem[] {
    return [...this.#groups.values()].map((group) => {
      const { kind, health, subject, spaces, examples, isUnready } = group;
      const primary = this.#links.primaries.get(subject);
      const text = clipped(textOf(group, primary));
      return { kind, health, subject, text, spaces, examples, isUnready };
    });
  }
}

function textOf(group: Group, primary: PrimaryStatus | undefined): string {
  const { kind, subject, spaces, detail, worstLagMs } = group;
  const of = spaces === 1 ? group.examples[0]! : `${spaces.toLocaleString('en')} spaces`;
  const more = `and more: ${of} in all`;
  switch (kind) {
    case 'damaged':
      return `Acknowledged entries cannot be read: ${spaces === 1 ? detail : `${detail}, ${more}`}`;
    case 'repairing':
      return `Damaged entries are asked for: ${spaces === 1 ? detail : `${detail}, ${more}`}`;
    case 'refused':
      return `No appends are taken here for ${of}: ${detail}`;
    case 'apply-blocked':
      return `Nothing is applied any more: ${spaces === 1 ? detail : `${detail}, ${more}`}`;
    case 'primary-gone': {
      const why = primary ? `is gone (${primary.reason})` : 'has not connected';
      return `Primary ${subject} ${why}: nothing new comes for ${of}`;
    }
    case 'slot-unreserved':
      return `What ${subject} lacks of ${of} is about to be given up: it is too far behind`;
    case 'never-connected':
      return (
        `Replica ${subject} has never been connected (${detail}): ` +
        `how far it has ${of} is not known`
      );
    case 'replica-failed':
      return `Replica ${subject} has failed (${detail}): it gets nothing of ${of}`;
    case 'replica-lagging':
      return `Replica ${subject} is ${lagText(worstLagMs)} behind (${detail}): ${of}`;
    default:
      return `Replica ${subject} is ${kind} (${detail}): ${of}`;
  }
}

/** Milliseconds as people say them. */
export function lagText(ms: number | 'unknown'): string {
  if (ms === 'unknown' || !Number.isFinite(ms)) return 'unknown';
  if (ms < 1_000) return `${Math.round(ms)} ms`;
  if (ms < 120_000) return `${(ms / 1_000).toFixed(1)} s`;
  const minutes = Math.round(ms / 60_000);
  return minutes < 120 ? `${minutes} min` : `${Math.round(minutes / 60)} h`;
}

/** What etcd's events said last; undefined: nothing, or there is no etcd. */
export interface CoordinatorKnown {
  readonly coordinator: { readonly connected: boolean; readonly reason: string } | undefined;
  readonly lease: { readonly held: boolean; readonly reason: string } | undefined;
}

/** Problems of the node itself and of its links. */
export function nodeProblems(
  node: NodeSummary,
  spaces: number,
  { coordinator, lease }: CoordinatorKnown,
): Problem[] {
  const found: Problem[] = [];
  const say = (kind: ProblemKind, health: HealthWord, text: string, more: Partial<Problem> = {}) =>
    found.push({
      ...{ kind, health, subject: '', text: clipped(text), spaces: 0, examples: [] },
      ...{ isUnready: false, ...more },
    });
  const { state, reason } = node.log;
  const isUnready = true;
  if (state === 'failed') {
    say('log-failed', 'failed', `The log has failed, no append is taken: ${reason}`, { isUnready });
  } else if (state === 'read-only') {
    say('log-read-only', 'failed', `The log takes no appends: ${reason}`, { isUnready });
  } else if (state === 'slow-disk') {
    say('slow-disk', 'degraded', `The disk is slow: ${reason}`);
  }
  if (node.retention.refusal !== undefined) {
    say('retention-full', 'failed', `No append is taken: ${node.retention.refusal}`, { isUnready });
  }
  if (lease?.held === false) {
    const text = `Its lease of etcd is not held, nothing is acknowledged: ${lease.reason}`;
    say('lease-lost', 'failed', text, { isUnready });
  }
  if (coordinator?.connected === false) {
    say('coordinator-away', 'degraded', `etcd cannot be reached: ${coordinator.reason}`);
  }
  for (const { primaryId, isStalled, isConnected } of node.primaries) {
    if (!isConnected || !isStalled) continue;
    const text = `Primary ${primaryId} is stalled: its main thread does not move`;
    say('primary-stalled', 'degraded', text, { subject: primaryId });
  }
  // Links that no space speaks of yet.
  if (spaces === 0) for (const link of node.replicas) linkProblem(link, say);
  const isAlone = !node.primaries.some((primary) => primary.isConnected);
  if (spaces === 0 && node.address && isAlone && node.replicas.length === 0) {
    say('unused', 'degraded', 'No space is here, and no primary is connected: nothing is copied');
  }
  return found;
}

function linkProblem(
  { replicaId, state, reason, consecutiveFailures }: ReplicaLinkStatus,
  say: (kind: ProblemKind, health: HealthWord, text: string, more: Partial<Problem>) => void,
): void {
  if (state !== 'failed' && consecutiveFailures === 0) return;
  const health = state === 'failed' ? 'failed' : 'degraded';
  const text = `Replica ${replicaId} is not connected (${state}: ${reason})`;
  say(state === 'failed' ? 'replica-failed' : 'never-connected', health, text, {
    subject: replicaId,
  });
}
