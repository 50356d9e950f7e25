import fs from 'node:fs';
import path from 'node:path';
import { describe, expect, test } from 'vitest';
import { leftOut, NEEDS } from './support/needs.js';

const ROOT = path.join(import.meta.dirname, '..');

function filesBelow(dir: string, ending = '.ts'): string[] {
  return fs
    .readdirSync(path.join(ROOT, dir), { recursive: true, withFileTypes: true })
    .filter((f) => f.isFile() && f.name.endsWith(ending) && !f.parentPath.includes('node_modules'))
    .map((f) => path.relative(ROOT, path.join(f.parentPath, f.name)));
}

/** What src/shared may load from outside: it computes, and does nothing. */
const PURE = ['crypto', 'events', 'module', 'util', 'zlib'].map((name) => `node:${name}`);
const PURE_PACKAGES = ['lz4-napi'];
const IMPURE_USE =
  /\b(Date\b(?!\w)|(performance|process)\.|Math\.random|random(Bytes|UUID|Int|Fill\w*)\b|getRandomValues|set(Timeout|Interval|Immediate)\b|queueMicrotask)/;
/** What reaches a terminal or a host's stderr goes through these, which show what is hidden. */
const SPEAKS = /\b(console\.|process\.std(out|err)\.write\b|process\.emitWarning\b)/;
const SPEAKERS = ['cli/output.ts', 'tell/line-output.ts', 'runtime/warn.ts'];
/** What a machine lacks is said in support/needs.ts, and listed; nothing else leaves tests out. */
const LEAVES_OUT = /\b(test|it|describe|context|ctx)\.(skip|skipIf|runIf|only|todo|fails)\b/;

/** What each room may import, in the order of the tables of docs/ARCHITECTURE.md. */
function roomsOf(doc: string): ReadonlyMap<string, readonly string[]> {
  const rooms = new Map<string, readonly string[]>();
  for (const [, tree, rows] of doc.matchAll(/^\| src\/(\w+)[^\n]*\n\|[-|]+\n((?:\|.*\n)+)/gm)) {
    const above: string[] = [];
    for (const row of rows!.trim().split('\n')) {
      const [name, , may] = row.split('|').slice(1, -1) as [string, string, string];
      const room = pathOf(tree!, name.trim());
      const named = may.split(',').map((one) => one.trim());
      const isAll = named[0] === 'all above';
      const listed = named.filter((one) => one !== '').map((one) => pathOf(tree!, one));
      rooms.set(room, isAll ? [...above] : listed);
      above.push(room);
    }
  }
  return rooms;
}

const pathOf = (tree: string, room: string): string =>
  room === 'root' ? tree : `${tree}/${room.replaceAll('`', '')}`;

const ROOMS = roomsOf(fs.readFileSync(path.join(ROOT, 'docs/ARCHITECTURE.md'), 'utf8'));

/** `main/lead/etcd/x.ts` is in the room `main/lead`, `shared/x.ts` in `shared`. */
const roomOf = (file: string): string => file.split('/').slice(0, -1).slice(0, 2).join('/');

/** Rows that let a room import one that does not stand above it: the way round would be open. */
function turnedRows(rooms: ReadonlyMap<string, readonly string[]>): string[] {
  const above = new Set<string>();
  const found: string[] = [];
  for (const [room, may] of rooms) {
    for (const one of may) if (!above.has(one)) found.push(`${room} may import ${one}`);
    above.add(room);
  }
  return found;
}

/** The public names and the command line: no room, and open to every room of main. */
const DOORS = ['main/index.ts', 'main/cli.ts'];
/** Names the files of threads, by their place: no import leads from main to workers. */
const STARTS_THREADS = 'main/runtime/threads.ts';

/** As the language loads something, types as well; and every other text that names a script. */
const LOADED = /\b(?:from|import|(?:import|require)\s*\()\s*(['"`])([^'"`\n]+)\1/g;
const NAMED = /(['"`])((?:\.{1,2}\/|#src\/)[^'"`\n]+\.[cm]?[jt]sx?)\1/g;

/** What a file of src loads: files of src by their path without ending, all else by its name. */
function loadedBy(file: string, text: string): string[] {
  const names = [LOADED, NAMED].flatMap((how) =>
    [...text.matchAll(how)].map(([, , name]) => name!),
  );
  const paths = names.map((name) => {
    if (name === 'engram-wal') return 'main/index';
    const path_ = name.replace(/\.[cm]?[jt]sx?$/, '');
    if (path_.startsWith('#src/')) return path.posix.normalize(path_.slice('#src/'.length));
    return name.startsWith('.') ? path.posix.join(path.posix.dirname(file), path_) : name;
  });
  return [...new Set(paths)];
}

const isOutside = (name: string): boolean => !/^(main|shared|workers)\//.test(name);

function breachesOf(file: string, text: string): string[] {
  const within = file.slice('src/'.length);
  const room = DOORS.includes(within) ? 'a door' : roomOf(within);
  const inMain = [...ROOMS.keys()].filter((one) => one.startsWith('main/'));
  const may = DOORS.includes(within) ? inMain : ROOMS.get(room);
  if (!may) return [`${file} is in no room of docs/ARCHITECTURE.md`];
  const isPure = room.startsWith('shared');
  return loadedBy(within, text)
    .filter((to) => {
      if (isOutside(to)) return isPure ? ![...PURE, ...PURE_PACKAGES].includes(to) : /^\./.test(to);
      const other = roomOf(`${to}.ts`);
      if (within === STARTS_THREADS && other === 'workers') return false;
      const isOpen = !isPure && /^shared\b/.test(other) && ROOMS.has(other);
      return other !== room && !may.includes(other) && !isOpen;
    })
    .map((to) => `${file} imports ${to}, which ${room} may not`);
}

/** Files that import each other, by whatever way round; types count. */
function circlesOf(texts: ReadonlyMap<string, string>): string[] {
  const imports = (file: string): string[] =>
    loadedBy(file, texts.get(file)!)
      .map((to) => `${to}.ts`)
      .filter((to) => texts.has(to));
  const done = new Set<string>();
  const found: string[] = [];
  const walk = (file: string, way: readonly string[]): void => {
    if (way.includes(file)) found.push([...way.slice(way.indexOf(file)), file].join(' -> '));
    if (way.includes(file) || done.has(file)) return;
    for (const next of imports(file)) walk(next, [...way, file]);
    done.add(file);
  };
  for (const file of texts.keys()) walk(file, []);
  return found;
}

/** What is wrong with one source file; empty when it is tidy. */
function problems(file: string, text: string): string[] {
  const found: string[] = [];
  const lines = text.split('\n');
  const code = lines.map((line) => line.replace(/(^|\s)(\/\/|\*|\/\*).*$/, ''));
  const say = (line: number, what: string) => found.push(`${file}:${line + 1} ${what}`);
  if (file.startsWith('src/')) found.push(...breachesOf(file, code.join('\n')));
  if (!/^[a-z0-9-]+(\.[a-z]+)*\.ts$/.test(path.basename(file))) say(0, 'is not kebab-case');
  for (const [i, line] of lines.entries()) if (line.length > 100) say(i, 'is longer than 100');
  if (file.startsWith('src/') && lines.length > 501) say(500, 'is beyond 500 lines');
  for (const [i, line] of code.entries()) {
    if (file.startsWith('src/shared/')) {
      if (IMPURE_USE.test(line)) say(i, 'reads a clock, chance or the process');
    }
    const mayNotSpeak = file.startsWith('src/') && !SPEAKERS.some((one) => file.endsWith(one));
    if (mayNotSpeak && SPEAKS.test(line))
      say(i, 'speaks by itself: cli/output.ts, runtime/warn.ts');
    if (file.startsWith('test/') && LEAVES_OUT.test(line)) say(i, 'leaves a test out');
  }
  return found;
}

describe('tidy', () => {
  test('the sources keep the rules of the house', () => {
    const scripts = filesBelow('src', '').filter((file) => /\.[cm]?[jt]sx?$/.test(file));
    const files = [...scripts, ...['test', 'bench', 'examples'].flatMap((dir) => filesBelow(dir))];
    expect(files.length).toBeGreaterThan(40);
    const found = files
      .filter((file) => file !== path.relative(ROOT, import.meta.filename))
      .flatMap((file) => problems(file, fs.readFileSync(path.join(ROOT, file), 'utf8')));
    expect(found).toEqual([]);
  });

  test('no two files import each other, at any length of the way round', () => {
    const files = filesBelow('src');
    const textOf = (file: string): string => fs.readFileSync(path.join(ROOT, file), 'utf8');
    const texts = files.map((file) => [file.slice('src/'.length), textOf(file)] as const);
    expect(circlesOf(new Map(texts))).toEqual([]);
    expect(turnedRows(ROOMS)).toEqual([]);
    const far = {
      'a.ts': "from './b/c.js'",
      'b/c.ts': "import('../d.js')",
      'd.ts': "from './a.js'",
    };
    expect(circlesOf(new Map(Object.entries(far)))).toEqual(['a.ts -> b/c.ts -> d.ts -> a.ts']);
    const type = {
      'a.ts': "import type { B } from './b.js'",
      'b.ts': "export { A } from './a.js'",
    };
    expect(circlesOf(new Map(Object.entries(type)))).toHaveLength(1);
    const named = { 'main/a.ts': "from '#src/main/b.js'", 'main/b.ts': 'from "./a.js"' };
    expect(circlesOf(new Map(Object.entries(named)))).toHaveLength(1);
    const turned = roomsOf('| src/main | for | may |\n|---|---|---|\n| `a` | | b |\n| `b` | | |\n');
    expect(turnedRows(turned)).toEqual(['main/a may import main/b']);
  });

  test('rooms are few and small: a folder of src has at most 15 files, src/main 16 rooms', () => {
    const counts = new Map<string, number>();
    for (const file of filesBelow('src', '')) {
      counts.set(path.dirname(file), (counts.get(path.dirname(file)) ?? 0) + 1);
    }
    expect([...counts].filter(([, n]) => n > 15)).toEqual([]);
    const main = fs.readdirSync(path.join(ROOT, 'src/main'), { withFileTypes: true });
    expect(main.filter((one) => one.isDirectory()).length).toBeLessThanOrEqual(16);
    const doors = main.filter((one) => one.isFile()).map((one) => `main/${one.name}`);
    expect(doors.sort()).toEqual(DOORS.toSorted());
    // A row of the tables that has no folder is as wrong as a folder that has no row.
    const rooms = [...counts.keys()].map((dir) => roomOf(`${dir.slice('src/'.length)}/x`));
    expect([...ROOMS.keys()].filter((room) => !rooms.includes(room))).toEqual([]);
  });

  test('each fault in force has a test that is named after it', () => {
    const list = fs.readFileSync(path.join(ROOT, 'test/faults.txt'), 'utf8');
    const rows = list.replace(/^#.*$/gm, '').match(/\d+/g) ?? [];
    expect(rows.length).toBeGreaterThan(30);
    const sources = filesBelow('test').map((file) =>
      fs.readFileSync(path.join(ROOT, file), 'utf8'),
    );
    const without = rows.filter(
      (row) => !sources.some((text) => new RegExp(`['"\`]FAULT-${row}\\b`).test(text)),
    );
    expect(without).toEqual([]);
  });

  test('what may be left out for want of something is there, and is named with it', () => {
    const files = filesBelow('test');
    for (const need of Object.values(NEEDS)) {
      for (const glob of need.files) {
        const pattern = glob.replace('**/', '(.+/)?').replace('*', '[^/]+');
        const found = files.filter((file) => new RegExp(`^${pattern}$`).test(file));
        expect(found, `${need.name}: ${glob}`).not.toEqual([]);
      }
      const told = leftOut([need]).join(' ');
      for (const text of [need.name, need.untried, need.howToHaveIt]) expect(told).toContain(text);
    }
    expect(leftOut([])).toEqual([]);
  });

  test.each([
    ['src/shared/a.ts', "import fs from 'node:fs';"],
    ['src/shared/a.ts', "import { readFile } from 'fs/promises';"],
    ['src/shared/a.ts', "const net = await import('node:net');"],
    ['src/shared/a.ts', "import { Worker } from 'worker_threads';"],
    ['src/shared/a.ts', 'const now = Date.now();'],
    ['src/shared/a.ts', 'const now = performance.now();'],
    ['src/shared/a.ts', 'const x = Math.random();'],
    ['src/shared/a.ts', 'setTimeout(f, 1);'],
    ['src/shared/a.ts', "import { x } from '../main/node/space.js';"],
    ['src/shared/log/a.ts', "import { x } from '../wire/frame.js';"],
    ['src/main/log/a.ts', "import { x } from '../../workers/sealer.js';"],
    ['src/main/log/a.ts', "import type { Space } from '../node/space.js';"],
    ['src/main/log/write/a.ts', "import { x } from '../../read/reader.js';"],
    ['src/main/lead/etcd/a.ts', "const x = await import('../../watch/health.js');"],
    ['src/main/lead/a.ts', "export { x } from '../options/config.js';"],
    ['src/main/log/a.ts', "import { x } from '../index.js';"],
    ['src/main/log/a.ts', "import type { Space } from 'engram-wal';"],
    ['src/main/log/a.ts', "import type { Space } from '#src/main/node/space.js';"],
    ['src/main/log/a.ts', 'import type { Space } from "../node/space.js";'],
    ['src/main/log/a.ts', "import {\n  type Space\n} from\n  '../node/space.js';"],
    ['src/main/log/a.ts', "export type Space = import('../node/space.js').Space;"],
    ['src/main/log/a.ts', 'const x = await import(`../node/space.js`);'],
    ['src/main/log/a.ts', "import x = require('../node/space.js');"],
    ['src/main/log/a.ts', "createRequire(import.meta.url)('../node/space.js');"],
    ['src/main/log/a.ts', "new Worker(new URL('../../workers/sealer.js', import.meta.url));"],
    ['src/main/log/a.ts', "import { x } from '../../../test/support/cluster.js';"],
    ['src/main/log/a.mts', ''],
    ['src/main/index.ts', "export { x } from '../workers/sealer.js';"],
    ['src/shared/a.ts', "import type { Space } from '#src/main/node/space.js';"],
    ['src/shared/a.ts', 'import fs from "node:fs";'],
    ['src/shared/a.ts', "import {\n  hostname,\n} from 'node:os';"],
    ['src/shared/a.ts', "import { performance } from 'node:perf_hooks';"],
    ['src/shared/a.ts', "import { Piscina } from 'piscina';"],
    ['src/shared/a.ts', 'const id = randomUUID();'],
    ['src/workers/a.ts', "import { x } from '../main/node/space.js';"],
    ['src/main/log/a.ts', "console.log('x');"],
    ['src/main/cli/a.ts', 'process.stdout.write(name);'],
    ['src/workers/a.ts', 'process.emitWarning(name);'],
    ['src/main/new/a.ts', ''],
    ['src/main/a.ts', ''],
    ['src/main/log/aB.ts', ''],
    ['src/main/log/a.ts', `const s = '${'x'.repeat(100)}';`],
    ['src/main/log/a.ts', '\n'.repeat(600)],
    ['test/a.test.ts', `test${'.skip'}('x', () => undefined);`],
    ['test/a.test.ts', `test${'.skipIf'}(!has)('x', () => undefined);`],
    ['test/a.test.ts', `context${'.skip'}('there is none');`],
  ])('a breach in %s is seen: %s', (file, text) => {
    expect(problems(file, text)).not.toEqual([]);
  });
});
