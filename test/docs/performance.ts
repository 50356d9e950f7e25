/** The tables of docs/PERFORMANCE.md: out of the newest kept result of each benchmark. */
import { features, installed } from './features.js';
import { type Failovers, kept, newest, originOf, type Row, rowOf, short } from './kept.js';
import { item } from './lines.js';

const BENCHES = [
  ...['append', 'replicate', 'latency', 'ceiling', 'peers', 'where', 'tenants', 'spaces'],
  ...['isolation', 'compression', 'lag-overhead', 'recovery', 'restart', 'recycle', 'switchover'],
  ...['mass-failover', 'codec', 'tls'],
];

function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]): string => `| ${cells.join(' | ')} |`;
  const rule = `|${head.map((_, n) => (n === 0 ? '---|' : '---:|')).join('')}`;
  return [line(head), rule, ...rows.map(line)].join('\n');
}

const notYet = (name: string): string => `Not measured yet: \`npm run bench -- ${name} --save\`.`;

function digits(value: number, count = 3): string {
  if (Math.abs(value) >= 1_000) return Math.round(value).toLocaleString('en-US');
  return String(Number(value.toPrecision(count)));
}

// --- targets -----------------------------------------------------------------------------------

interface Target {
  readonly what: string;
  readonly asked: string;
  /** The benchmark, or the file, that keeps it. */
  readonly by: string;
  /** What was found, for people, and whether that is enough; undefined: nothing is kept. */
  readonly found: () => readonly [string, boolean] | undefined;
}

/** One figure of the newest result; undefined where there is none. */
function figure(name: string, begins: string, key: string): number | undefined {
  const row = newest(name)?.find((one) => one.case.startsWith(begins));
  const value = row?.more[key] ?? (row as unknown as Record<string, number> | undefined)?.[key];
  return value ?? undefined;
}

/** `says` of a figure that must be at most, or at least, so much. */
function held(
  value: number | undefined,
  limit: { readonly most?: number; readonly least?: number },
  says: (value: number) => string,
): readonly [string, boolean] | undefined {
  if (value === undefined) return undefined;
  const isHeld = value <= (limit.most ?? value) && value >= (limit.least ?? value);
  return [says(value), isHeld];
}

const milliseconds = (value: number): string => `${digits(value)} ms`;

/** Of ten times as many spaces as the design asks for. */
const TENANTS = [
  ['throughput against one', '>= 0.5', { least: 0.5 }, 'ratioToOne', digits],
  ['created', '< 15 s', { most: 15_000 }, 'createdMs', milliseconds],
  ['opened', '< 3 s', { most: 3_000 }, 'openedMs', milliseconds],
] as const;

const TARGETS: readonly Target[] = [
  {
    what: 'entries/s flushed on each of 2 replicas, 256 bytes',
    asked: '1 M',
    by: 'replicate',
    found: () => held(rowOf('replicate', 'warm').entriesPerSecond!, { least: 1e6 }, short),
  },
  {
    what: 'ack p99, 100,000/s offered',
    asked: '< 3 ms',
    by: 'latency',
    found: () => held(rowOf('latency', 'warm, 100000/s').appendP99Ms!, { most: 3 }, milliseconds),
  },
  {
    what: 'replication lag p99, 10,000/s offered',
    asked: '< 20 ms',
    by: 'latency',
    found: () => held(rowOf('latency', 'warm, 10000/s').more.lagP99Ms, { most: 20 }, milliseconds),
  },
  ...['10000/s', '100000/s'].map((rate) => ({
    what: `durable to handed to the socket, each batch, p99, at ${rate}`,
    asked: '< 0.2 ms',
    by: 'where',
    found: () =>
      held(figure('where', `${rate}, each batch`, 'p99Us'), { most: 200 }, (us) =>
        milliseconds(us / 1_000),
      ),
  })),
  {
    what: 'lag monitoring, 1,000 spaces x 2 replicas, CPU',
    asked: '< 0.01 %',
    by: 'lag-overhead',
    found: () => {
      const rows = newest('lag-overhead') ?? [];
      const ticks = rows.filter((row) => row.case.startsWith('ticks') && row.spaces === 1_000);
      const worst = Math.max(...ticks.map((row) => row.more.cpuPercentOfOneCore!));
      return held(ticks.length > 0 ? worst : undefined, { most: 0.01 }, (v) => `${digits(v)} %`);
    },
  },
  {
    what: "memory of one more replica's stream, 50,000/s",
    asked: '< 32 MB',
    by: 'where',
    found: () =>
      held(figure('where', '50000/s, memory', 'oneMoreMib'), { most: 30.5 }, (mib) => {
        return `${digits(mib * 1.048576)} MB`;
      }),
  },
  {
    what: 'network to one replica, 100,000/s of 256 bytes',
    asked: '< 33 MB/s',
    by: 'compression',
    found: () => {
      const bytes = figure('compression', 'none', 'sentBytesPerEntry');
      return held(bytes && bytes / 10, { most: 33 }, (value) => `${digits(value)} MB/s`);
    },
  },
  {
    what: '10,000 spaces against one, throughput',
    asked: '>= 0.8',
    by: 'tenants',
    found: () => held(figure('tenants', '10000 spaces', 'ratioToOne'), { least: 0.8 }, digits),
  },
  ...TENANTS.map(([what, asked, limit, key, says]) => ({
    what: `100,000 spaces: ${what}`,
    asked,
    by: 'tenants',
    found: () => held(figure('tenants', '100000 spaces', key), limit, says),
  })),
  {
    what: 'restart with a log of 10 GiB (measured: 8 GiB), after SIGKILL',
    asked: '< 1 s',
    by: 'restart',
    found: () =>
      held(figure('restart', '8.0 GiB, after SIGKILL', 'openMs'), { most: 1_000 }, milliseconds),
  },
  {
    what: 'promotion by etcd, from the end of the lease: p50',
    asked: '< 250 ms',
    by: 'failover.json',
    found: () => held(failovers().electedMs.p50, { most: 250 }, milliseconds),
  },
  {
    what: '... p99',
    asked: '< 500 ms',
    by: 'failover.json',
    found: () => held(failovers().electedMs.p99, { most: 500 }, milliseconds),
  },
  {
    what: '... from SIGKILL, lease of 2 s: p99',
    asked: '< 3.5 s',
    by: 'failover.json',
    found: () => held(failovers().fromSigkillMs.p99, { most: 3_500 }, milliseconds),
  },
];

/** Of the code that was measured. */
function commitOf(by: string): string {
  const rows = by === 'failover.json' ? failovers().runs : newest(by)!;
  return [...new Set(rows.map(({ commit }) => commit))].join(', ');
}

function failovers(): Failovers {
  return kept('failover.json') as Failovers;
}

function targets(): string {
  const rows = TARGETS.map(({ what, asked, by, found }) => {
    const [says, isHeld] = found() ?? [undefined, undefined];
    if (says === undefined) return [what, asked, 'no figure kept', '', `\`${by}\``];
    return [what, asked, says, isHeld ? 'yes' : '**no**', `\`${by}\`, ${commitOf(by)}`];
  });
  return table(['', 'Target', 'Measured', 'Reached', 'Kept result, commit'], rows);
}

// --- beside the bare pipeline, beside others ---------------------------------------------------

function range(row: Row, key: string): string {
  const [least, most] = row.spread[key] ?? [0, 0];
  return `${digits(row.more[key]!)} (${digits(least)}-${digits(most)})`;
}

function ceiling(): string {
  const found = newest('replicate')?.filter((row) => row.more.ratioToCeiling !== undefined) ?? [];
  const offered = newest('latency')?.filter((row) => row.more.appendP99ToCeiling) ?? [];
  if (found.length === 0 || offered.length === 0) return notYet('replicate latency');
  const full = table(
    ['Payload', 'ours', 'bare', 'ours / bare', 'CPU an entry, primary', 'replica'],
    found.map((row) => [
      `${row.payloadBytes} bytes`,
      `${short(row.entriesPerSecond!)}/s`,
      `${short(row.more.ceilingPerSecond!)}/s`,
      range(row, 'ratioToCeiling'),
      both(row, 'primaryCpuMicrosPerEntry', 'ceilingPrimaryCpuMicrosPerEntry'),
      both(row, 'replicaCpuMicrosPerEntry', 'ceilingReplicaCpuMicrosPerEntry'),
    ]),
  );
  const rates = table(
    ['Offered', 'ack p99, ours', 'bare', 'ours / bare', 'CPU an entry, primary', 'replica'],
    offered.map((row) => [
      row.case.replace(
        /^warm, (\d+)\/s offered$/,
        (_, n) => `${Number(n).toLocaleString('en-US')}/s`,
      ),
      milliseconds(row.appendP99Ms!),
      milliseconds(row.more.ceilingAppendP99Ms!),
      range(row, 'appendP99ToCeiling'),
      both(row, 'primaryCpuMicrosPerEntry', 'ceilingPrimaryCpuMicrosPerEntry'),
      both(row, 'replicaCpuMicrosPerEntry', 'ceilingReplicaCpuMicrosPerEntry'),
    ]),
  );
  return `${origin(found[0]!)}\n\n${full}\n\n${origin(offered[0]!)}\n\n${rates}`;
}

/** Ours, and the bare one's. */
const both = (row: Row, ours: string, bare: string): string =>
  `${digits(row.more[ours]!)} (${digits(row.more[bare]!)}) us`;

/** Between nodes: against plain connections, in turn. */
function encrypted(): string {
  const rows = newest('tls');
  if (!rows) return notYet('tls');
  const body = rows.map((row) => [
    row.case,
    `${short(row.entriesPerSecond!)}/s`,
    row.more.ratioToPlain === undefined ? '' : range(row, 'ratioToPlain'),
    `${digits(row.more.primaryCpuMicrosPerEntry!)} us`,
    `${digits(row.more.replicaCpuMicrosPerEntry!)} us`,
  ]);
  const heads = ['', 'entries/s', 'times plain', 'CPU an entry, primary', 'a replica'];
  return `${origin(rows[0]!)}\n\n${table(heads, body)}`;
}

function peers(): string {
  const rows = newest('peers');
  if (!rows) return notYet('peers');
  const body = rows.map((row) => [
    row.case,
    `${short(row.entriesPerSecond!)}/s`,
    row.appendP50Ms === null ? '' : milliseconds(row.appendP50Ms),
    `${digits(row.more.cpuMicrosPerEntry!)} us`,
    digits(row.more.oursToThis!),
  ]);
  const head = ['', 'entries/s', 'a request, p50', 'CPU an entry', 'ours is'];
  const promises = new Map(rows.map((row) => [row.case.split(/ \d|, /)[0]!, row.promise ?? '']));
  const told = [...promises].map(([name, promise]) => item(`${name}: ${promise}.`));
  const means = 'An acknowledgement means:';
  return [origin(rows[0]!), '', table(head, body), '', means, '', ...told].join('\n');
}

// --- where it goes -----------------------------------------------------------------------------

const LEAST_NS = 10;

/** Of the entries that all is told for, but for the processor time of threads. */
const WHERE_BYTES = 256;

/** Rows of `where` for one size of entries, ours. */
function whereRows(): readonly Row[] | undefined {
  const isTold = (row: Row): boolean =>
    row.payloadBytes === WHERE_BYTES && !row.case.includes(', bare ');
  return newest('where')?.filter(isTold);
}

/** Threads, each with its stages below it. */
function entry(): string {
  const rows = whereRows()?.filter((row) => row.case.startsWith('full rate, '));
  if (!rows) return notYet('where');
  const body = rows
    .filter(({ more, case: what }) => !what.includes(': ') || more.cpuNsPerEntry! >= LEAST_NS)
    .map(({ more, case: what }) => {
      const [, node, rest] = what.split(', ', 3) as [string, string, string];
      const [thread, ...stage] = what.slice(what.indexOf(rest)).split(': ');
      const ns = digits(more.cpuNsPerEntry!);
      return stage.length > 0 ? [`... ${stage.join(': ')}`, ns] : [`**${node}, ${thread}**`, ns];
    });
  return `${origin(rows[0]!)}\n\n${table(['', 'ns an entry'], body)}`;
}

const BARE = /^full rate, bare (\w+), (.+)$/;

/** Processor time by thread, ours and in brackets the bare pipeline's, for each size of entries. */
function budget(): string {
  const rows = newest('where') ?? [];
  const bare = rows.filter((row) => BARE.test(row.case));
  if (bare.length === 0) return notYet('where');
  const sizes = [...new Set(bare.map((row) => row.payloadBytes!))].sort((a, b) => a - b);
  const nsOf = (what: string, size: number): number =>
    rows.find((row) => row.case === what && row.payloadBytes === size)?.more.cpuNsPerEntry ?? 0;
  const cell = (node: string, threads: readonly string[], size: number): string => {
    const sum = (who: string): number =>
      threads.reduce((all, one) => all + nsOf(`full rate, ${who}${node}, ${one}`, size), 0);
    return `${digits(sum(''))} (${digits(sum('bare '))})`;
  };
  const body = ['primary', 'replica'].flatMap((node) => {
    const told = rows.map((row) => THREAD.exec(row.case)).filter((one) => one?.[2] === node);
    const threads = [
      ...new Set(told.filter((one) => one![1] === 'full rate').map((one) => one![3]!)),
    ];
    const line = (name: string, of: readonly string[]): string[] => [
      name,
      ...sizes.map((size) => cell(node, of, size)),
    ];
    return [line(`**${node}**`, threads), ...threads.map((one) => line(`... ${one}`, [one]))];
  });
  const head = ['ns an entry', ...sizes.map((size) => `${digits(size)} bytes`)];
  return `${origin(rows[0]!)}\n\n${table(head, body)}`;
}

const TENANTS_NS = /^(primary|replica), (.+), ns$/;

/** Of one space and of many, by thread. */
function tenants(): string {
  const rows = (newest('tenants') ?? []).filter(
    (row) => row.spaces! > 1 || row.case === 'one space, beside 10000',
  );
  const told = Object.keys(rows[0]?.more ?? {}).filter((key) => TENANTS_NS.test(key));
  if (told.length === 0) return notYet('tenants');
  const body = ['primary', 'replica'].flatMap((node) => {
    const keys = told.filter((key) => key.startsWith(`${node}, `));
    const line = (name: string, of: readonly string[]): string[] => [
      name,
      ...rows.map(({ more }) => digits(of.reduce((sum, key) => sum + (more[key] ?? 0), 0))),
    ];
    const thread = (key: string): string => `... ${TENANTS_NS.exec(key)![2]}`;
    return [line(`**${node}**`, keys), ...keys.map((key) => line(thread(key), [key]))];
  });
  const many = rows.slice(1).map(({ spaces }) => digits(spaces!));
  return `${origin(rows[0]!)}\n\n${table(['ns an entry', 'one space', ...many], body)}`;
}

function commit(): string {
  const rows = newest('where');
  if (!rows) return notYet('where');
  const rates = [...new Set(rows.map((row) => /^(\d+)\/s, commit/.exec(row.case)?.[1]))]
    .filter((rate) => rate !== undefined)
    .sort((a, b) => Number(a) - Number(b));
  const steps = rows
    .filter((row) => row.case.startsWith(`${rates[0]}/s, commit: `))
    .map((row) => row.case.slice(row.case.indexOf(': ') + 2));
  const at = (rate: string, step: string, key: string): string => {
    const row = rows.find((one) => one.case === `${rate}/s, commit: ${step}`);
    return row?.more[key] === undefined ? '' : digits(row.more[key]!);
  };
  const names = rates.map((rate) => `${Number(rate).toLocaleString('en-US')}/s`);
  const head = ['', ...names.flatMap((name) => [`${name}: p50, us`, 'p99, us'])];
  const body = steps.map((step) => [
    step,
    ...rates.flatMap((rate) => [at(rate, step, 'p50Us'), at(rate, step, 'p99Us')]),
  ]);
  return `${origin(rows[0]!)}\n\n${table(head, body)}`;
}

const THREAD = /^(\d+\/s|full rate), (primary|replica), ([^:]+)$/;

function threads(): string {
  const rows = whereRows();
  if (!rows) return notYet('where');
  const all = newest('where')!.filter((row) => row.payloadBytes === WHERE_BYTES);
  const body = rows
    .filter((row) => THREAD.test(row.case) && row.more.cpuUsPerCommit! > 0)
    .map(({ case: what, more }) => {
      const [, load, node, thread] = THREAD.exec(what)!;
      const bare = all.find((row) => row.case === `${load}, bare ${node}, ${thread}`)?.more;
      const beside = (key: string): string =>
        digits(more[key]!) + (bare ? ` (${digits(bare[key]!)})` : '');
      return [
        `${load}, ${node}, ${thread}`,
        beside('cpuUsPerCommit'),
        beside('entriesPerCommit'),
        ...[more.sleepsPerCommit!, more.readCallsPerCommit!, more.writeCallsPerCommit!].map((n) =>
          n.toFixed(1),
        ),
      ];
    });
  const head = ['', 'CPU a commit, us', 'entries a commit', 'sleeps', 'read calls', 'write calls'];
  return table(head, body);
}

function calls(): string {
  const rows = newest('where')?.filter((row) => /(system calls a commit|, copies)/.test(row.case));
  if (!rows) return notYet('where');
  return rows
    .map(({ case: what, more }) => {
      const parts = Object.entries(more)
        .filter(([name]) => name !== 'commits')
        .sort(([, a], [, b]) => (what.includes('copies') ? 0 : b - a))
        .map(([name, count]) => `${name} ${digits(count)}`);
      return item(`${what}: ${parts.join(what.includes('copies') ? '; ' : ', ')}.`);
    })
    .join('\n');
}

function origin(row: Row): string {
  return `\`${row.name}\`, ${row.commit}: ${originOf(row)}.`;
}

/** When and where each was measured. */
function origins(): string {
  const days = new Map<string, string[]>();
  const rows = BENCHES.flatMap((name) => newest(name)?.slice(0, 1) ?? []);
  const { runs } = failovers();
  for (const row of [...rows, { name: 'failover', ...runs[0]! }]) {
    const { machine, node, date } = row;
    const cpu = machine.cpu.replaceAll('(R)', '');
    const day = `${date.slice(0, 10)}, ${machine.cores} cores (${cpu}), Node ${node}`;
    const one = `\`${row.name}\` (${machine.loadBefore.toFixed(1)})`;
    days.set(day, [...(days.get(day) ?? []), one]);
  }
  return [...days].map(([day, which]) => item(`${day}: ${which.join(', ')}`)).join('\n');
}

/** By the mark at which each stands. */
export const PERFORMANCE: Readonly<Record<string, () => string>> = {
  targets,
  ceiling,
  encrypted,
  peers,
  entry,
  budget,
  tenants,
  commit,
  threads,
  calls,
  features,
  installed,
  origins,
};
