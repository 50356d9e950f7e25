/** Exact percentiles: every sample is kept, up to a bound, and sorted at the end. */

export class Samples {
  #values;
  #count = 0;
  /** Samples beyond the bound: not kept, and said so. */
  dropped = 0;

  /** @param {number} bound the most that is kept */
  constructor(bound) {
    this.#values = new Float64Array(bound);
  }

  get count() {
    return this.#count;
  }

  /** @param {number} value */
  add(value) {
    if (this.#count < this.#values.length) this.#values[this.#count++] = value;
    else this.dropped++;
  }

  /**
   * Sorts what there is. Percentiles are by nearest rank; null without a sample.
   * @param {number[]} percents
   * @returns {(number | null)[]}
   */
  percentiles(percents) {
    const sorted = this.#values.subarray(0, this.#count).sort();
    return percents.map((p) => {
      if (sorted.length === 0) return null;
      return sorted[Math.max(0, Math.ceil((p / 100) * sorted.length) - 1)];
    });
  }
}
