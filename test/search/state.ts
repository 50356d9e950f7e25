/** A state of the small cluster: whole numbers in one array, to be copied and hashed fast. */
import { type Logs, NODES } from './logs.js';

/** Four numbers each, one a node: what it keeps durably. */
export const LOG = 0;
export const SEEN = 4;
export const PROMISED = 8;
export const EPOCH_OF = 12;
export const PRIMARY = 16;
/** 1: it leads in its epoch, and has heard of no higher one. */
export const ROLE = 20;
/** Who founded the history it has; NOBODY: it does not know the space. */
export const FOUNDER = 24;
/** 1: its disk was wiped, its directory is a new one. */
export const WIPED = 28;
/** What a leader knows of others: 4 bits a node, 15: nothing; and whether it has restarted. */
export const MATCH = 32;
export const UNMATCHED = 0xffff;
export const RESTARTED = 0x1_0000;
/** The answers that a candidate has, as a number; 0: it is none. */
export const ANSWERS = 36;
/** Only looked at by the checks: what each epoch has acknowledged, and who has. */
export const ACKED = 40;
export const ACKED_BY = 48;
/** etcd: the log that ends with the floor's entry; the epoch of the row, its leader. */
export const FLOOR = 56;
export const ROW_EPOCH = 57;
export const ROW_LEADER = 58;
/** How many have been. */
export const ENTRIES = 59;
export const CHANGES = 60;
export const WIPES = 61;
/** Where messages may come late, or twice: who has asked for which epoch (4 bits an epoch). */
export const ASKED = 62;
/** And what has been shipped in each epoch: the longest log. */
export const SHIPPED = 64;
export const WIDTH = 72;

export type State = Int32Array;

export const matchOf = (match: number, node: number): number => (match >> (4 * node)) & 15;
export function withMatch(match: number, node: number, value: number): number {
  return (match & ~(15 << (4 * node))) | (value << (4 * node));
}

/**
 * What a candidate has heard, each combination once: of each node 0 (nothing), or 1 and the log at
 * whose end it has promised (the product's answers carry positions; log 0 where it is not ahead).
 */
export class Answers {
  /** By those of the first two nodes, and of the last two. */
  readonly #ids = new Map<number, Map<number, number>>();
  readonly #all: (readonly number[])[] = [[]];

  id(answers: readonly number[]): number {
    const [a, b, c, d] = answers as [number, number, number, number];
    const first = a * 2 ** 24 + b;
    const ids = this.#ids.get(first) ?? new Map<number, number>();
    this.#ids.set(first, ids);
    const known = ids.get(c * 2 ** 24 + d);
    if (known !== undefined) return known;
    const id = this.#all.length;
    ids.set(c * 2 ** 24 + d, id);
    this.#all.push([...answers]);
    return id;
  }

  of(id: number): readonly number[] {
    return this.#all[id]!;
  }
}

/** Every way to give the nodes of these groups other numbers of the same group. */
export function permutations(groups: readonly (readonly number[])[]): number[][] {
  let all: number[][] = [[...Array(NODES + 1).keys()]];
  for (const group of groups) {
    all = orders(group).flatMap((order) =>
      all.map((base) => {
        const to = [...base];
        for (const [i, node] of group.entries()) to[node] = order[i]!;
        return to;
      }),
    );
  }
  return all.sort((a, b) => (a.join() < b.join() ? -1 : 1));
}

function orders(of: readonly number[]): number[][] {
  if (of.length === 0) return [[]];
  return of.flatMap((first) => orders(of.filter((n) => n !== first)).map((r) => [first, ...r]));
}

/** Puts each state into the same form, however its like nodes are called. */
export class Symmetry {
  readonly #logs: Logs;
  readonly #answers: Answers;
  readonly #perms: readonly (readonly number[])[];
  readonly #cached: Map<number, number>[];
  readonly #out = new Int32Array(WIDTH);
  readonly #best = new Int32Array(WIDTH);

  constructor(logs: Logs, answers: Answers, groups: readonly (readonly number[])[]) {
    this.#logs = logs;
    this.#answers = answers;
    this.#perms = permutations(groups);
    this.#cached = this.#perms.map(() => new Map());
  }

  /** In place. */
  canonical(state: State): void {
    if (this.#perms.length === 1) return;
    this.#best.set(state);
    for (let p = 1; p < this.#perms.length; p++) {
      this.#permute(state, p);
      if (isLess(this.#out, this.#best)) this.#best.set(this.#out);
    }
    state.set(this.#best);
  }

  #permute(from: State, perm: number): void {
    const to = this.#perms[perm]!;
    const out = this.#out;
    out.set(from);
    for (let node = 0; node < NODES; node++) {
      const at = to[node]!;
      out[LOG + at] = this.#logs.permuted(from[LOG + node]!, perm, to);
      out[SEEN + at] = from[SEEN + node]!;
      out[PROMISED + at] = to[from[PROMISED + node]!]!;
      out[EPOCH_OF + at] = from[EPOCH_OF + node]!;
      out[PRIMARY + at] = to[from[PRIMARY + node]!]!;
      out[ROLE + at] = from[ROLE + node]!;
      out[FOUNDER + at] = to[from[FOUNDER + node]!]!;
      out[WIPED + at] = from[WIPED + node]!;
      const match = from[MATCH + node]!;
      let moved = match & RESTARTED;
      for (let other = 0; other < NODES; other++) {
        moved |= matchOf(match, other) << (4 * to[other]!);
      }
      out[MATCH + at] = moved;
      out[ANSWERS + at] = this.#permutedAnswers(from[ANSWERS + node]!, perm, to);
    }
    for (let epoch = 0; epoch < 8; epoch++) {
      out[ACKED + epoch] = this.#logs.permuted(from[ACKED + epoch]!, perm, to);
      out[ACKED_BY + epoch] = to[from[ACKED_BY + epoch]!]!;
      out[SHIPPED + epoch] = this.#logs.permuted(from[SHIPPED + epoch]!, perm, to);
    }
    let asked = 0;
    for (let bit = 0; bit < 32; bit++) {
      if (((from[ASKED]! >>> bit) & 1) === 1) asked |= 1 << ((bit & ~3) + to[bit & 3]!);
    }
    out[ASKED] = asked;
    out[FLOOR] = this.#logs.permuted(from[FLOOR]!, perm, to);
    out[ROW_LEADER] = to[from[ROW_LEADER]!]!;
  }

  #permutedAnswers(id: number, perm: number, to: readonly number[]): number {
    if (id === 0) return 0;
    const known = this.#cached[perm]!.get(id);
    if (known !== undefined) return known;
    const answers = this.#answers.of(id);
    const moved = Array(NODES).fill(0);
    for (let node = 0; node < NODES; node++) {
      const answer = answers[node]!;
      moved[to[node]!] = answer === 0 ? 0 : 1 + this.#logs.permuted(answer - 1, perm, to);
    }
    const made = this.#answers.id(moved);
    this.#cached[perm]!.set(id, made);
    return made;
  }
}

function isLess(a: State, b: State): boolean {
  for (let i = 0; i < WIDTH; i++) if (a[i] !== b[i]) return a[i]! < b[i]!;
  return false;
}
