/** What does an append cost with what it may be asked for besides, against a plain one? */
import { DataDirs } from './data-dir.js';
import type { Plan } from './plan.js';
import { runAlone } from './processes.js';
import { type Figures, type Result, summarise } from './result.js';

const DEFAULT_SECONDS = 0.3;
const PAYLOAD_BYTES = 256;
const LEAST_RUNS = 5;

interface Piece {
  readonly piece: string;
  /** The one that it is held against; itself where it is plain. */
  readonly against: string;
  readonly nsPerEntry: number;
}

export async function features(plan: Plan): Promise<Result[]> {
  const dirs = new DataDirs();
  const { isTmpfs: tmpfs } = dirs;
  const runs: Piece[][] = [];
  const count = Math.max(plan.runs, LEAST_RUNS);
  const seconds = plan.seconds ?? DEFAULT_SECONDS;
  try {
    for (let run = 1; run <= count; run++) {
      plan.progress(`features, run ${run} of ${count}`);
      const [alone, leader, member] = dirs.prepare(3, 'fresh', 0);
      const job = { alone, leader, member, seconds, payloadBytes: PAYLOAD_BYTES };
      runs.push(await runAlone<Piece[]>('features', job, plan));
    }
  } finally {
    dirs.remove();
  }
  return runs[0]!.map(({ piece }, i) => {
    const figures = runs.map((pieces): Figures => {
      const { against, nsPerEntry } = pieces[i]!;
      const plain = pieces.find((one) => one.piece === against)!.nsPerEntry;
      return {
        entriesPerSecond: 1e9 / nsPerEntry,
        nsPerEntry,
        moreNsPerEntry: nsPerEntry - plain,
        ratioToPlain: nsPerEntry / plain,
      };
    });
    const labels = { name: 'features', case: piece, payloadBytes: PAYLOAD_BYTES, replicas: null };
    return summarise({ ...labels, spaces: 1, tmpfs }, figures);
  });
}
