/**
 * The failover campaign: three nodes with etcd, load on 8 spaces; a leader is killed, cut off or
 * stopped, and a space handed over, N times.
 *
 *   npm run failover -- [--rounds N] [--seed S] [--save]
 */
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { environment } from '../../bench/result.js';
import { random } from '../campaign/campaign-facts.mjs';
import { Campaign, type CampaignResult, type Failover } from './campaign.js';

const RESULT = path.join(import.meta.dirname, '../../bench/results/failover.json');

interface Spread {
  readonly count: number;
  readonly p50: number | null;
  readonly p99: number | null;
  readonly max: number | null;
}

function spreadOf(values: readonly number[]): Spread {
  const sorted = [...values].sort((a, b) => a - b);
  const at = (q: number): number | null => {
    const value = sorted[Math.min(sorted.length - 1, Math.ceil(q * sorted.length) - 1)];
    return value === undefined ? null : Math.round(value * 10) / 10;
  };
  return { count: sorted.length, p50: at(0.5), p99: at(0.99), max: at(1) };
}

function summary(result: CampaignResult): Record<string, unknown> {
  const { failovers, switchoverMs, switchoverGapMs, ...facts } = result;
  const by = (ways: readonly string[], of: (f: Failover) => number): Spread =>
    spreadOf(failovers.filter((f) => ways.includes(f.way)).map(of));
  return {
    ...facts,
    electedMs: by(['kill', 'cut', 'stop', 'etcd'], (f) => f.electedMs),
    electedAfterKillMs: by(['kill'], (f) => f.electedMs),
    electedAfterCutMs: by(['cut'], (f) => f.electedMs),
    fromSigkillMs: by(['kill'], (f) => f.wholeMs),
    fromCutMs: by(['cut'], (f) => f.wholeMs),
    switchoverPauseMs: spreadOf(switchoverMs),
    switchoverGapMs: spreadOf(switchoverGapMs),
  };
}

const { values } = parseArgs({
  options: {
    rounds: { type: 'string', default: '50' },
    seed: { type: 'string', default: String(Date.now() % 1_000_000) },
    ttl: { type: 'string', default: '2000' },
    save: { type: 'boolean', default: false },
  },
});
const seed = Number(values.seed);
const before = environment();
const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'engram-wal-failover-'));
console.log(`seed ${seed}, ${values.rounds} rounds`);
try {
  const result = await Campaign.run({
    folder,
    rounds: Number(values.rounds),
    ttlMs: Number(values.ttl),
    random: random(seed),
    say: (line) => console.log(line),
  });
  const told = { ...summary(result), seed, ...before };
  console.log(JSON.stringify(told, null, 2));
  if (values.save) fs.writeFileSync(RESULT, `${JSON.stringify(told, null, 2)}\n`);
} finally {
  fs.rmSync(folder, { recursive: true, force: true });
}
