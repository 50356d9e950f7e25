/**
 * Counters and histograms in shared memory, for metrics: one thread adds to each, any thread reads.
 * A counter is two Int32 words, low first: 32-bit atomics are far cheaper than 64-bit ones, and
 * with one writer a carry cannot be lost.
 */

const TWO_32 = 2 ** 32;
const WORD_BYTES = 4;
const COUNTER_WORDS = 2;

/** Reserves so many counters, all zero. */
export function allocateCounters(count: number): SharedArrayBuffer {
  return new SharedArrayBuffer(count * COUNTER_WORDS * WORD_BYTES);
}

export class CounterWords {
  readonly #words: Int32Array;

  constructor(buffer: SharedArrayBuffer) {
    this.#words = new Int32Array(buffer);
  }

  /** @param by a whole number from 0 */
  add(counter: number, by: number): void {
    const at = counter * COUNTER_WORDS;
    const low = by % TWO_32;
    const before = Atomics.add(this.#words, at, low | 0) >>> 0;
    const high = (by - low) / TWO_32 + (before + low >= TWO_32 ? 1 : 0);
    if (high > 0) Atomics.add(this.#words, at + 1, high);
  }

  /** The word before the carry may be read between its two steps: 2^32 too little, once. */
  value(counter: number): number {
    const at = counter * COUNTER_WORDS;
    const low = Atomics.load(this.#words, at) >>> 0;
    return Atomics.load(this.#words, at + 1) * TWO_32 + low;
  }
}

/** Where a histogram stands among the counters, and what its buckets are. */
export interface HistogramLayout {
  /** Its first counter; then one for each bound, one beyond them, and the sum. */
  readonly first: number;
  /** Upper bounds of the buckets, ascending; each holds what is at most its bound. */
  readonly bounds: readonly number[];
  /** The sum is kept in whole steps of 1 / scale. */
  readonly scale: number;
}

/** How many counters a histogram takes. */
export function histogramCounters(bounds: readonly number[]): number {
  return bounds.length + 2;
}

/** `count` observations of one value. */
export function observe(
  words: CounterWords,
  { first, bounds, scale }: HistogramLayout,
  value: number,
  count = 1,
): void {
  let bucket = 0;
  while (bucket < bounds.length && value > bounds[bucket]!) bucket++;
  words.add(first + bucket, count);
  words.add(first + bounds.length + 1, Math.round(value * scale) * count);
}

/** What a histogram holds: observations up to each bound, all of them, and their sum. */
export interface HistogramValue {
  readonly upTo: readonly number[];
  readonly count: number;
  readonly sum: number;
}

export function readHistogram(
  words: CounterWords,
  { first, bounds, scale }: HistogramLayout,
): HistogramValue {
  let count = 0;
  const upTo = bounds.map((_, bucket) => {
    count += words.value(first + bucket);
    return count;
  });
  count += words.value(first + bounds.length);
  return { upTo, count, sum: words.value(first + bounds.length + 1) / scale };
}
