/** What a host no longer writes by hand: each with the test that holds it, and what it costs. */
import { kept, newest, originOf } from './kept.js';

interface Feature {
  readonly what: string;
  readonly test: string;
  /** Its case in `bench -- features`; undefined: no append goes through it. */
  readonly costs?: string;
}

const FEATURES: readonly Feature[] = [
  {
    what: '`append(..., { expected })`',
    test: 'test/scenarios/expected.test.ts',
    costs: 'expected',
  },
  {
    what: "`applyWhenLeading`, `until: 'applied'`",
    test: 'test/scenarios/apply-when-leading.test.ts',
    costs: "until: 'applied'",
  },
  {
    what: '`read({ fromTime, last, reverse })`, `seek`',
    test: 'test/scenarios/read-ranges.test.ts',
  },
  {
    what: '`waitFor`, where the node leads',
    test: 'test/scenarios/tokens.test.ts',
    costs: 'waitFor behind it',
  },
  {
    what: '`waitFor(..., { applied })` on a replica',
    test: 'test/scenarios/tokens.test.ts',
    costs: 'waitFor on the replica, applied',
  },
  {
    what: '`catchUp` on a replica, behind an append',
    test: 'test/scenarios/catch-up.test.ts',
    costs: 'catchUp on the replica behind it',
  },
  {
    what: '`node.append`, where the node leads',
    test: 'test/scenarios/member-append.test.ts',
    costs: 'node.append, on who leads',
  },
  {
    what: '`node.append`, from a member',
    test: 'test/scenarios/member-append.test.ts',
    costs: 'node.append, from a member',
  },
  {
    what: '`jsonCodec`',
    test: 'test/main/node/typed-space.test.ts',
    costs: 'a value, by jsonCodec',
  },
  {
    what: '`msgpackCodec`',
    test: 'test/main/node/typed-space.test.ts',
    costs: 'a value, by msgpackCodec',
  },
  { what: '`signal`', test: 'test/main/node/waits.test.ts', costs: 'signal' },
  { what: '`once`, `events`', test: 'test/main/node/waits.test.ts' },
  { what: 'all of it against a model', test: 'test/property/tokens.test.ts' },
  { what: 'types, and what is exported', test: 'test/package.test.ts' },
  { what: 'small without optional packages', test: 'test/install.test.ts' },
  { what: 'the examples', test: 'test/examples/sqlite-per-tenant.test.ts' },
  { what: 'noise: a plain append, measured again', test: '', costs: 'plain, again' },
];

/** Two digits that count. */
function nanoseconds(ns: number): string {
  const [size, unit] = Math.abs(ns) >= 10_000 ? [1_000, 'us'] : [1, 'ns'];
  return `${Number((ns / size).toPrecision(2)).toLocaleString('en-US')} ${unit}`;
}

export function features(): string {
  const rows = newest('features');
  if (!rows) return 'Not measured yet: `npm run bench -- features --save`.';
  const body = FEATURES.map(({ what, test, costs }) => {
    const more = rows.find((row) => row.case === costs)?.more;
    const times = more && Number(more.ratioToPlain!.toPrecision(2));
    const cost = more ? [nanoseconds(more.moreNsPerEntry!), String(times)] : ['', ''];
    return `| ${[what, test && `\`${test}\``, ...cost].join(' | ')} |`;
  });
  const plain = ['plain', 'plain, with a replica'].map((name) =>
    Math.round(rows.find((row) => row.case === name)!.more.nsPerEntry!).toLocaleString('en-US'),
  );
  return [
    `\`features\`, ${rows[0]!.commit}: ${originOf(rows[0]!)}.`,
    `A plain append: ${plain[0]} ns; with a replica in the same process ${plain[1]} ns.`,
    '',
    '|  | Test | more than a plain append | times a plain one |',
    '|---|---|---:|---:|',
    ...body,
  ].join('\n');
}

interface Installed {
  readonly date: string;
  readonly loadBefore: number;
  readonly packages: number;
  readonly megabytes: number;
  readonly system: { readonly platform: string; readonly arch: string; readonly glibc: string };
  readonly versions: readonly {
    readonly node: string;
    readonly importMs: number;
    readonly importMegabytes: number;
    readonly openMegabytes: number;
    readonly zstd: string;
  }[];
}

/** What an import costs, under each Node.js. */
export function installed(): string {
  const { date, loadBefore, packages, megabytes, system, versions } = kept(
    'installed.json',
  ) as Installed;
  const { platform, arch, glibc } = system;
  const where = `${platform} ${arch}, glibc ${glibc}, load ${loadBefore.toFixed(1)}`;
  return [
    `${date}, ${where}: ${packages} packages, ${megabytes.toFixed(1)} MB.`,
    '',
    '| Node.js | import | memory of an import | ... of two open nodes | zstd |',
    '|---|---:|---:|---:|---|',
    ...versions.map(({ node, importMs, importMegabytes, openMegabytes, zstd }) => {
      const sizes = [importMegabytes, openMegabytes].map((size) => `${Math.round(size)} MB`);
      return `| ${[node, `${Math.round(importMs)} ms`, ...sizes, zstd].join(' | ')} |`;
    }),
  ].join('\n');
}
