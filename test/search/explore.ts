/** Walks through the states of a small cluster: all of them, breadth first, or some at random. */
import { Cluster, type Config } from './cluster.js';
import { healed, ledWithout } from './healing.js';
import { forget } from './merging.js';
import { Level, Packing, Seen, Trail } from './packing.js';
import type { Rules } from './rules.js';
import type { State } from './state.js';
import * as S from './state.js';
import { type Step, stepOf, steps, told } from './steps.js';

export interface Bounds {
  readonly seconds: number;
  /** States that are remembered, at most. */
  readonly states: number;
  /** Nodes that are alike, and may change places. */
  readonly alike: readonly (readonly number[])[];
  /** Of every so many states one is healed; 0: none. */
  readonly healEvery: number;
  /** false: states that differ in what nothing asks for any more are not one. */
  readonly isMerged?: boolean;
  /** The steps that have been taken before, as `told`. */
  readonly start?: readonly string[] | undefined;
}

export interface Result {
  /** How it ended: nothing is left, a bound was reached, or a check has failed. */
  readonly end: 'exhausted' | 'bound' | 'violation';
  readonly violation: string;
  /** That led there. */
  readonly steps: readonly string[];
  readonly states: number;
  readonly transitions: number;
  /** So many steps from the beginning everything was visited. */
  readonly depth: number;
  readonly healed: number;
  readonly logs: number;
  readonly seconds: number;
}

export function explore(config: Config, rules: Rules, bounds: Bounds): Result {
  const beganMs = performance.now();
  const cluster = new Cluster(config, rules);
  const symmetry = new S.Symmetry(cluster.logs, cluster.answers, bounds.alike);
  const packing = new Packing(config);
  const packed = new Int32Array(packing.words);
  const seen = new Seen();
  const trail = new Trail();
  const heals = new Heals(cluster, bounds, packing);
  const start = bounds.start ?? [];
  const s = started(cluster, start);
  const t = new Int32Array(S.WIDTH);
  let level = new Level(packing.words);
  packing.pack(s, packed);
  level.push(packed);
  seen.add(packed);
  let [base, depth, transitions] = [0, 0, 0];
  let violation = '';
  let trace: string[] = [];
  let isFull = false;
  const traceTo = (of: number): string[] => [...start, ...trail.to(of).map(told)];
  while (level.count > 0 && violation === '' && !isFull) {
    const next = new Level(packing.words);
    const nextBase = trail.count;
    for (let i = 0; i < level.count && violation === '' && !isFull; i++) {
      packing.unpack(level.get(i), s);
      level.forget(i);
      violation = heals.problem(s, base + i);
      if (violation !== '') trace = traceTo(base + i);
      if (violation !== '') break;
      steps(cluster, s, t, (code) => {
        if (violation !== '' || isFull) return;
        transitions++;
        if (cluster.bad !== '') {
          violation = cluster.bad;
          trace = [...traceTo(base + i), told(code)];
          return;
        }
        if (bounds.isMerged !== false) forget(cluster, t);
        symmetry.canonical(t);
        packing.pack(t, packed);
        if (!seen.add(packed)) return;
        trail.push(base + i, code);
        next.push(packed);
        if (trail.count >= bounds.states) isFull = true;
      });
      if ((i & 255) === 0) isFull ||= performance.now() - beganMs > bounds.seconds * 1000;
    }
    if (isFull || violation !== '') break;
    base = nextBase;
    level = next;
    depth++;
  }
  return {
    end: violation !== '' ? 'violation' : isFull ? 'bound' : 'exhausted',
    violation,
    steps: trace,
    states: trail.count,
    transitions,
    depth,
    healed: heals.count,
    logs: cluster.logs.count,
    seconds: Math.round(performance.now() - beganMs) / 1000,
  };
}

/** The state that these steps lead to. Throws where one of them cannot be taken. */
function started(cluster: Cluster, wanted: readonly string[]): State {
  const s = cluster.first();
  const t = new Int32Array(S.WIDTH);
  for (const step of wanted) {
    let next: State | undefined;
    steps(cluster, s, t, (code) => {
      if (told(code) === step) next = t.slice();
    });
    if (!next || cluster.bad !== '') throw new Error(`"${step}" cannot be taken: ${cluster.bad}`);
    s.set(next);
  }
  return s;
}

/** Whether a state can be healed: asked once of those that are the same durably. */
class Heals {
  count = 0;
  readonly #cluster: Cluster;
  readonly #every: number;
  readonly #packing: Packing;
  readonly #seen = new Seen();
  readonly #durable = new Int32Array(S.WIDTH);
  readonly #packed: Int32Array;

  constructor(cluster: Cluster, { healEvery }: Bounds, packing: Packing) {
    this.#cluster = cluster;
    this.#every = healEvery;
    this.#packing = packing;
    this.#packed = new Int32Array(packing.words);
  }

  problem(s: State, index: number): string {
    if (this.#every === 0 || index % this.#every !== 0) return '';
    const durable = this.#durable;
    durable.set(s);
    durable.fill(0, S.MATCH, S.FLOOR);
    durable.fill(0, S.ENTRIES);
    this.#packing.pack(durable, this.#packed);
    if (!this.#seen.add(this.#packed)) return '';
    this.count++;
    let problem = healed(this.#cluster, s);
    for (let away = 0; away < this.#cluster.config.nodes && problem === ''; away++) {
      problem = ledWithout(this.#cluster, s, away);
    }
    return problem;
  }
}

/** Steps that come much less often than they could, lest nothing else ever comes to an end. */
const RARE: readonly Step[] = ['candidate', 'promise-lost', 'late-question', 'restarts', 'wiped'];
const RARENESS = 0.15;

/** Random walks from the beginning, each so long, as many as fit into the time. */
export function walk(
  config: Config,
  rules: Rules,
  bounds: Pick<Bounds, 'seconds' | 'healEvery'> & {
    readonly seed: number;
    readonly length: number;
  },
): Result & { readonly walks: number } {
  const beganMs = performance.now();
  let random = bounds.seed >>> 0;
  const chance = (): number => {
    random = (Math.imul(random, 1_664_525) + 1_013_904_223) >>> 0;
    return random / 2 ** 32;
  };
  let cluster = new Cluster(config, rules);
  const t = new Int32Array(S.WIDTH);
  const seen = new Seen();
  let [walks, transitions, states, healedCount, logs] = [0, 0, 0, 0, 0];
  let violation = '';
  let trace: number[] = [];
  while (violation === '' && performance.now() - beganMs < bounds.seconds * 1000) {
    // What it remembers would grow for ever.
    if (cluster.logs.count > 200_000) {
      logs += cluster.logs.count;
      cluster = new Cluster(config, rules);
    }
    walks++;
    trace = [];
    let s = cluster.first();
    for (let i = 0; i < bounds.length && violation === ''; i++) {
      const options: { code: number; state: State }[] = [];
      steps(cluster, s, t, (code) => {
        if (violation !== '') return;
        if (cluster.bad === '') options.push({ code, state: t.slice() });
        else {
          violation = cluster.bad;
          trace.push(code);
        }
      });
      if (violation !== '' || options.length === 0) break;
      const often = options.filter(({ code }) => !RARE.includes(stepOf(code)));
      const from = often.length > 0 && chance() > RARENESS ? often : options;
      const taken = from[Math.floor(chance() * from.length)]!;
      transitions++;
      trace.push(taken.code);
      s = taken.state;
      if (states < 2 ** 22 && seen.add(s)) states++;
    }
    if (violation === '' && bounds.healEvery > 0 && walks % bounds.healEvery === 0) {
      healedCount++;
      violation = healed(cluster, s);
    }
  }
  return {
    end: violation !== '' ? 'violation' : 'bound',
    violation,
    steps: violation === '' ? [] : trace.map(told),
    states,
    transitions,
    depth: bounds.length,
    healed: healedCount,
    logs: logs + cluster.logs.count,
    seconds: Math.round(performance.now() - beganMs) / 1000,
    walks,
  };
}
