/**
 * Whole numbers up to 2^53 in shared memory, of one writer each, without a BigInt: making one costs
 * more than all else that is done for a run of entries. The low half comes first, as every
 * processor that Node runs on has it.
 */

const TWO_32 = 2 ** 32;

/** @param at the 64-bit word */
export function loadLong(words: Int32Array, longs: BigInt64Array, at: number): number {
  const high = 2 * at + 1;
  // Below 2^32, and not grown beyond it in between: the low half is all there is.
  if (Atomics.load(words, high) === 0) {
    const low = Atomics.load(words, 2 * at) >>> 0;
    if (Atomics.load(words, high) === 0) return low;
  }
  return Number(Atomics.load(longs, at));
}

/** As its writer reads it: an atomic load is a call, and there are several for each run. */
export function ownLong(words: Int32Array, at: number): number {
  return words[2 * at + 1]! * TWO_32 + (words[2 * at]! >>> 0);
}

/** The low half alone while the high one stays as it is; both at once where it does not. */
export function storeLong(
  words: Int32Array,
  longs: BigInt64Array,
  at: number,
  value: number,
): void {
  if (words[2 * at + 1] === Math.floor(value / TWO_32)) Atomics.store(words, 2 * at, value | 0);
  else Atomics.store(longs, at, BigInt(value));
}

/**
 * The same without waiting for all that its thread has stored before, rows of spaces that are in no
 * cache: an atomic store does. Others see it, and what stands before it, by the next atomic store
 * of its thread at the latest.
 */
export function putLong(words: Int32Array, longs: BigInt64Array, at: number, value: number): void {
  if (words[2 * at + 1] === Math.floor(value / TWO_32)) words[2 * at] = value;
  else Atomics.store(longs, at, BigInt(value));
}
