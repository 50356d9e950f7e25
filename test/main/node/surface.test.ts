/**
 * What hosts can name and reach: the built declarations are walked from index.d.ts on, and a node
 * is looked at as it is handed out.
 */
import fs from 'node:fs';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { makeFolder, openSmall, removeFolder } from '../../support/cluster.js';

const INDEX = path.join(import.meta.dirname, '../../../dist/main/index.d.ts');

/** All that a host may call. Whoever adds to it means it, and says so in docs/CHANGELOG.md. */
const NODE = (
  'address append backup close drain events httpAddress isClosing locate metrics nodeId off ' +
  'on once openSpace promote rebalance recentEvents reloadCredentials removeReplica space ' +
  'spaces status summary switchover'
).split(' ');
NODE.unshift('addReplica');
const SPACE = (
  'append appendBatch catchUp checkpoint flushed name producer read seek skip status subscribe ' +
  'tryAppend waitFor'
).split(' ');

interface Declarations {
  /** Where each imported name is declared: `file name`. */
  readonly imported: ReadonlyMap<string, string>;
  /** The text of each declaration, without comments and strings. */
  readonly declared: ReadonlyMap<string, string>;
}

const files = new Map<string, Declarations>();

function declarationsOf(file: string): Declarations {
  const known = files.get(file);
  if (known) return known;
  const told = fs.readFileSync(file, 'utf8').replace(/\/\*[\s\S]*?\*\//g, '');
  // Of the keys of a value, its own type is no matter.
  const text = told.replace(/keyof typeof \w+/g, 'string');
  const imported = new Map<string, string>();
  const declared = new Map<string, string>();
  const named = /^(?:import|export)(?: type)? \{([^}]*)\} from ['"](\.[^'"]*)\.js['"]/gm;
  for (const [, names, from] of text.matchAll(named)) {
    for (const name of names!.split(',').filter((one) => one.trim() !== '')) {
      const [what, as = what] = name
        .trim()
        .replace(/^type /, '')
        .split(' as ') as [string, string];
      imported.set(as, `${path.resolve(path.dirname(file), from!)}.d.ts ${what}`);
    }
  }
  const starts =
    /^(?:export |declare |abstract )*(?:interface|type|class|function|const|let) (\w+)/;
  for (const part of text.replace(/(['"]).*?\1/g, '').split(/^(?=\S)(?![})])/m)) {
    const name = starts.exec(part)?.[1];
    if (name) declared.set(name, `${declared.get(name) ?? ''}${part}`);
  }
  files.set(file, { imported, declared });
  return files.get(file)!;
}

/** Every declaration that index.d.ts leads to, as `file name`, and by what way. */
function reachable(): Map<string, string> {
  const ways = new Map<string, string>();
  const ahead = [...declarationsOf(INDEX).imported].map(([name, place]) => [place, name] as const);
  for (let next = ahead.shift(); next; next = ahead.shift()) {
    const [place, way] = next;
    if (ways.has(place)) continue;
    const [file, name] = place.split(' ') as [string, string];
    const { imported, declared } = declarationsOf(file);
    const elsewhere = imported.get(name);
    const body = declared.get(name);
    expect(elsewhere ?? body, `${way}: ${place} is declared`).toBeDefined();
    if (body) ways.set(place, way);
    if (elsewhere) ahead.push([elsewhere, way]);
    for (const [word] of (body ?? '').matchAll(/\b\w+\b/g)) {
      if (word === name || new RegExp(`^\\s+(readonly )?${word}\\??:`, 'm').test(body!)) continue;
      const found = imported.get(word) ?? (declared.has(word) ? `${file} ${word}` : undefined);
      if (found) ahead.push([found, `${way} > ${word}`]);
    }
  }
  return ways;
}

/** The members of a class that are in its declaration, but for `#private`. */
function membersOf(place: string): string[] {
  const [file, name] = place.split(' ') as [string, string];
  const body = declarationsOf(file).declared.get(name)!;
  expect(body).not.toMatch(/^.* extends .*\{|^ {4}protected /);
  const lines = body.split('\n').slice(1);
  const names = lines.map((l) => /^ {4}(?:get |readonly |static )*(\w+)/.exec(l)?.[1]);
  return [...new Set(names.filter((n) => n !== undefined))].sort();
}

/** What code can reach on an object, whatever the types say. */
function reached(object: object): string[] {
  const names = new Set<string>();
  for (let at = object; at !== Object.prototype; at = Object.getPrototypeOf(at) as object) {
    for (const key of Reflect.ownKeys(at)) names.add(String(key));
  }
  names.delete('constructor');
  return [...names].sort();
}

describe('the built declarations', () => {
  test('every type that a host can reach has an exported name', () => {
    const exported = new Set(declarationsOf(INDEX).imported.values());
    const ways = reachable();
    expect(ways.size).toBeGreaterThan(60);
    const isType = (place: string): boolean => {
      const [file, name] = place.split(' ') as [string, string];
      const body = declarationsOf(file).declared.get(name)!;
      return /^(export |declare |abstract )*(interface|type|class) /.test(body);
    };
    const nameless = [...ways].filter(([place]) => isType(place) && !exported.has(place));
    expect(nameless.map(([, way]) => way).sort()).toEqual([]);
  });

  test('a node and a space have these members, and no others', () => {
    const { imported } = declarationsOf(INDEX);
    // A constructor that is private says nothing of what it takes.
    expect(membersOf(imported.get('Node')!)).toEqual([...NODE, 'private'].sort());
    expect(membersOf(imported.get('Space')!)).toEqual([...SPACE, 'private'].sort());
  });
});

describe('a node as it is handed out', () => {
  let folder: string;

  beforeEach(() => {
    folder = makeFolder();
  });

  afterEach(() => {
    removeFolder(folder);
  });

  test('nothing of what it is made with can be reached', async () => {
    const node = await openSmall(path.join(folder, 'a'), 'a');
    try {
      const space = await node.openSpace('s');
      expect(reached(node)).toEqual([String(Symbol.asyncDispose), ...NODE]);
      expect(reached(space)).toEqual(SPACE);
      expect(node.on('fatal', () => undefined)).toBe(node);
      expect(node.spaces).toEqual([space]);
    } finally {
      await node.close();
    }
  });
});
