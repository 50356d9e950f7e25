/**
 * States in few words: small numbers share one, and what a cluster has none of takes no room. The
 * hashes of what was seen, and how each was come to, grow as they must.
 */
import type { Config } from './cluster.js';
import type { State } from './state.js';
import * as S from './state.js';

/** How many bits a number of a log, or of answers, takes at most. */
const ID_BITS = 24;

interface Field {
  readonly at: number;
  readonly word: number;
  readonly shift: number;
  /** Of its bits, before they are moved. */
  readonly mask: number;
}

export class Packing {
  readonly words: number;
  readonly #fields: readonly Field[];

  constructor(config: Config) {
    const fields: Field[] = [];
    let [word, shift] = [0, 0];
    const add = (at: number, bits: number): void => {
      if (shift + bits > 32) [word, shift] = [word + 1, 0];
      fields.push({ at, word, shift, mask: 2 ** bits - 1 });
      shift += bits;
    };
    for (let d = 0; d < config.nodes; d++) {
      for (const at of [S.LOG, S.ANSWERS]) add(at + d, ID_BITS);
      add(S.MATCH + d, 17);
      for (const at of [S.SEEN, S.PROMISED, S.EPOCH_OF, S.PRIMARY, S.FOUNDER]) add(at + d, 3);
      for (const at of [S.ROLE, S.WIPED]) add(at + d, 1);
    }
    for (let epoch = 1; epoch <= config.epochs; epoch++) {
      add(S.ACKED + epoch, ID_BITS);
      add(S.ACKED_BY + epoch, 3);
      if (config.late) add(S.SHIPPED + epoch, ID_BITS);
    }
    if (config.late) add(S.ASKED, 28);
    if (config.etcd) {
      add(S.FLOOR, ID_BITS);
      add(S.ROW_EPOCH, 4);
      add(S.ROW_LEADER, 3);
    }
    for (const at of [S.ENTRIES, S.CHANGES, S.WIPES]) add(at, 3);
    this.#fields = fields;
    this.words = word + 1;
  }

  pack(state: State, into: Int32Array): void {
    into.fill(0);
    let over = 0;
    for (const { at, word, shift, mask } of this.#fields) {
      const value = state[at]!;
      over |= value & ~mask;
      into[word] = into[word]! | (value << shift);
    }
    if (over !== 0) throw new Error('a number is too large for its bits');
  }

  /** @param into what is not in the words keeps its value there */
  unpack(from: Int32Array, into: State): void {
    for (const { at, word, shift, mask } of this.#fields) into[at] = (from[word]! >>> shift) & mask;
  }
}

/** Hashes of 64 bits that were seen. */
export class Seen {
  #count = 0;
  #mask: number;
  #low: Uint32Array;
  #high: Uint32Array;

  constructor(size = 2 ** 16) {
    this.#mask = size - 1;
    this.#low = new Uint32Array(size);
    this.#high = new Uint32Array(size);
  }

  /** @returns whether it is new */
  add(of: ArrayLike<number>): boolean {
    const low = hash(of, 1);
    const high = hash(of, 0x9747b28c) || 1;
    if (this.#count > 0.6 * this.#mask) this.#grow();
    if (!this.#put(low, high)) return false;
    this.#count++;
    return true;
  }

  #put(low: number, high: number): boolean {
    let at = low & this.#mask;
    while (this.#high[at] !== 0) {
      if (this.#high[at] === high && this.#low[at] === low) return false;
      at = (at + 1) & this.#mask;
    }
    this.#low[at] = low;
    this.#high[at] = high;
    return true;
  }

  #grow(): void {
    const [low, high] = [this.#low, this.#high];
    const size = 2 * low.length;
    this.#mask = size - 1;
    this.#low = new Uint32Array(size);
    this.#high = new Uint32Array(size);
    for (let at = 0; at < low.length; at++) if (high[at] !== 0) this.#put(low[at]!, high[at]!);
  }
}

function hash(of: ArrayLike<number>, seed: number): number {
  let h = seed | 0;
  for (let i = 0; i < of.length; i++) {
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

/** By which step from which state each state was come to first. */
export class Trail {
  #parent = new Uint32Array(2 ** 12);
  #code = new Uint32Array(2 ** 12);
  /** The first one was not come to. */
  count = 1;

  push(parent: number, code: number): void {
    if (this.count === this.#parent.length) {
      this.#parent = grown(this.#parent);
      this.#code = grown(this.#code);
    }
    this.#parent[this.count] = parent;
    this.#code[this.count] = code;
    this.count++;
  }

  to(state: number): number[] {
    const codes: number[] = [];
    for (let i = state; i > 0; i = this.#parent[i]!) codes.unshift(this.#code[i]!);
    return codes;
  }
}

function grown(array: Uint32Array): Uint32Array<ArrayBuffer> {
  const larger = new Uint32Array(2 * array.length);
  larger.set(array);
  return larger;
}

/** States of one depth, in pieces. */
export class Level {
  static readonly #PIECE = 1 << 15;
  readonly #words: number;
  readonly #pieces: Int32Array[] = [];
  count = 0;

  constructor(words: number) {
    this.#words = words;
  }

  push(packed: Int32Array): void {
    const at = this.count % Level.#PIECE;
    if (at === 0) this.#pieces.push(new Int32Array(Level.#PIECE * this.#words));
    this.#pieces.at(-1)!.set(packed, at * this.#words);
    this.count++;
  }

  /** A view, until the piece is forgotten. */
  get(i: number): Int32Array {
    const at = (i % Level.#PIECE) * this.#words;
    return this.#pieces[Math.floor(i / Level.#PIECE)]!.subarray(at, at + this.#words);
  }

  /** What was visited is needed no more. */
  forget(i: number): void {
    if (i % Level.#PIECE === Level.#PIECE - 1) {
      this.#pieces[Math.floor(i / Level.#PIECE)] = new Int32Array(0);
    }
  }
}
