/** How long does each small piece take: CRC, seal, encode, decode? */
import type { Plan } from './plan.js';
import { runAlone } from './processes.js';
import { type Figures, type Result, summarise } from './result.js';

const DEFAULT_SECONDS = 0.5;

interface Piece {
  readonly piece: string;
  readonly payloadBytes: number | null;
  readonly nsPerEntry: number;
  readonly marginPercent: number;
}

export async function codec(plan: Plan): Promise<Result[]> {
  const runs: Piece[][] = [];
  const job = { seconds: plan.seconds ?? DEFAULT_SECONDS };
  for (let run = 1; run <= plan.runs; run++) {
    plan.progress(`codec, run ${run} of ${plan.runs}`);
    runs.push(await runAlone<Piece[]>('codec', job, plan));
  }
  return runs[0]!.map(({ piece, payloadBytes }, i) => {
    const figures = runs.map((pieces): Figures => {
      const { nsPerEntry, marginPercent } = pieces[i]!;
      return { nsPerEntry, marginPercent, entriesPerSecond: 1e9 / nsPerEntry };
    });
    const none = { replicas: null, spaces: null, tmpfs: null };
    return summarise({ name: 'codec', case: piece, payloadBytes, ...none }, figures);
  });
}
