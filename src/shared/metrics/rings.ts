/**
 * What a node has done in the last minutes and the last day, in rings that never grow: a row a
 * second for five minutes, a row a minute for 24 hours. Each ring is fed with every sample, so a
 * row's sums are exact, however far apart samples come. One sample touches one row of each ring.
 */

/** What a row is of, and how many are kept. */
export const RINGS = [
  { stepMs: 1_000, rows: 300 },
  { stepMs: 60_000, rows: 1_440 },
] as const;
export type StepMs = (typeof RINGS)[number]['stepMs'];

/** As of a moment. Counts begin when the node is opened, and never fall. */
export interface Sample {
  /** Monotonic ms. */
  readonly atMs: number;
  /** Made durable here. */
  readonly entries: number;
  readonly bytes: number;
  /** Of all replicas and spaces; NaN: there is none, or it is not known. */
  readonly worstLagMs: number;
  /** How many fdatasyncs took at most each bound, and how many there were. */
  readonly fsyncs: { readonly upTo: readonly number[]; readonly count: number };
  /** NaN: the file system does not say. */
  readonly diskFreeBytes: number;
}

/** Rows of the same length, the oldest first; null: not known, or nothing was there to measure. */
export interface RowsJson {
  readonly stepMs: number;
  readonly keptMs: number;
  /** What all rings take of memory. */
  readonly bytes: number;
  /** When each row ended. */
  readonly agoMs: readonly number[];
  readonly entriesPerSecond: readonly number[];
  readonly bytesPerSecond: readonly number[];
  readonly worstLagMs: readonly (number | null)[];
  /** At most so long took 99 of 100: the bound of a bucket of the metric. */
  readonly fsyncP99Ms: readonly (number | null)[];
  readonly diskFreeBytes: readonly (number | null)[];
}

const FIELD = {
  /** Which step since the clock began. */
  step: 0,
  endMs: 1,
  /** What its sums are of: more than a step where a sample came late. */
  overMs: 2,
  entries: 3,
  bytes: 4,
  worstLagMs: 5,
  fsyncP99Ms: 6,
  diskFreeBytes: 7,
} as const;
const FIELDS = 8;
const PART = 0.99;

export class Rings {
  readonly #bounds: readonly number[];
  readonly #rings: readonly Ring[];
  #before: Sample | undefined;

  /** @param bounds of the buckets of fdatasyncs, ms, ascending */
  constructor(bounds: readonly number[]) {
    this.#bounds = bounds;
    this.#rings = RINGS.map(({ stepMs, rows }) => new Ring(stepMs, rows, bounds));
  }

  /** The first one only says where the counts begin. */
  add(sample: Sample): void {
    const before = this.#before;
    this.#before = sample;
    if (!before || sample.atMs <= before.atMs) return;
    for (const ring of this.#rings) ring.add(before, sample);
  }

  /** Of memory, however much has been added. */
  get byteLength(): number {
    const counts = (this.#bounds.length + 1) * Float64Array.BYTES_PER_ELEMENT;
    return this.#rings.reduce((sum, ring) => sum + ring.byteLength + counts, 0);
  }

  json(stepMs: StepMs, nowMs: number): RowsJson {
    const ring = this.#rings.find((one) => one.stepMs === stepMs)!;
    return { ...ring.json(nowMs), bytes: this.byteLength };
  }
}

class Ring {
  readonly stepMs: number;
  readonly #rows: number;
  readonly #words: Float64Array;
  readonly #bounds: readonly number[];
  /** fdatasyncs up to each bound, and all, when the newest row began. */
  readonly #base: Float64Array;
  /** The newest row. */
  #at = 0;
  #used = 0;

  constructor(stepMs: number, rows: number, bounds: readonly number[]) {
    this.stepMs = stepMs;
    this.#rows = rows;
    this.#words = new Float64Array(rows * FIELDS);
    this.#bounds = bounds;
    this.#base = new Float64Array(bounds.length + 1);
  }

  get byteLength(): number {
    return this.#words.byteLength;
  }

  add(before: Sample, sample: Sample): void {
    const step = Math.floor(sample.atMs / this.stepMs);
    if (this.#used === 0 || this.#get(this.#at, 'step') !== step) this.#begin(step, before);
    const row = this.#at * FIELDS;
    const words = this.#words;
    words[row + FIELD.endMs] = sample.atMs;
    words[row + FIELD.overMs]! += sample.atMs - before.atMs;
    words[row + FIELD.entries]! += sample.entries - before.entries;
    words[row + FIELD.bytes]! += sample.bytes - before.bytes;
    const worst = words[row + FIELD.worstLagMs]!;
    const { worstLagMs } = sample;
    // One that is not known hides none that is.
    if (!(worst >= worstLagMs) && !Number.isNaN(worstLagMs)) {
      words[row + FIELD.worstLagMs] = worstLagMs;
    }
    words[row + FIELD.fsyncP99Ms] = this.#p99(sample.fsyncs);
    words[row + FIELD.diskFreeBytes] = sample.diskFreeBytes;
  }

  #begin(step: number, { fsyncs }: Sample): void {
    this.#at = this.#used === 0 ? 0 : (this.#at + 1) % this.#rows;
    this.#used = Math.min(this.#rows, this.#used + 1);
    const row = this.#at * FIELDS;
    this.#words.fill(0, row, row + FIELDS);
    this.#words[row + FIELD.step] = step;
    this.#words[row + FIELD.worstLagMs] = Number.NaN;
    this.#base.set(fsyncs.upTo);
    this.#base[this.#bounds.length] = fsyncs.count;
  }

  /** NaN: there was none. What is above all bounds counts as the last one. */
  #p99({ upTo, count }: Sample['fsyncs']): number {
    const all = count - this.#base[this.#bounds.length]!;
    if (all <= 0) return Number.NaN;
    const bucket = upTo.findIndex((n, i) => n - this.#base[i]! >= PART * all);
    return this.#bounds[bucket < 0 ? this.#bounds.length - 1 : bucket]!;
  }

  #get(row: number, field: keyof typeof FIELD): number {
    return this.#words[row * FIELDS + FIELD[field]]!;
  }

  json(nowMs: number): Omit<RowsJson, 'bytes'> {
    const keptMs = this.stepMs * this.#rows;
    const rows = Array.from(
      { length: this.#used },
      (_, i) => (this.#at - this.#used + 1 + i + this.#rows) % this.#rows,
      // A machine that slept leaves rows that are older than the ring is long.
    ).filter((row) => nowMs - this.#get(row, 'endMs') <= keptMs);
    const rate = (field: 'entries' | 'bytes') => (row: number) =>
      Math.round((1_000 * this.#get(row, field)) / this.#get(row, 'overMs'));
    const known = (field: keyof typeof FIELD) => (row: number) => {
      const value = this.#get(row, field);
      return Number.isFinite(value) ? Math.round(value * 100) / 100 : null;
    };
    return {
      stepMs: this.stepMs,
      keptMs,
      agoMs: rows.map((row) => Math.max(0, Math.round(nowMs - this.#get(row, 'endMs')))),
      entriesPerSecond: rows.map(rate('entries')),
      bytesPerSecond: rows.map(rate('bytes')),
      worstLagMs: rows.map(known('worstLagMs')),
      fsyncP99Ms: rows.map(known('fsyncP99Ms')),
      diskFreeBytes: rows.map(known('diskFreeBytes')),
    };
  }
}
