/** The last ten minutes of a node: what was appended, and what each replica flushed and lacked. */

const KEPT_MS = 10 * 60_000;
/** Samples closer together than this say nothing that a chart could show. */
const LEAST_STEP_MS = 900;
/** More than these, and the charts would be no charts. */
const REPLICAS_MAX = 64;

interface Sample {
  readonly atMs: number;
  /** Of all spaces: durable here. */
  readonly entries: number;
  readonly replicas: ReadonlyMap<string, ReplicaSample>;
}

interface ReplicaSample {
  readonly ackedEntries: number;
  /** Infinity: never connected. */
  readonly lagMs: number;
}

/** Rows of the same length; the newest last. */
export interface HistoryJson {
  /** How long ago, ms. */
  readonly agoMs: readonly number[];
  /** Entries that became durable here, a second. */
  readonly appended: readonly number[];
  readonly replicas: readonly {
    readonly replicaId: string;
    /** Entries that it acknowledged, a second; null: not known then. */
    readonly acked: readonly (number | null)[];
    /** The worst of its spaces; null: never connected. */
    readonly lagMs: readonly (number | null)[];
  }[];
}

export class History {
  #samples: Sample[] = [];

  /** @param atMs monotonic */
  add(
    atMs: number,
    entries: number,
    replicas: ReadonlyMap<string, { ackedEntries: number; worstLagMs: number }>,
  ): void {
    const last = this.#samples.at(-1);
    if (last && atMs - last.atMs < LEAST_STEP_MS) return;
    const kept = [...replicas].slice(0, REPLICAS_MAX).map(([id, total]) => {
      const sample = { ackedEntries: total.ackedEntries, lagMs: total.worstLagMs };
      return [id, sample] as const;
    });
    this.#samples = this.#samples.filter((sample) => atMs - sample.atMs <= KEPT_MS);
    this.#samples.push({ atMs, entries, replicas: new Map(kept) });
  }

  json(nowMs: number): HistoryJson {
    const samples = this.#samples.slice(1);
    const rate = (i: number, of: (sample: Sample) => number | undefined): number | null => {
      const before = this.#samples[i]!;
      const after = this.#samples[i + 1]!;
      const [from, to] = [of(before), of(after)];
      if (from === undefined || to === undefined) return null;
      // Less than before: a space has gone, or entries were taken back.
      return Math.max(0, Math.round((1_000 * (to - from)) / (after.atMs - before.atMs)));
    };
    const ids = new Set(samples.flatMap((sample) => [...sample.replicas.keys()]));
    return {
      agoMs: samples.map((sample) => Math.round(nowMs - sample.atMs)),
      appended: samples.map((_, i) => rate(i, (sample) => sample.entries) ?? 0),
      replicas: [...ids].map((replicaId) => ({
        replicaId,
        // With its first word it names all that it has: that is no throughput.
        acked: samples.map((_, i) =>
          rate(i, ({ replicas }) => {
            const replica = replicas.get(replicaId);
            return replica && Number.isFinite(replica.lagMs) ? replica.ackedEntries : undefined;
          }),
        ),
        lagMs: samples.map((sample) => {
          const lagMs = sample.replicas.get(replicaId)?.lagMs;
          return lagMs === undefined || lagMs === Number.POSITIVE_INFINITY ? null : rounded(lagMs);
        }),
      })),
    };
  }
}

function rounded(ms: number): number {
  return Math.round(ms * 100) / 100;
}
