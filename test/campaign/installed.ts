/**
 * `npm run installed`: the packed package in an empty folder, as a host that only appends and
 * replicates installs it, under each Node.js that it promises: what it weighs, what an import and
 * a pair of open nodes cost. Kept in bench/results/installed.json.
 */
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { installSmall, npm, pack, ROOT, weightOf } from '../support/installed.js';

/** Even ones: those that are kept for years. */
const VERSIONS = [20, 22, 24, 26];
const RUNS = 5;

interface Ran {
  readonly version: string;
  readonly entries: number;
  readonly importMs: number;
  readonly importedBytes: number;
  readonly openBytes: number;
}

const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'engram-wal-installed-'));

function host(node: string, project: string, run: string, compression: string): Ran {
  const args = [path.join(project, 'host.mjs'), path.join(dir, run)];
  const env = { ...process.env, COMPRESSION: compression };
  return JSON.parse(
    execFileSync(node, args, {
      cwd: project,
      encoding: 'utf8',
      timeout: 60_000,
      env,
      stdio: 'pipe',
    }),
  ) as Ran;
}

function median(values: readonly number[]): number {
  return [...values].sort((a, b) => a - b)[values.length >> 1]!;
}

function tried(version: number, project: string): Record<string, unknown> {
  const at = path.join(dir, `node-${version}`);
  fs.mkdirSync(at);
  fs.writeFileSync(path.join(at, 'package.json'), '{ "private": true }\n');
  // What npm's package `node` would fetch in a script of its own.
  const binary = `node-${process.platform}-${process.arch}`;
  npm(at, 'install', `${binary}@${version}`, '--no-audit', '--no-fund');
  const node = path.join(at, 'node_modules', binary, 'bin/node');
  console.error(`under Node.js ${version}`);
  const runs = Array.from({ length: RUNS }, (_, i) =>
    host(node, project, `${version}-${i}`, 'none'),
  );
  if (runs.some(({ entries }) => entries !== 100)) throw new Error(`entries are lost: ${version}`);
  const of = (name: 'importMs' | 'importedBytes' | 'openBytes'): number =>
    median(runs.map((run) => run[name]));
  return {
    node: runs[0]!.version,
    importMs: Number(of('importMs').toFixed(1)),
    importMegabytes: Number((of('importedBytes') / 1e6).toFixed(1)),
    openMegabytes: Number((of('openBytes') / 1e6).toFixed(1)),
    zstd: withZstd(node, project, version),
  };
}

/** Whether it ships with zstd, and whose: from 22.15 on Node has it. */
function withZstd(node: string, project: string, version: number): 'own' | 'by the package' {
  try {
    host(node, project, `${version}-own`, 'zstd');
    return 'own';
  } catch {
    const withIt = path.join(dir, 'with-zstd');
    if (!fs.existsSync(withIt)) {
      fs.cpSync(project, withIt, { recursive: true, verbatimSymlinks: true });
      npm(withIt, 'install', '@foxglove/wasm-zstd', '--omit=optional', '--no-audit', '--no-fund');
    }
    host(node, withIt, `${version}-package`, 'zstd');
    return 'by the package';
  }
}

try {
  const project = path.join(dir, 'project');
  fs.mkdirSync(project);
  installSmall(project, pack(dir).tarball);
  fs.cpSync(path.join(ROOT, 'test/support/small-host.mjs'), path.join(project, 'host.mjs'));
  const glibc = (process.report.getReport() as unknown as { header: Record<string, string> }).header
    .glibcVersionRuntime;
  const result = {
    date: new Date().toISOString().slice(0, 10),
    system: { platform: process.platform, arch: process.arch, glibc: glibc ?? null },
    loadBefore: os.loadavg()[0],
    ...weightOf(project),
    versions: VERSIONS.map((version) => tried(version, project)),
  };
  const kept = path.join(ROOT, 'bench/results/installed.json');
  fs.writeFileSync(kept, `${JSON.stringify(result, null, 2)}\n`);
  console.log(JSON.stringify(result, null, 2));
} finally {
  fs.rmSync(dir, { recursive: true, force: true });
}
