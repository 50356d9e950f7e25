/** Walks through the states of a small cluster: all of them, breadth first, or some at random. */
import { Cluster, type Config } from './cluster.js';
import { healed, ledWithout } from './healing.js';
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

/** Hashes of 64 bits that were seen. */
class Seen {
  readonly #mask: number;
  readonly #low: Uint32Array;
  readonly #high: Uint32Array;

  constructor(states: number) {
    const size = 2 ** Math.ceil(Math.log2(states * 1.5));
    this.#mask = size - 1;
    this.#low = new Uint32Array(size);
    this.#high = new Uint32Array(size);
  }

  /** @returns whether it is new */
  add(of: ArrayLike<number>, length: number): boolean {
    const low = hash(of, length, 1);
    const high = hash(of, length, 0x9747b28c) || 1;
    let at = low & this.#mask;
    while (this.#high[at] !== 0) {
      if (this.#high[at] === high && this.#low[at] === low) return false;
      at = (at + 1) & this.#mask;
    }
    this.#low[at] = low;
    this.#high[at] = high;
    return true;
  }
}

function hash(of: ArrayLike<number>, length: number, seed: number): number {
  let h = seed | 0;
  for (let i = 0; i < length; i++) {
    let k = Math.imul(of[i]!, 0xcc9e2d51);
    k = (k << 15) | (k >>> 17);
    h ^= Math.imul(k, 0x1b873593);
    h = (h << 13) | (h >>> 19);
    h = (Math.imul(h, 5) + 0xe6546b64) | 0;
  }
  h ^= h >>> 16;
  h = Math.imul(h, 0x85ebca6b);
  h ^= h >>> 13;
  h = Math.imul(h, 0xc2b2ae35);
  return (h ^ (h >>> 16)) >>> 0;
}

/** States of one depth, in pieces. */
class Level {
  static readonly PIECE = 1 << 14;
  readonly #pieces: Int32Array[] = [];
  count = 0;

  push(state: State): void {
    const at = this.count % Level.PIECE;
    if (at === 0) this.#pieces.push(new Int32Array(Level.PIECE * S.WIDTH));
    this.#pieces.at(-1)!.set(state, at * S.WIDTH);
    this.count++;
  }

  get(i: number, into: State): void {
    const piece = this.#pieces[Math.floor(i / Level.PIECE)]!;
    const at = (i % Level.PIECE) * S.WIDTH;
    into.set(piece.subarray(at, at + S.WIDTH));
  }

  /** What was visited is needed no more. */
  forget(i: number): void {
    if (i % Level.PIECE === Level.PIECE - 1) {
      this.#pieces[Math.floor(i / Level.PIECE)] = new Int32Array(0);
    }
  }
}

export function explore(config: Config, rules: Rules, bounds: Bounds): Result {
  const beganMs = performance.now();
  const cluster = new Cluster(config, rules);
  const symmetry = new S.Symmetry(cluster.logs, cluster.answers, bounds.alike);
  const seen = new Seen(bounds.states);
  const parent = new Uint32Array(bounds.states + 1);
  const action = new Uint32Array(bounds.states + 1);
  const heals = new Heals(cluster, bounds);
  const s = new Int32Array(S.WIDTH);
  const t = new Int32Array(S.WIDTH);
  const start = bounds.start ?? [];
  const first = started(cluster, start);
  let level = new Level();
  level.push(first);
  seen.add(first, S.WIDTH);
  let [count, base, depth, transitions] = [1, 0, 0, 0];
  let violation = '';
  let trace: string[] = [];
  let isFull = false;
  const traceTo = (of: number): string[] => {
    const codes: number[] = [];
    for (let i = of; i > 0; i = parent[i]!) codes.unshift(action[i]!);
    return [...start, ...codes.map(told)];
  };
  while (level.count > 0 && violation === '' && !isFull) {
    const next = new Level();
    const nextBase = count;
    for (let i = 0; i < level.count && violation === '' && !isFull; i++) {
      level.get(i, s);
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
        symmetry.canonical(t);
        if (!seen.add(t, S.WIDTH)) return;
        parent[count] = base + i;
        action[count] = code;
        count++;
        next.push(t);
        if (count >= bounds.states) isFull = true;
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
    states: count,
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
  readonly #seen: Seen;
  readonly #durable = new Int32Array(S.WIDTH);

  constructor(cluster: Cluster, { healEvery, states }: Bounds) {
    this.#cluster = cluster;
    this.#every = healEvery;
    this.#seen = new Seen(healEvery > 0 ? states / 2 : 1);
  }

  problem(s: State, index: number): string {
    if (this.#every === 0 || index % this.#every !== 0) return '';
    const durable = this.#durable;
    durable.set(s);
    durable.fill(0, S.MATCH, S.FLOOR);
    durable.fill(0, S.ENTRIES);
    if (!this.#seen.add(durable, S.WIDTH)) return '';
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
  const seen = new Seen(2 ** 23);
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
      if (states < 2 ** 22 && seen.add(s, S.WIDTH)) states++;
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
