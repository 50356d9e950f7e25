/**
 * `npm run licenses`: what comes along with the package, held against the list that is kept
 * (docs/DEPENDENCIES.md): names, versions and licences, by package-lock.json, without a network.
 * `-- --write` writes them anew, with sizes as they are installed here; the reason and the date of
 * the last release are a person's: `npm view NAME time.modified`.
 */
import fs from 'node:fs';
import path from 'node:path';
import { documentOf, ROOT } from './blocks.js';
import { between } from './lines.js';

const LIST = 'docs/DEPENDENCIES.md';
/** Whoever uses the package may do so in anything, and needs to publish nothing of his own. */
const LICENCES = ['MIT', 'Apache-2.0', 'ISC', '0BSD', 'BSD-3-Clause'];
/** The binary of one platform; they come and go together. */
const PLATFORM = /-(android|darwin|freebsd|linux|openharmony|win32)-.*$/;

interface Locked {
  readonly version: string;
  readonly license?: string;
  readonly dev?: boolean;
  readonly dependencies?: Readonly<Record<string, string>>;
  readonly optionalDependencies?: Readonly<Record<string, string>>;
}

export interface Lock {
  readonly packages: Readonly<Record<string, Locked>>;
}

export interface Package {
  readonly name: string;
  readonly version: string;
  readonly licence: string;
  /** Asked for by us, not by another. */
  readonly isDirect: boolean;
  /** Who asks for it. */
  readonly of: readonly string[];
}

const nameOf = (place: string): string => place.slice(place.lastIndexOf('node_modules/') + 13);
const folded = (name: string): string => name.replace(PLATFORM, '-*');

function asked({ dependencies, optionalDependencies }: Locked): string[] {
  return Object.keys({ ...dependencies, ...optionalDependencies });
}

/** What is installed where the package is, by name and version. */
export function packagesOf({ packages }: Lock): Package[] {
  const ours = asked(packages['']!);
  const found = new Map<string, Package>();
  const all = Object.entries(packages).filter(([place, { dev }]) => place !== '' && !dev);
  for (const [place, { version, license = 'none' }] of all) {
    const name = nameOf(place);
    const askers = all.filter(([, other]) => asked(other).includes(name));
    const of = [...new Set(askers.map(([where]) => folded(nameOf(where))))].sort();
    const isDirect = ours.includes(name) && place === `node_modules/${name}`;
    const one = { name: folded(name), version, licence: license, isDirect, of };
    found.set(`${one.name} ${version}`, one);
  }
  return [...found.values()].sort((a, b) => (a.name < b.name ? -1 : 1));
}

type Row = readonly string[];

/** Rows of the tables, without their heads. */
export function rowsOf(markdown: string): Row[] {
  const lines = markdown.split('\n').filter((line) => line.startsWith('| `'));
  return lines.map((line) =>
    line
      .split('|')
      .slice(1, -1)
      .map((cell) => cell.trim()),
  );
}

const bare = (cell: string): string => cell.replaceAll('`', '');

/** What the kept list says otherwise than the lock, and licences that ask for more; a line each. */
export function differences(markdown: string, lock: Lock): string[] {
  const said = new Set(rowsOf(markdown).map((row) => row.slice(0, 3).map(bare).join(' ')));
  const packages = packagesOf(lock);
  const lines = packages.map(({ name, version, licence }) => `${name} ${version} ${licence}`);
  return [
    ...lines.filter((line) => !said.has(line)).map((line) => `not in ${LIST}: ${line}`),
    ...[...said].filter((line) => !lines.includes(line)).map((line) => `not installed: ${line}`),
    ...packages
      .filter(({ licence }) => !LICENCES.includes(licence))
      .map(({ name, licence }) => `${name} has a licence that nobody has looked at: ${licence}`),
    ...rowsOf(markdown)
      .filter((row) => row.length === 6 && (!/^\d{4}-\d\d-\d\d$/.test(row[4]!) || row[5] === ''))
      .map((row) => `without the date of its last release, or a reason: ${row[0]}`),
  ];
}

function kilobytes(name: string): string {
  const folder = path.join(ROOT, 'node_modules', name);
  if (!fs.existsSync(folder)) return '';
  const files = fs.readdirSync(folder, { recursive: true, encoding: 'utf8' });
  const bytes = files.reduce((sum, f) => {
    const stats = fs.statSync(path.join(folder, f));
    return f.includes('node_modules') || !stats.isFile() ? sum : sum + stats.size;
  }, 0);
  return Math.ceil(bytes / 1_000).toLocaleString('en');
}

/** The first of them: a line stays short. */
function askedBy(names: readonly string[]): string {
  const more = names.length - 2;
  return names.slice(0, 2).join(', ') + (more > 0 ? `, ${more} more` : '');
}

function written(markdown: string, lock: Lock): string {
  const kept = new Map(rowsOf(markdown).map((row) => [bare(row[0]!), row]));
  const line = (cells: Row): string => `| ${cells.join(' | ')} |`;
  const packages = packagesOf(lock);
  const direct = packages
    .filter(({ isDirect }) => isDirect)
    .map(({ name, version, licence }) => {
      const [, , , , released = '', reason = ''] = kept.get(name) ?? [];
      return line([`\`${name}\``, version, licence, kilobytes(name), released, reason]);
    });
  const others = packages
    .filter(({ isDirect }) => !isDirect)
    .map(({ name, version, licence, of }) =>
      line([`\`${name}\``, version, licence, kilobytes(name), askedBy(of)]),
    );
  return between(between(markdown, 'direct', direct.join('\n')), 'others', others.join('\n'));
}

export function lockOf(): Lock {
  return JSON.parse(documentOf('package-lock.json')) as Lock;
}

if (process.argv[1] === import.meta.filename) {
  const file = path.join(ROOT, LIST);
  if (process.argv.includes('--write')) {
    fs.writeFileSync(file, written(documentOf(LIST), lockOf()));
  }
  const found = differences(documentOf(LIST), lockOf());
  for (const line of found) console.error(line);
  console.log(`${packagesOf(lockOf()).length} packages, ${found.length} differences`);
  process.exitCode = found.length === 0 ? 0 : 1;
}
