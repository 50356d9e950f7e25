/** What the HTTP surface answers as JSON: the same for programs, for `status` and for the page. */

import { byName } from '../../shared/natural-order.js';
import type { PrimaryStatus } from '../follow/primary-links.js';
import type { ReplicaLinkStatus } from '../ship/status.js';
import type { RecentEvent } from '../tell/logger.js';
import type { ProblemKind } from './health/kinds.js';
import type { Problem } from './health/problems.js';
import { type HealthWord, type Todo, todoOf, worse } from './health/words.js';
import type { NodeSummary, SpaceStatus } from './status.js';
import type { ProblemSince, Snapshot, SpaceRow, StatusBoard } from './status-board.js';

export interface ProblemJson extends Omit<Problem, 'isUnready'> {
  readonly forMs: number;
}

export interface ReplicaJson extends ReplicaLinkStatus {
  readonly health: HealthWord;
  /** Why its link was lost last; null: it was not, or streams again. */
  readonly lastLoss: string | null;
  /** How many spaces go to it, and what it lacks of all of them. */
  readonly spaces: number;
  readonly lagMs: number | 'unknown';
  readonly lagEntries: number;
  readonly lagBytes: number;
}

export interface SpaceJson
  extends Omit<
    SpaceStatus,
    'isReplicated' | 'isApplied' | 'applyBlocked' | 'skipped' | 'appliedSequence'
  > {
  readonly health: HealthWord;
  /** null: no host applies entries here. */
  readonly appliedSequence: number | null;
  /** So many replicas have flushed all that is durable here. */
  readonly caughtUpReplicas: number;
  readonly applyBlocked: { readonly sequence: number; readonly reason: string } | undefined;
  readonly skipped: number;
}

/** What neither the summary nor the board knows. */
export interface NodeFacts {
  readonly version: string;
  /** From here on a replica counts as degraded, ms. */
  readonly lagAlertThresholdMs: number;
  readonly events: readonly RecentEvent[];
}

export interface NodeJson
  extends Omit<NodeFacts, 'events'>,
    Omit<NodeSummary, 'replicas' | 'primaries' | 'holes'> {
  /** Wall clock, ms since 1970. */
  readonly at: number;
  readonly uptimeMs: number;
  readonly holes: number;
}

export interface HealthJson {
  readonly health: HealthWord;
  /** What whoever reads it must do; `engram-wal status` ends with it. */
  readonly todo: Todo;
  readonly nodeId: string;
  readonly clusterId: string;
  readonly problems: readonly ProblemJson[];
  readonly spaces: {
    readonly total: number;
    readonly led: number;
  } & Readonly<Record<HealthWord, number>>;
  readonly replicas: readonly ReplicaJson[];
  readonly primaries: readonly PrimaryStatus[];
}

export interface StatusJson extends HealthJson {
  readonly node: NodeJson;
  readonly page: {
    /** Spaces that the query matches, and where the next page begins; null: this is the last. */
    readonly matching: number;
    readonly after: string | null;
    readonly offset: number;
  };
  readonly rows: readonly SpaceJson[];
  readonly events: readonly RecentEvent[];
}

export interface ReadyJson {
  readonly ready: boolean;
  readonly checks: readonly {
    readonly check: string;
    readonly ok: boolean;
    readonly reason: string;
  }[];
}

export const SORTS = ['name', 'lag', 'entries', 'health'] as const;

/** Which spaces /replication/status lists. */
export interface SpaceQuery {
  /** Exactly this space. */
  readonly space?: string;
  /** A part of the name, in whatever case. */
  readonly search?: string;
  readonly health?: HealthWord;
  /** Those that have a part in this problem: its `cause`. */
  readonly cause?: string;
  /** 1: only those that are degraded or worse. */
  readonly problems?: 0 | 1;
  readonly sort?: (typeof SORTS)[number];
  readonly limit?: number;
  /** Names that come behind this one; in order of names only. */
  readonly after?: string;
  readonly offset?: number;
}

export const DEFAULT_ROWS = 100;

const PROBLEM_WORDS: readonly HealthWord[] = ['degraded', 'failed', 'corrupt'];

export function healthJson(snapshot: Snapshot): HealthJson {
  const { node, rows, led, counts, word } = snapshot;
  return {
    health: word,
    todo: todoOf(word),
    nodeId: node.nodeId,
    clusterId: node.clusterId,
    problems: problemsJson(snapshot.problems, snapshot),
    spaces: { total: rows.length, led, ...counts },
    replicas: node.replicas
      .map((link) => replicaJson(link, snapshot))
      .sort((a, b) => byName(a.replicaId, b.replicaId)),
    primaries: node.primaries.toSorted((a, b) => byName(a.primaryId, b.primaryId)),
  };
}

function problemsJson(problems: readonly ProblemSince[], { atMs }: Snapshot): ProblemJson[] {
  const agoMs = performance.now() - atMs;
  return problems.map(({ isUnready: _, forMs, ...told }) => {
    return { ...told, forMs: Math.round(forMs + agoMs) };
  });
}

/** Of one space alone, and of the node as far as that concerns it. */
function ofSpaceJson(board: StatusBoard, snapshot: Snapshot, row: SpaceRow): Partial<HealthJson> {
  const problems = problemsJson(board.problemsOf(row, snapshot), snapshot);
  const health = problems.reduce((word, one) => worse(word, one.health), row.word);
  return { health, todo: todoOf(health), problems };
}

function replicaJson(link: ReplicaLinkStatus, { replicas, losses }: Snapshot): ReplicaJson {
  const total = replicas.get(link.replicaId);
  // Nothing is shipped there: a link that rests lacks nothing.
  const alone: HealthWord = link.state === 'failed' ? 'degraded' : 'healthy';
  return {
    ...link,
    health: total?.word ?? alone,
    lastLoss: losses.get(link.replicaId) ?? null,
    spaces: total?.spaces ?? 0,
    lagMs: total && !Number.isFinite(total.worstLagMs) ? 'unknown' : (total?.worstLagMs ?? 0),
    lagEntries: total?.lagEntries ?? 0,
    lagBytes: total?.lagBytes ?? 0,
  };
}

export function statusJson(
  board: StatusBoard,
  snapshot: Snapshot,
  query: SpaceQuery,
  { events, ...own }: NodeFacts,
): StatusJson {
  const { replicas: _, primaries: __, holes, ...node } = snapshot.node;
  const { matching, shown, offset } = select(snapshot.rows, query);
  const isLast = offset + shown.length >= matching;
  const [only] = query.space === undefined ? [] : shown;
  return {
    ...healthJson(snapshot),
    ...(only && ofSpaceJson(board, snapshot, only)),
    node: {
      ...node,
      ...own,
      at: Date.now(),
      uptimeMs: Math.round(board.uptimeMs),
      holes: holes.length,
    },
    page: { matching, after: isLast ? null : (shown.at(-1)?.name ?? null), offset },
    rows: shown.map(spaceJson),
    events,
  };
}

function select(
  rows: readonly SpaceRow[],
  query: SpaceQuery,
): { matching: number; shown: readonly SpaceRow[]; offset: number } {
  const {
    space,
    search,
    health,
    cause,
    problems,
    after,
    sort = 'name',
    limit = DEFAULT_ROWS,
  } = query;
  const part = search?.toLowerCase();
  const found = rows.filter(
    (row) =>
      (space === undefined || row.name === space) &&
      (part === undefined || row.name.toLowerCase().includes(part)) &&
      (health === undefined || row.word === health) &&
      (cause === undefined || row.causes.includes(cause)) &&
      (problems !== 1 || PROBLEM_WORDS.includes(row.word)),
  );
  found.sort(ORDER[sort]);
  const offset =
    after === undefined
      ? (query.offset ?? 0)
      : found.filter((row) => byName(row.name, after) <= 0).length;
  return { matching: found.length, shown: found.slice(offset, offset + limit), offset };
}

const WORDS_FROM_WORST: readonly HealthWord[] = [
  'corrupt',
  'failed',
  'degraded',
  'lagging',
  'healthy',
];

const ORDER: Record<(typeof SORTS)[number], (a: SpaceRow, b: SpaceRow) => number> = {
  name: (a, b) => byName(a.name, b.name),
  lag: (a, b) => (a.lagMs === b.lagMs ? ORDER.name(a, b) : b.lagMs - a.lagMs),
  entries: (a, b) => b.entries - a.entries || ORDER.name(a, b),
  health: (a, b) =>
    WORDS_FROM_WORST.indexOf(a.word) - WORDS_FROM_WORST.indexOf(b.word) || ORDER.name(a, b),
};

function spaceJson({ space, word }: SpaceRow): SpaceJson {
  const status = space.status();
  const { isReplicated: _, isApplied, applyBlocked, skipped, ...figures } = status;
  const caughtUp = status.replicas.filter((r) => r.ackedSequence >= status.durableSequence);
  return {
    ...figures,
    // The very word that it is counted, sorted and found by.
    health: word,
    appliedSequence: isApplied ? status.appliedSequence : null,
    caughtUpReplicas: caughtUp.length,
    // What the host threw stays here: it may hold a payload.
    applyBlocked: applyBlocked && {
      sequence: applyBlocked.sequence,
      reason: applyBlocked.reason,
    },
    skipped: skipped.length,
  };
}

/** What /ready checks. @param isClosing the node takes no more work */
export function readyJson(snapshot: Snapshot, isClosing: boolean): ReadyJson {
  const reasonOf = (...kinds: ProblemKind[]): string =>
    snapshot.problems
      .filter((problem) => problem.isUnready && kinds.includes(problem.kind))
      .map((problem) => problem.text)
      .join('; ');
  const checks = [
    { check: 'open', reason: isClosing ? 'the node closes' : '' },
    { check: 'log', reason: reasonOf('log-failed', 'log-read-only') },
    { check: 'retention', reason: reasonOf('retention-full') },
    { check: 'lease', reason: reasonOf('lease-lost') },
    { check: 'entries', reason: reasonOf('damaged', 'repairing') },
    { check: 'history', reason: reasonOf('refused') },
  ].map((check) => ({ check: check.check, ok: check.reason === '', reason: check.reason }));
  return { ready: checks.every((check) => check.ok), checks };
}
