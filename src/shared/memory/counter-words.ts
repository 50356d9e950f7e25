/**
 * Counters and histograms in shared memory, for metrics: one thread adds to each, any thread reads.
 * A counter is a double, whole up to 2^53: an aligned one is stored at once by every processor that
 * Node runs on, nothing hangs on when a reader sees it, and an atomic addition would wait for all
 * that was stored before. Halves of 32 bits are compiled anew as they come to be large.
 */

/** Reserves so many counters, all zero. */
export function allocateCounters(count: number): SharedArrayBuffer {
  return new SharedArrayBuffer(count * Float64Array.BYTES_PER_ELEMENT);
}

export class CounterWords {
  readonly #words: Float64Array;

  constructor(buffer: SharedArrayBuffer) {
    this.#words = new Float64Array(buffer);
  }

  /** @param by a whole number from 0 */
  add(counter: number, by: number): void {
    this.#words[counter]! += by;
  }

  value(counter: number): number {
    return this.#words[counter]!;
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
