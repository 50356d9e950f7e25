/**
 * What does a replica cost the primary that takes nothing, and one that takes 100 KB/s? Pairs of
 * runs: a healthy replica alone, and with these two beside it.
 */
import { TcpProxy } from '../test/support/tcp-proxy.js';
import { DataDirs, logBytes } from './data-dir.js';
import type { Plan } from './plan.js';
import { runCluster } from './processes.js';
import { type Figures, type Result, summarise } from './result.js';

const DEFAULT_SECONDS = 6;
const LEAST_PAIRS = 5;
const PAYLOAD_BYTES = 256;
const MAX_BYTES = 3 * 1024 ** 3;
/** What a machine that is shared by all nodes takes with ease. */
const RATE = 50_000;
const SLOW_BYTES_PER_SECOND = 100_000;
const BLACK_HOLE = 'replica-2';
const SLOW = 'replica-3';

export async function isolation(plan: Plan): Promise<Result[]> {
  const dirs = new DataDirs();
  const results: Result[] = [];
  const pairs = Math.max(plan.runs, LEAST_PAIRS);
  try {
    for (const regime of plan.regimes) {
      const alone: Figures[] = [];
      const beside: Figures[] = [];
      for (let pair = 0; pair < pairs; pair++) {
        // Whatever drifts hits both: each goes first in every second pair.
        for (const others of pair % 2 === 0 ? [0, 2] : [2, 0]) {
          plan.progress(
            `isolation ${regime}, pair ${pair + 1} of ${pairs}, ${others} bad replicas`,
          );
          const bytes = logBytes(MAX_BYTES, 2);
          const nodes = dirs.prepare(2 + others, regime, bytes);
          (others === 0 ? alone : beside).push(await one(plan, nodes));
        }
      }
      const labels = { name: 'isolation', payloadBytes: PAYLOAD_BYTES, spaces: 1 };
      const { isTmpfs: tmpfs } = dirs;
      const row = (what: string, replicas: number, runs: Figures[]): Result =>
        summarise({ ...labels, case: `${regime}, ${what}`, replicas, tmpfs }, runs);
      results.push(row('healthy alone', 1, alone));
      results.push(row('and a black hole, and 100 KB/s', 3, beside));
      results.push(
        row(
          'ratio of each pair',
          3,
          alone.map((a, i) => ratio(beside[i]!, a)),
        ),
      );
    }
  } finally {
    dirs.remove();
  }
  return results;
}

async function one(plan: Plan, dirs: readonly string[]): Promise<Figures> {
  const proxies = new Map<string, TcpProxy>();
  const job = {
    payloadBytes: PAYLOAD_BYTES,
    seconds: plan.seconds ?? DEFAULT_SECONDS,
    burst: plan.burst,
    leadBytes: plan.leadBytes,
    rate: RATE,
  };
  try {
    const { result, replicas } = await runCluster<Figures>('isolation', dirs, job, plan, {
      to: async (replica, port) => {
        if (replica !== BLACK_HOLE && replica !== SLOW) return port;
        const proxy = new TcpProxy(port);
        proxies.set(replica, proxy);
        return await proxy.listen();
      },
      marked: () => {
        proxies.get(BLACK_HOLE)?.stall('forth', 'back');
        proxies.get(SLOW)?.limit(SLOW_BYTES_PER_SECOND);
      },
    });
    return { ...result, healthyCpuSeconds: replicas[0]!.cpuSeconds };
  } finally {
    for (const proxy of proxies.values()) await proxy.close();
  }
}

/** Above 1: more with the bad replicas than without. */
function ratio(beside: Figures, alone: Figures): Figures {
  const of = (key: string): number => beside[key]! / alone[key]!;
  return {
    entriesPerSecondRatio: of('entriesPerSecond'),
    cpuMicrosPerEntryRatio: of('cpuMicrosPerEntry'),
    ackedPerSecondRatio: of('ackedPerSecond'),
    appendP50MsRatio: of('appendP50Ms'),
    appendP99MsRatio: of('appendP99Ms'),
    maxRssBytesRatio: of('maxRssBytes'),
  };
}
