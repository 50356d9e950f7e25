/** The package as `npm pack` makes it, installed into a project of somebody else. */
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';

export const ROOT = path.join(import.meta.dirname, '../..');
const INSTALL_MS = 240_000;

export function npm(cwd: string, ...args: string[]): string {
  return execFileSync('npm', args, {
    cwd,
    encoding: 'utf8',
    timeout: INSTALL_MS,
    stdio: ['ignore', 'pipe', 'pipe'],
  });
}

export interface Packed {
  readonly tarball: string;
  /** Of each file, as seen from the root of the package. */
  readonly files: readonly string[];
}

/** `dist` goes in as it was built last. */
export function pack(into: string): Packed {
  const listed = npm(ROOT, 'pack', '--ignore-scripts', '--json', '--pack-destination', into);
  // npm 11 and 12 say the same in two shapes.
  const all: unknown = JSON.parse(listed);
  const first = (Array.isArray(all) ? all : Object.values(all as object))[0] as {
    filename: string;
    files: { path: string }[];
  };
  return {
    tarball: path.join(into, path.basename(first.filename)),
    files: first.files.map((file) => file.path),
  };
}

/** As its documentation says it for a host that only appends and replicates. */
export function installSmall(project: string, tarball: string): void {
  fs.writeFileSync(path.join(project, 'package.json'), '{ "type": "module", "private": true }\n');
  const quiet = ['--no-audit', '--no-fund', '--prefer-offline', '--ignore-scripts'];
  npm(project, 'install', tarball, '--omit=optional', '--omit=dev', ...quiet);
}

export interface Weight {
  /** engram-wal among them. */
  readonly packages: number;
  readonly megabytes: number;
}

/** What lies in node_modules, in blocks as a disk counts them. */
export function weightOf(project: string): Weight {
  const modules = path.join(project, 'node_modules');
  const files = fs.readdirSync(modules, { recursive: true, encoding: 'utf8' });
  const isPackage = (file: string): boolean =>
    /^(.*\/node_modules\/)?(@[^/]+\/)?[^/@.][^/]*\/package\.json$/.test(file);
  const blocks = files.reduce((sum, f) => sum + fs.lstatSync(path.join(modules, f)).blocks, 0);
  return { packages: files.filter(isPackage).length, megabytes: (blocks * 512) / 1e6 };
}
