/**
 * Finds the number of an id by its words, as they stand in a batch: no text is made of it, and
 * nothing but one table is looked at, however many spaces there are.
 */
import type { SpaceIdWords } from './bytes.js';

const FIRST_CELLS = 64;
const WORDS = 4;

export class IdTable {
  /** Four words for each cell. */
  #ids = new Int32Array(WORDS * FIRST_CELLS);
  /** The number in each cell and one more; 0: it is empty. */
  #numbers = new Int32Array(FIRST_CELLS);
  #size = 0;

  /** Adds an id that is not here. @param number from 0 */
  add(words: SpaceIdWords, number: number): void {
    if (2 * ++this.#size > this.#numbers.length) this.#grow();
    this.#put(words, number);
  }

  /** -1: it is not here. */
  get(words: SpaceIdWords): number {
    return this.#find(words[0] | 0, words[1] | 0, words[2] | 0, words[3] | 0);
  }

  /** The same for the id that stands at `at`. */
  getAt(view: DataView, at: number): number {
    const [a, b] = [view.getInt32(at, true), view.getInt32(at + 4, true)];
    return this.#find(a, b, view.getInt32(at + 8, true), view.getInt32(at + 12, true));
  }

  #find(a: number, b: number, c: number, d: number): number {
    const ids = this.#ids;
    const mask = this.#numbers.length - 1;
    for (let cell = cellOf(a, b, c, d) & mask; ; cell = (cell + 1) & mask) {
      const found = this.#numbers[cell]!;
      if (found === 0) return -1;
      const at = WORDS * cell;
      if (ids[at] === a && ids[at + 1] === b && ids[at + 2] === c && ids[at + 3] === d) {
        return found - 1;
      }
    }
  }

  #put(words: SpaceIdWords, number: number): void {
    const mask = this.#numbers.length - 1;
    let cell = cellOf(words[0], words[1], words[2], words[3]) & mask;
    while (this.#numbers[cell] !== 0) cell = (cell + 1) & mask;
    this.#ids.set(words, WORDS * cell);
    this.#numbers[cell] = number + 1;
  }

  #grow(): void {
    const [ids, numbers] = [this.#ids, this.#numbers];
    this.#ids = new Int32Array(2 * ids.length);
    this.#numbers = new Int32Array(2 * numbers.length);
    numbers.forEach((number, cell) => {
      if (number === 0) return;
      const at = WORDS * cell;
      this.#put([ids[at]!, ids[at + 1]!, ids[at + 2]!, ids[at + 3]!], number - 1);
    });
  }
}

/** Ids are parts of digests: any of their bits are as good as others. */
function cellOf(a: number, b: number, c: number, d: number): number {
  return a ^ b ^ c ^ d;
}
