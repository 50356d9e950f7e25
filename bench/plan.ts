/** What the command line asks of every benchmark. */
import type { Regime } from './data-dir.js';

export interface Plan {
  readonly runs: number;
  readonly seconds: number | undefined;
  readonly payloads: readonly number[];
  readonly rates: readonly number[];
  readonly regimes: readonly Regime[];
  /** The most that one run writes to one node's log; undefined: the benchmark's own. */
  readonly maxBytes: number | undefined;
  /** How far the slower replica may be behind before the driver waits; 0 = without bound. */
  readonly leadBytes: number;
  /** Entries appended in one turn of the event loop. */
  readonly burst: number;
  /** Spaces of a benchmark of many; undefined: its own number. */
  readonly spaces: number | undefined;
  /** Cases of `peers` whose name has one of these in it; undefined: all. */
  readonly only: readonly string[] | undefined;
  /** Without the bare pipeline beside it. */
  readonly alone: boolean;
  readonly profileDir: string | undefined;
  /** The root of another checkout, built: it is measured instead of this one. */
  readonly checkout: string | undefined;
  /** Told what is measured now; for people. */
  readonly progress: (text: string) => void;
}
