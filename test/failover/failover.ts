/**
 * The failover campaign: three nodes with etcd, load on 8 spaces; a leader is killed, cut off or
 * stopped, some of them replaced, and a space handed over, N times.
 *
 *   npm run failover -- [--rounds N] [--seed S] [--save]
 */
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { type Environment, environment } from '../../bench/result.js';
import { random } from '../campaign/campaign-facts.mjs';
import { Campaign, type CampaignResult, type Failover } from './campaign.js';

const RESULT = path.join(import.meta.dirname, '../../bench/results/failover.json');

const KILLED = ['kill', 'wipe', 'swap'];

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

interface Run extends Environment {
  readonly seed: number;
  readonly result: CampaignResult;
}

function summary(runs: readonly CampaignResult[]): Record<string, unknown> {
  const failovers = runs.flatMap((run) => run.failovers);
  const by = (ways: readonly string[], of: (f: Failover) => number): Spread =>
    spreadOf(failovers.filter((f) => ways.includes(f.way)).map(of));
  const sum = (of: (run: CampaignResult) => number): number =>
    runs.reduce((all, run) => all + of(run), 0);
  return {
    hosts: [...new Set(runs.map((run) => run.kind))].join(),
    ttlMs: [...new Set(runs.map((run) => run.ttlMs))].join(),
    leadersLost: {
      kill: sum((run) => run.rounds.kill),
      cut: sum((run) => run.rounds.cut),
      stop: sum((run) => run.rounds.stop),
      etcd: sum((run) => run.rounds.etcd),
    },
    /** Killed as well: it came back with an empty disk, or another node in its place. */
    replaced: {
      wipe: sum((run) => run.rounds.wipe),
      swap: sum((run) => run.rounds.swap),
    },
    acknowledged: sum((run) => run.acknowledged),
    withReplicas: sum((run) => run.withReplicas),
    quarantined: sum((run) => run.quarantined),
    entries: sum((run) => run.entries),
    electedMs: by([...KILLED, 'cut', 'stop', 'etcd'], (f) => f.electedMs),
    electedAfterKillMs: by(KILLED, (f) => f.electedMs),
    electedAfterCutMs: by(['cut'], (f) => f.electedMs),
    fromSigkillMs: by(KILLED, (f) => f.wholeMs),
    fromCutMs: by(['cut'], (f) => f.wholeMs),
    switchoverPauseMs: spreadOf(runs.flatMap((run) => run.switchoverMs)),
    switchoverGapMs: spreadOf(runs.flatMap((run) => run.switchoverGapMs)),
  };
}

/** Adds the run to those kept of the same commit, and says what all of them come to. */
function save(run: Run): void {
  const kept = fs.existsSync(RESULT) ? JSON.parse(fs.readFileSync(RESULT, 'utf8')) : { runs: [] };
  const same = (kept.runs as Run[]).filter((r) => r.commit === run.commit);
  const runs = [...same, run];
  const told = { ...summary(runs.map((r) => r.result)), runs };
  // One line for each run: the raw figures are for programs.
  const text = JSON.stringify({ ...told, runs: 0 }, null, 2);
  const lines = runs.map((r) => `    ${JSON.stringify(r)}`).join(',\n');
  fs.writeFileSync(RESULT, `${text.replace('"runs": 0', `"runs": [\n${lines}\n  ]`)}\n`);
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
  console.log(JSON.stringify(summary([result]), null, 2));
  if (values.save) save({ seed, ...before, result });
} finally {
  fs.rmSync(folder, { recursive: true, force: true });
}
