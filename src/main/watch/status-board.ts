/**
 * What is shown of a node: one pass over its spaces in small steps, at most one a second however
 * many look, one every five seconds when nobody does, so that "since when" and the charts are true
 * from the start. Keeps a short row a space; whole figures are asked for the spaces shown alone.
 */

import { FSYNC_MS } from '../../shared/memory/metric-words.js';
import { Rings } from '../../shared/metrics/rings.js';
import type { PairGlance } from '../ship/lag-monitor.js';
import { nodeProblems } from './health/node-problems.js';
import { type Problem, SpaceProblems } from './health/problems.js';
import { HEALTH_WORDS, type HealthWord, worse } from './health/words.js';
import { History } from './history.js';
import type { SeenNode, SeenSpace } from './seen-node.js';
import type { NodeSummary } from './status.js';

/** Spaces looked at before the event loop has its turn. */
const SPACES_A_TURN = 64;
/** How old what is shown may be; how often the board looks when nobody else does. */
const FRESH_MS = 1_000;
const IDLE_PASS_MS = 5_000;
/** How often the node is sampled for its day. */
const PULSE_MS = 1_000;

const NOTHING = { lagMs: 0, lagEntries: 0, lagBytes: 0 };

/** Events behind which something may be wrong that was not, or no longer. */
const TELLING = [
  'log-state',
  'disk-room',
  'damaged',
  'replica-status',
  'replica-stalled',
  'primary-connection',
  'primary-stalled',
  'connection-refused',
  'slot-lost',
  'apply-blocked',
  'apply-resumed',
  'space-role',
  'coordinator',
  'lease',
  'leader',
  'fatal',
] as const;

/** What sorting and filtering need of a space. */
export interface SpaceRow {
  readonly space: SeenSpace;
  readonly name: string;
  readonly word: HealthWord;
  /** The problems that it has a part in. */
  readonly causes: readonly string[];
  /** The worst of its replicas; Infinity: one has never been connected. */
  readonly lagMs: number;
  readonly entries: number;
}

/** One replica over all spaces. */
export interface ReplicaTotals {
  spaces: number;
  /** Never negative; `unknown` counts as Infinity. */
  worstLagMs: number;
  worstLagEntries: number;
  worstLagBytes: number;
  lagEntries: number;
  lagBytes: number;
  ackedEntries: number;
  word: HealthWord;
}

export interface ProblemSince extends Problem {
  /** For how long the board has seen it, ms. */
  readonly forMs: number;
}

export interface Snapshot {
  /** Monotonic ms. */
  readonly atMs: number;
  readonly word: HealthWord;
  readonly node: NodeSummary;
  readonly problems: readonly ProblemSince[];
  readonly counts: Readonly<Record<HealthWord, number>>;
  readonly led: number;
  readonly replicas: ReadonlyMap<string, ReplicaTotals>;
  readonly losses: ReadonlyMap<string, string>;
  readonly rows: readonly SpaceRow[];
}

export class StatusBoard {
  readonly history = new History();
  /** The last minutes and the last day of the node itself. */
  readonly day = new Rings(FSYNC_MS.bounds);
  /** Why the link to each replica was lost last; none for one that streams. */
  readonly #losses = new Map<string, string>();
  readonly #node: SeenNode;
  readonly #openedMs: number;
  /** When each problem was seen first, monotonic ms. */
  readonly #seen = new Map<string, number>();
  #snapshot: Snapshot | undefined;
  #pass: Promise<Snapshot> | undefined;
  readonly #timer: NodeJS.Timeout;
  readonly #pulse: NodeJS.Timeout;
  #early: NodeJS.Timeout | undefined;

  /** @param openedMs when the node was opened, monotonic */
  constructor(node: SeenNode, openedMs: number) {
    this.#node = node;
    this.#openedMs = openedMs;
    node.on('replica-state', ({ replicaId, state, reason }) => {
      if (state === 'streaming') this.#losses.delete(replicaId);
      // While it is tried again its reason says less.
      else if (state === 'waiting' || state === 'failed') this.#losses.set(replicaId, reason);
    });
    node.on('replica-set', ({ replicaId }) => this.#losses.delete(replicaId));
    for (const name of TELLING) node.on(name, () => this.#soon());
    this.#timer = setInterval(() => {
      const age = performance.now() - (this.#snapshot?.atMs ?? Number.NEGATIVE_INFINITY);
      // Nobody asked it, so nobody is told of a failure: whoever asks next will be.
      if (age > IDLE_PASS_MS / 2) this.#look().catch(() => undefined);
    }, IDLE_PASS_MS);
    this.#timer.unref();
    this.#pulse = setInterval(() => this.#sample(), PULSE_MS);
    this.#pulse.unref();
    this.#sample();
  }

  /** Its lag is that of the last pass: no second is worth a pass over all spaces. */
  #sample(): void {
    const totals = [...(this.#snapshot?.replicas.values() ?? [])];
    const lags = totals.map((total) => total.worstLagMs).filter(Number.isFinite);
    const worstLagMs = lags.length === 0 ? Number.NaN : Math.max(...lags);
    this.day.add({ ...this.#node.pulse(), worstLagMs, atMs: performance.now() });
  }

  /** Something has changed: seen within a second, so that since-when is true. */
  #soon(): void {
    if (this.#early) return;
    this.#early = setTimeout(() => {
      this.#early = undefined;
      this.#look().catch(() => undefined);
    }, FRESH_MS);
    this.#early.unref();
  }

  get uptimeMs(): number {
    return performance.now() - this.#openedMs;
  }

  /** What is known, at most `FRESH_MS` old. */
  async fresh(): Promise<Snapshot> {
    const known = this.#snapshot;
    if (known && performance.now() - known.atMs < FRESH_MS) return known;
    return await this.#look();
  }

  #look(): Promise<Snapshot> {
    this.#pass ??= this.#survey().finally(() => {
      this.#pass = undefined;
    });
    return this.#pass;
  }

  async #survey(): Promise<Snapshot> {
    await this.#node.lookAtDisk();
    const node = this.#node.summary();
    const problems = this.#problemsAmong(node, this.#node.spaces.length);
    const replicas = new Map<string, ReplicaTotals>();
    const rows: SpaceRow[] = [];
    let led = 0;
    let entries = 0;
    const pair = { replicaId: '', status: 'healthy', acked: 0, ...NOTHING } as PairGlance;
    for (const space of this.#node.spaces) {
      if (rows.length % SPACES_A_TURN === SPACES_A_TURN - 1) {
        await new Promise((resolve) => setImmediate(resolve));
      }
      let lagMs = 0;
      let calm: 'healthy' | 'lagging' = 'healthy';
      const glance = this.#node.glance(space.name, pair, () => {
        addTo(replicas, pair);
        lagMs = Math.max(lagMs, finite(pair.lagMs));
        if (pair.status === 'lagging') calm = 'lagging';
      });
      // All its figures are wanted only where something is wrong.
      const told = problems.isCalm(glance) ? problems.count(calm) : problems.add(space.status());
      if (glance.role === 'primary') led++;
      entries += glance.durableSequence;
      rows.push({ space, name: glance.name, ...told, lagMs, entries: glance.durableSequence });
    }
    const found = problems.list();
    const atMs = performance.now();
    const snapshot: Snapshot = {
      atMs,
      word: wordOf(found, problems.counts),
      node,
      problems: this.#since(found, atMs),
      counts: problems.counts,
      led,
      replicas,
      losses: this.#losses,
      rows,
    };
    this.#snapshot = snapshot;
    this.history.add(atMs, entries, replicas);
    return snapshot;
  }

  /** What is wrong with one space, and with the node as far as that concerns all of them. */
  problemsOf({ space }: SpaceRow, { node, atMs }: Snapshot): ProblemSince[] {
    const own = this.#problemsAmong(node, 1);
    own.add(space.status());
    return own.list().map((one) => ({ ...one, forMs: atMs - (this.#seen.get(one.cause) ?? atMs) }));
  }

  #problemsAmong(node: NodeSummary, spaces: number): SpaceProblems {
    const primaries = new Map(node.primaries.map((primary) => [primary.primaryId, primary]));
    return new SpaceProblems({ primaries, losses: this.#losses, own: nodeProblems(node, spaces) });
  }

  #since(found: readonly Problem[], nowMs: number): ProblemSince[] {
    const keys = new Set(found.map(({ cause }) => cause));
    for (const key of this.#seen.keys()) if (!keys.has(key)) this.#seen.delete(key);
    const since = found.map((problem) => {
      const { cause } = problem;
      if (!this.#seen.has(cause)) this.#seen.set(cause, nowMs);
      return { ...problem, forMs: nowMs - this.#seen.get(cause)! };
    });
    const rank = (problem: Problem): number => HEALTH_WORDS.indexOf(problem.health);
    return since.sort((a, b) => rank(b) - rank(a) || b.forMs - a.forMs);
  }

  close(): void {
    clearInterval(this.#timer);
    clearInterval(this.#pulse);
    clearTimeout(this.#early);
  }
}

/** NaN: never connected. */
function finite(lagMs: number): number {
  return Number.isNaN(lagMs) ? Number.POSITIVE_INFINITY : lagMs;
}

function addTo(totals: Map<string, ReplicaTotals>, pair: PairGlance): void {
  let total = totals.get(pair.replicaId);
  if (!total) {
    const worst = { worstLagMs: 0, worstLagEntries: 0, worstLagBytes: 0 };
    total = { spaces: 0, ...worst, ackedEntries: 0, ...NOTHING, word: 'healthy' };
    totals.set(pair.replicaId, total);
  }
  total.spaces++;
  total.worstLagMs = Math.max(total.worstLagMs, finite(pair.lagMs));
  total.worstLagEntries = Math.max(total.worstLagEntries, pair.lagEntries);
  total.worstLagBytes = Math.max(total.worstLagBytes, pair.lagBytes);
  total.lagEntries += pair.lagEntries;
  total.lagBytes += pair.lagBytes;
  total.ackedEntries += pair.acked;
  // A replica that has failed is one copy less: whether that matters, its spaces say.
  total.word = worse(total.word, pair.status === 'failed' ? 'degraded' : pair.status);
}

function wordOf(
  problems: readonly Problem[],
  counts: Readonly<Record<HealthWord, number>>,
): HealthWord {
  let word: HealthWord = 'healthy';
  for (const known of HEALTH_WORDS) if (counts[known] > 0) word = known;
  for (const problem of problems) word = worse(word, problem.health);
  return word;
}
