/** A node's minutes and day: whatever comes, the rings stay as small, and lose no sum. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  RINGS,
  Rings,
  type RowsJson,
  type Sample,
  type StepMs,
} from '#src/shared/metrics/rings.js';

const BOUNDS = [1, 10, 100];
const BEGIN: Sample = {
  atMs: 5_000_250,
  entries: 70,
  bytes: 7_000,
  worstLagMs: Number.NaN,
  fsyncs: { upTo: [1, 2, 3], count: 4 },
  diskFreeBytes: Number.NaN,
};

/** What came in between two samples. */
interface Step {
  readonly afterMs: number;
  readonly entries: number;
  readonly worstLagMs: number;
  /** One number of fdatasyncs a bucket, and of those beyond. */
  readonly fsyncs: readonly number[];
}

const steps = fc.array(
  fc.record({
    afterMs: fc.oneof(
      { weight: 8, arbitrary: fc.integer({ min: 900, max: 1_200 }) },
      fc.integer({ min: 1, max: 200_000 }),
    ),
    entries: fc.nat(100_000),
    worstLagMs: fc.oneof(fc.constant(Number.NaN), fc.nat(90_000)),
    fsyncs: fc.array(fc.nat(50), { minLength: 4, maxLength: 4 }),
  }),
  { maxLength: 900, size: 'max' },
);

function samplesOf(all: readonly Step[]): Sample[] {
  const samples = [BEGIN];
  for (const { afterMs, entries, worstLagMs, fsyncs } of all) {
    const last = samples.at(-1)!;
    let more = 0;
    const upTo = last.fsyncs.upTo.map((n, i) => {
      more += fsyncs[i]!;
      return n + more;
    });
    samples.push({
      atMs: last.atMs + afterMs,
      entries: last.entries + entries,
      bytes: last.bytes + 100 * entries,
      worstLagMs,
      fsyncs: { upTo, count: last.fsyncs.count + more + fsyncs[3]! },
      diskFreeBytes: 1_000 + entries,
    });
  }
  return samples;
}

/** The same by lists that grow: rows by step, the newest `kept` of them. */
function naive(samples: readonly Sample[], stepMs: number, kept: number) {
  const rows = new Map<number, { overMs: number; entries: number; lag: number; from: number }>();
  for (const [i, sample] of samples.entries()) {
    if (i === 0) continue;
    const before = samples[i - 1]!;
    const step = Math.floor(sample.atMs / stepMs);
    const row = rows.get(step) ?? { overMs: 0, entries: 0, lag: Number.NaN, from: i - 1 };
    const known = [row.lag, sample.worstLagMs].filter((ms) => !Number.isNaN(ms));
    rows.set(step, {
      overMs: row.overMs + sample.atMs - before.atMs,
      entries: row.entries + sample.entries - before.entries,
      lag: known.length === 0 ? Number.NaN : Math.max(...known),
      from: row.from,
    });
  }
  const nowMs = samples.at(-1)!.atMs;
  const ends = [...rows].map(([step, row]) => {
    const last = samples.findLastIndex(({ atMs }) => Math.floor(atMs / stepMs) === step);
    const all = samples[last]!.fsyncs.count - samples[row.from]!.fsyncs.count;
    const at = BOUNDS.findIndex((_, b) => {
      return samples[last]!.fsyncs.upTo[b]! - samples[row.from]!.fsyncs.upTo[b]! >= 0.99 * all;
    });
    const p99 = all === 0 ? null : BOUNDS[at < 0 ? BOUNDS.length - 1 : at]!;
    return { ...row, p99, agoMs: nowMs - samples[last]!.atMs };
  });
  return ends.slice(-kept).filter(({ agoMs }) => agoMs <= kept * stepMs);
}

describe('the rings', () => {
  test('say what lists that grow would say, of the newest rows', () => {
    fc.assert(
      fc.property(steps, (all) => {
        const samples = samplesOf(all);
        const rings = new Rings(BOUNDS);
        for (const sample of samples) rings.add(sample);
        for (const { stepMs, rows } of RINGS) {
          const told = rings.json(stepMs, samples.at(-1)!.atMs);
          const wanted = naive(samples, stepMs, rows);
          expect(told.agoMs).toEqual(wanted.map(({ agoMs }) => agoMs));
          const rate = wanted.map(({ entries, overMs }) => Math.round((1_000 * entries) / overMs));
          expect(told.entriesPerSecond).toEqual(rate);
          const lags = wanted.map(({ lag }) => (Number.isNaN(lag) ? null : lag));
          expect(told.worstLagMs).toEqual(lags);
          expect(told.fsyncP99Ms).toEqual(wanted.map(({ p99 }) => p99));
        }
      }),
      { numRuns: 60 },
    );
  });

  test('of minutes keep the sum of all seconds; and never grow', () => {
    const rings = new Rings(BOUNDS);
    const { byteLength } = rings;
    expect(byteLength).toBe(8 * (8 * (300 + 1_440) + 2 * 4));
    rings.add(BEGIN);
    let last = BEGIN;
    // Two days, a sample a second: 10 entries each, 1,000 in one of them.
    for (let n = 1; n <= 2 * 86_400; n++) {
      const entries = last.entries + (n === 150_000 ? 1_000 : 10);
      last = { ...last, atMs: BEGIN.atMs + 1_000 * n, entries, worstLagMs: n % 1_000 };
      rings.add(last);
    }
    expect(rings.byteLength).toBe(byteLength);
    const rowsOf = (stepMs: StepMs): RowsJson => rings.json(stepMs, last.atMs);
    const seconds = rowsOf(1_000);
    expect(seconds.agoMs).toHaveLength(300);
    expect(new Set(seconds.entriesPerSecond)).toEqual(new Set([10]));
    const minutes = rowsOf(60_000);
    expect(minutes.agoMs).toHaveLength(1_440);
    expect(JSON.stringify(minutes).length).toBeLessThan(80_000);
    const sums = minutes.entriesPerSecond.slice(0, -1).map((rate) => Math.round(60 * rate));
    expect(sums.reduce((a, b) => a + b)).toBe(1_439 * 600 + 990 + rounding(sums));
    // The worst of a minute stays seen.
    expect(Math.max(...minutes.worstLagMs.map((ms) => ms ?? 0))).toBe(999);
  });

  test('are not turned back by a sample that is not later, and hold nothing before two', () => {
    const rings = new Rings(BOUNDS);
    expect(rings.json(1_000, BEGIN.atMs).agoMs).toEqual([]);
    rings.add(BEGIN);
    rings.add({ ...BEGIN, entries: 900 });
    expect(rings.json(1_000, BEGIN.atMs).agoMs).toEqual([]);
    rings.add({ ...BEGIN, atMs: BEGIN.atMs + 500, entries: 1_000 });
    expect(rings.json(1_000, BEGIN.atMs + 500).entriesPerSecond).toEqual([200]);
  });
});

/** The one minute of more: 1,590 entries are 26.5 a second, told as 27. */
function rounding(sums: readonly number[]): number {
  return sums.find((sum) => sum !== 600)! - 1_590;
}
