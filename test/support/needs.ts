/**
 * What tests drive that a machine with nothing but Node.js and git lacks. The tests that need it
 * are then left out and listed at the end; with CI=true nothing is left out, and they fail.
 */
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';

export interface Need {
  readonly name: string;
  readonly isHere: () => boolean;
  /** Test files that cannot do without, as globs; none where they go on in another way. */
  readonly files: readonly string[];
  /** What nobody has tried without it. */
  readonly untried: string;
  readonly howToHaveIt: string;
}

const CHROMIUMS = ['/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'];

/** Where Chromium is; undefined where it is not. */
export const CHROMIUM = CHROMIUMS.find((place) => fs.existsSync(place));

/** Installed aside: it is large, and compiled where no binary of it can be fetched. */
const BETTER_SQLITE3 = path.join(
  import.meta.dirname,
  '../examples/sqlite/node_modules/better-sqlite3/build/Release/better_sqlite3.node',
);

const says = (program: string, ...args: string[]): boolean =>
  spawnSync(program, args, { stdio: 'ignore' }).status === 0;

/** Whether this process may make network namespaces, and was not told to do without. */
export function mayMakeNamespaces(): boolean {
  if (process.env.FAILOVER_HOSTS === 'loopback') return false;
  const name = `ewtry${process.pid}`;
  if (!says('ip', 'netns', 'add', name)) return false;
  const hasBridge = says('ip', '-n', name, 'link', 'add', 'br0', 'type', 'bridge');
  says('ip', 'netns', 'del', name);
  return hasBridge;
}

export const NEEDS = {
  etcd: {
    name: 'etcd',
    isHere: () => says('etcd', '--version'),
    files: ['test/etcd/*.test.ts'],
    untried: 'who leads as etcd decides it: test/etcd',
    howToHaveIt: 'apt-get install etcd-server',
  },
  prometheus: {
    name: 'Prometheus, promtool, Alertmanager',
    isHere: () =>
      says('prometheus', '--version') &&
      says('promtool', '--version') &&
      says('prometheus-alertmanager', '--version'),
    files: ['test/deploy/alerts.test.ts', 'test/deploy/causes.test.ts'],
    untried: 'every alert by its fault, the dashboard, one message a cause: test/deploy',
    howToHaveIt: 'apt-get install prometheus prometheus-alertmanager',
  },
  chromium: {
    name: 'Chromium',
    isHere: () => CHROMIUM !== undefined,
    files: ['test/main/watch/page*.test.ts', 'test/scenarios/clean-output.test.ts'],
    untried: 'the page, clicked through: page*.test.ts; and beside others: clean-output.test.ts',
    howToHaveIt: 'apt-get install chromium',
  },
  namespaces: {
    name: 'network namespaces',
    isHere: mayMakeNamespaces,
    files: ['test/runbook/*.test.ts'],
    untried: 'the runbook, followed: test/runbook; test/etcd has proxies on loopback instead',
    howToHaveIt: 'apt-get install iproute2, and run as root (in a container: --privileged)',
  },
  registry: {
    name: "npm's registry",
    isHere: () => says('npm', 'ping', '--fetch-retries=0', '--fetch-timeout=3000'),
    files: ['test/install.test.ts'],
    untried: 'the package as somebody else installs it: test/install.test.ts',
    howToHaveIt: 'let npm reach its registry (npm ping)',
  },
  sqlite: {
    name: 'better-sqlite3',
    isHere: () => fs.existsSync(BETTER_SQLITE3),
    files: ['test/examples/sqlite-per-tenant.test.ts'],
    untried: 'each entry exactly once in SQLite, on every member: examples/sqlite-per-tenant.ts',
    howToHaveIt: 'npm ci --prefix test/examples/sqlite',
  },
  containers: {
    name: 'what containers are made of (namespaces, overlays, tini)',
    isHere: () => mayMakeNamespaces() && says('tini', '--version') && says('nsenter', '--version'),
    files: ['test/deploy/containers.test.ts'],
    untried: 'the image as a container of it would run: test/deploy/containers.test.ts',
    howToHaveIt: 'apt-get install tini iproute2 procps, and run as root',
  },
  systemd: {
    name: 'systemd-analyze, systemd-notify',
    isHere: () => says('systemd-analyze', '--version') && says('systemd-notify', '--version'),
    files: ['test/deploy/systemd.test.ts'],
    untried: 'the unit files, what systemd is told: test/deploy/systemd.test.ts',
    howToHaveIt: 'apt-get install systemd',
  },
  root: {
    name: 'root',
    isHere: () => process.getuid?.() === 0,
    files: ['test/main/**/owner.test.ts'],
    untried: 'a directory that is another user’s: owner.test.ts',
    howToHaveIt: 'run as root',
  },
} as const satisfies Record<string, Need>;

/** Throws, with how to have it, where the machine lacks it. */
export function requireHere(need: Need): void {
  if (!need.isHere()) throw new Error(`MISSING: ${need.name}; to have it: ${need.howToHaveIt}`);
}

/** The one list of what is left out, as lines; empty where nothing is. */
export function leftOut(missing: readonly Need[]): string[] {
  if (missing.length === 0) return [];
  const rows = missing.flatMap(({ name, untried, howToHaveIt }) => [
    `  ${name}: ${untried}`,
    `      to have it: ${howToHaveIt}`,
  ]);
  return ['LEFT OUT for want of these (with CI=true, failed for want of them):', ...rows];
}
