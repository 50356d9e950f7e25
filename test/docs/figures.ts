/** The figures of README.md: the newest kept result of each benchmark, and nothing else. */
import { type Failovers, kept, ms, newest, originOf, rowOf, short, table } from './kept.js';
import { paragraph } from './lines.js';

/** Those that README shows. */
const PEERS: readonly (readonly [RegExp, string])[] = [
  [/^engram-wal, in process/, 'engram-wal, in process'],
  [/^engram-wal, over a socket, batches of 1,000/, 'engram-wal behind a socket'],
  [/^PostgreSQL.* COPY of 1,000 rows, with a key/, 'PostgreSQL, COPY into a table with a key'],
  [/^PostgreSQL.* COPY of 1,000 rows$/, 'PostgreSQL, COPY into one without'],
  [/^PostgreSQL.* INSERT/, 'PostgreSQL, INSERT of 100 rows'],
  [/^Redis/, 'Redis Streams, AOF `always`, WAIT 2'],
  [/^etcd/, 'etcd, 100 puts a transaction'],
];

/** A machine that others use as well says little about any of them. */
const QUIET_LOAD = 4;

/** Others in one run with ours; nothing where no result of a quiet machine is kept. */
function besideOthers(): string[] {
  const rows = newest('peers');
  if (!rows || rows[0]!.machine.loadBefore > QUIET_LOAD) return [];
  const found = PEERS.flatMap(([isIt, what]): [string, string][] => {
    const row = rows.find((one) => isIt.test(one.case));
    return row ? [[what, `${short(row.entriesPerSecond!)}/s`]] : [];
  });
  const about =
    'The same payloads, acknowledged where all three nodes have them on disk (etcd: two), in one ' +
    `run (${originOf(rows[0]!)}):`;
  return ['', paragraph(about, 98), '', ...table(found)];
}

/** A lost node that led thousands of spaces: counted as the failovers are. */
function massRows(): [string, string][] {
  const row = newest('mass-failover')?.find((one) => one.case.startsWith('etcd'));
  if (!row) return [];
  const what = `... where it led ${row.spaces!.toLocaleString('en-US')} spaces: p50, the last`;
  return [[what, `${ms(row.more.p50Ms!)}, ${ms(row.more.lastMs!)}`]];
}

export function figuresText(): string {
  const offered = rowOf('latency', 'warm, 100000/s');
  const { pauseP50Ms, pauseP99Ms } = rowOf('switchover', 'planned').more;
  const { electedMs, fromSigkillMs } = kept('failover.json') as Failovers;
  const { entriesPerSecondRatio } = rowOf('isolation', 'warm, ratio').more;
  const kills = kept('campaign.json') as { kills: number; acknowledged: number };
  const { modes } = kept('power-loss.json') as { modes: Record<string, { losses: number }> };
  const losses = Object.values(modes).reduce((sum, mode) => sum + mode.losses, 0);
  const count = (n: number): string => n.toLocaleString('en-US');
  const opened = ['close', 'SIGKILL'].map(
    (how) => rowOf('restart', `8.0 GiB, after ${how}`).more.openMs!,
  );
  const rows: [string, string][] = [
    [
      'Entries of 256 bytes made durable on one node',
      `${short(rowOf('append', 'warm').entriesPerSecond!)}/s`,
    ],
    [
      '... flushed on each of two replicas',
      `${short(rowOf('replicate', 'warm').entriesPerSecond!)}/s`,
    ],
    [
      'An append, with 100 K/s offered and two replicas: p50, p99',
      `${ms(offered.appendP50Ms!)}, ${ms(offered.appendP99Ms!)}`,
    ],
    [
      'Throughput with a dead and a slow replica besides',
      `${entriesPerSecondRatio!.toFixed(2)} of that without`,
    ],
    ['Opening a log of 8 GiB, after a close and after a kill', opened.map(ms).join(', ')],
    ['A planned hand-over stops appends for: p50, p99', `${ms(pauseP50Ms!)}, ${ms(pauseP99Ms!)}`],
    [
      'A leader is killed, etcd, lease of 2 s: the next append: p50, p99',
      `${ms(fromSigkillMs.p50)}, ${ms(fromSigkillMs.p99)}`,
    ],
    [
      `... from the end of its lease (${count(electedMs.count)} failovers)`,
      `${ms(electedMs.p50)}, ${ms(electedMs.p99)}`,
    ],
    ...massRows(),
    [
      'SIGKILLs under load, simulated power losses',
      `${count(kills.kills)}, ${count(losses)}: nothing lost`,
    ],
  ];
  const origin =
    'One machine ran all nodes of each; [docs/PERFORMANCE.md](docs/PERFORMANCE.md) says when, ' +
    'which, and how loaded. `npm run bench` measures yours: [bench/README.md](bench/README.md).';
  return [...table(rows), '', paragraph(origin, 98), ...besideOthers()].join('\n');
}
