/**
 * The logs of the search, each of them once: a log is the number of the log before it and one entry
 * more. What the product's own functions ask of a log is made here from it, and kept.
 */
import type { MemberId, MembersRow } from '#src/shared/members/members.js';
import type { EpochStart, Position } from '#src/shared/position.js';

/** Nodes of one cluster, at most: their numbers are 0 to 3. */
export const NODES = 4;
export const NOBODY = 4;
export const LETTERS = 'ABCD';
/** What an entry is: the first one of an epoch, one of a host, a pending change, a settled one. */
export const EPOCH = 0;
export const DATA = 1;
export const PENDING = 2;
export const SETTLED = 3;

/**
 * Members as a number: who (4 bits), whose second directory (4 bits), the level that is kept, less
 * one (1 bit).
 */
export type SetCode = number;
export const setCode = (who: number, second = 0, keep = 1): SetCode =>
  who | (second << 4) | ((keep - 1) << 8);
const has = (bits: number, node: number): boolean => ((bits >> node) & 1) === 1;
export const inSet = (set: SetCode, node: number): boolean => has(set, node);

/** A node's directory: the first it had, or the one after its disk was wiped. */
export function memberOf(node: number, generation: number): MemberId {
  return { nodeId: LETTERS[node]!, directoryId: `${node + 1}${generation}`.padStart(32, '0') };
}
const NODE_IDS = [...LETTERS].map((letter) => letter.toLowerCase().repeat(32));

export function setName(set: SetCode): string {
  const names = [...LETTERS].map((letter, node) =>
    has(set, node) ? `${letter}${has(set >> 4, node) ? "'" : ''}` : '',
  );
  return `{${names.join('')}}${set >> 8 ? 'keep 2' : ''}`;
}

export function membersOf(set: SetCode) {
  const nodes = [...Array(NODES).keys()].filter((node) => has(set, node));
  return {
    keep: 1 + (set >> 8),
    members: nodes.map((node) => memberOf(node, has(set >> 4, node) ? 1 : 0)),
  };
}

/** What the product says of a log: its last entry, its epochs, its sets. */
export interface LogView {
  readonly position: Position;
  readonly history: readonly EpochStart[];
  /** Without version 0. */
  readonly rows: readonly MembersRow[];
}

export class Logs {
  readonly parent = [0];
  readonly entry = [0];
  readonly length = [0];
  readonly #ids = new Map<number, number>();
  readonly #views: (LogView | undefined)[] = [];
  readonly #permuted: number[][] = [];

  get count(): number {
    return this.parent.length;
  }

  /** The log that is `log` and one entry more. */
  push(log: number, epoch: number, owner: number, kind: number, set: SetCode = 0): number {
    return this.#push(log, epoch | (owner << 3) | (kind << 5) | (set << 7));
  }

  #push(log: number, entry: number): number {
    const key = log * 2 ** 26 + entry;
    const known = this.#ids.get(key);
    if (known !== undefined) return known;
    const id = this.parent.length;
    this.#ids.set(key, id);
    this.parent.push(log);
    this.entry.push(entry);
    this.length.push(this.length[log]! + 1);
    return id;
  }

  /** What stands at the end of a log. */
  epoch(log: number): number {
    return this.entry[log]! & 7;
  }
  kind(log: number): number {
    return (this.entry[log]! >> 5) & 3;
  }
  setAt(log: number): SetCode {
    return this.entry[log]! >> 7;
  }

  /** The first `n` entries. */
  at(log: number, n: number): number {
    let id = log;
    while (this.length[id]! > n) id = this.parent[id]!;
    return id;
  }

  isPrefix(a: number, b: number): boolean {
    return this.length[a]! <= this.length[b]! && this.at(b, this.length[a]!) === a;
  }

  /** The log that ends with its newest entry of members; 0: none. */
  changeIn(log: number): number {
    let id = log;
    while (id > 0 && this.kind(id) < PENDING) id = this.parent[id]!;
    return id;
  }

  /** Of an epoch the first sequence; Infinity: it has no entry. */
  firstOf(log: number, epoch: number): number {
    if (epoch === 1) return 1;
    let first = Number.POSITIVE_INFINITY;
    for (let id = log; id > 0 && this.epoch(id) >= epoch; id = this.parent[id]!) {
      if (this.epoch(id) === epoch) first = this.length[id]!;
    }
    return first;
  }

  view(log: number): LogView {
    const known = this.#views[log];
    if (known) return known;
    const path: number[] = [];
    for (let id = log; id > 0; id = this.parent[id]!) path.unshift(id);
    const history: EpochStart[] = [];
    const rows: MembersRow[] = [];
    for (const id of path) {
      const sequence = this.length[id]!;
      const epoch = this.epoch(id);
      const primaryNodeId = NODE_IDS[(this.entry[id]! >> 3) & 3]!;
      if (history.at(-1)?.epoch !== epoch) {
        history.push({ epoch, startSequence: sequence, primaryNodeId });
      }
      if (this.kind(id) < PENDING) continue;
      const next = membersOf(this.setAt(id) & 511);
      // What a pending entry names as the old set stands in it, behind the new one.
      const old = this.kind(id) === PENDING ? membersOf(this.setAt(id) >> 9) : undefined;
      rows.push({ epoch, sequence, next, old });
    }
    const last = { epoch: this.epoch(log), sequence: this.length[log]!, headerCrc: log };
    const view = { position: last, history, rows };
    this.#views[log] = view;
    return view;
  }

  /** The log in which every node `n` is the node `to[n]`. */
  permuted(log: number, perm: number, to: readonly number[]): number {
    if (log === 0) return 0;
    this.#permuted[perm] ??= [];
    const cache = this.#permuted[perm];
    const known = cache[log];
    if (known !== undefined) return known;
    const entry = this.entry[log]!;
    const owner = to[(entry >> 3) & 3]!;
    const set = permutedSets(entry >> 7, to);
    const id = this.#push(
      this.permuted(this.parent[log]!, perm, to),
      (entry & 0b1100111) | (owner << 3) | (set << 7),
    );
    cache[log] = id;
    return id;
  }

  show(log: number): string {
    const told: string[] = [];
    for (let id = log; id > 0; id = this.parent[id]!) {
      const entry = this.entry[id]!;
      const what = ['begins', 'entry', 'pending', 'settled'][this.kind(id)];
      const set = this.kind(id) < PENDING ? '' : ` ${setName(this.setAt(id) & 511)}`;
      told.unshift(`${entry & 7}${LETTERS[(entry >> 3) & 3]} ${what}${set}`);
    }
    return `[${told.join(', ')}]`;
  }
}

function permutedBits(bits: number, to: readonly number[]): number {
  let out = 0;
  for (let node = 0; node < NODES; node++) if (has(bits, node)) out |= 1 << to[node]!;
  return out;
}

export function permutedSet(set: SetCode, to: readonly number[]): SetCode {
  return permutedBits(set & 15, to) | (permutedBits((set >> 4) & 15, to) << 4) | (set & 256);
}

/** Of a pending entry two sets: the old one behind the new one. */
function permutedSets(sets: number, to: readonly number[]): number {
  return permutedSet(sets & 511, to) | (permutedSet(sets >> 9, to) << 9);
}
