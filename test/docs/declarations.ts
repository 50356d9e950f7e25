/**
 * What a host can name, read from the built declarations: each with its members and what is said
 * of them. As the compiler writes them: a declaration begins at the left margin, and ends with a
 * `}` there, or on its own line.
 */
import fs from 'node:fs';
import path from 'node:path';

export interface Member {
  /** In which the names of its type mean something. */
  readonly file: string;
  readonly name: string;
  readonly isOptional: boolean;
  /** Its type, or the whole signature of a method; on one line. */
  readonly type: string;
  readonly doc: string;
}

export interface Declaration {
  readonly file: string;
  readonly name: string;
  readonly kind: 'interface' | 'type' | 'class' | 'function' | 'const';
  readonly doc: string;
  /** Without what is said before it. */
  readonly text: string;
}

interface Module {
  /** Local name to `file name`. */
  readonly imported: ReadonlyMap<string, string>;
  readonly declared: ReadonlyMap<string, Declaration>;
}

const START =
  /^(?:export |declare |abstract )*(interface|type|class|function|const) (?=(\w+))[\s\S]*$/;

/** The text of a comment, without its stars; what is for ourselves alone is left out. */
function spoken(comment: string): string {
  return comment
    .replace(/^\/\*\*|\*\/$/g, '')
    .replace(/^\s*\* ?/gm, '')
    .replace(/\s+/g, ' ')
    .replace(/ \((?:DESIGN|FAULTS|rows?)[ :][^)]*\)/g, '')
    .replace(/, DESIGN \d+/g, '')
    .trim();
}

export class Declarations {
  readonly #modules = new Map<string, Module>();
  readonly #index: string;

  /** @param index the file whose exports a host imports */
  constructor(index: string) {
    this.#index = index;
  }

  /** What is exported, by name. */
  exported(): Declaration[] {
    const names = [...this.#module(this.#index).imported.keys()].sort();
    return names.map((name) => this.find(this.#index, name)!);
  }

  /** A name as a file means it; undefined where it is nobody's but the language's. */
  find(file: string, name: string): Declaration | undefined {
    const { imported, declared } = this.#module(file);
    const own = declared.get(name);
    if (own) return own;
    const [from, there] = imported.get(name)?.split(' ') ?? [];
    return from === undefined ? undefined : this.find(from, there!);
  }

  /** Members of an interface or class, its own first. */
  membersOf({ file, text, kind }: Declaration): Member[] {
    if (kind === 'function' || kind === 'const') return [];
    if (kind === 'type') {
      return this.fieldsOf(file, text.replace(/^[^=]*=\s*/, '').replace(/;$/, ''));
    }
    const heads = splitAt(/extends ([^{]*)\{/.exec(text)?.[1] ?? '', ', ');
    const own = membersIn(file, text.slice(text.indexOf('{') + 1, text.lastIndexOf('}')));
    return [...own, ...heads.flatMap((head) => this.fieldsOf(file, head.trim()))];
  }

  /**
   * Fields of a type as it is written: of an object, of all parts of `A & B`, of all objects of
   * `A | B`. None where it is no object.
   */
  fieldsOf(file: string, type: string): Member[] {
    for (const sign of [' & ', ' | ']) {
      const parts = splitAt(type, sign);
      if (parts.length > 1) return parts.flatMap((part) => this.fieldsOf(file, part.trim()));
    }
    if (type.startsWith('{')) return membersIn(file, type.slice(1, type.lastIndexOf('}')));
    const [, whole, less] = /^(?:Readonly<)?Omit<(\w+), ('\w+'(?: \| '\w+')*)>+$/.exec(type) ?? [];
    if (whole) return this.fieldsOf(file, whole).filter((f) => !less!.includes(`'${f.name}'`));
    const [, name, key] = /^(\w+)(?:\['(\w+)'\])?$/.exec(type) ?? [];
    const found = name === undefined ? undefined : this.find(file, name);
    if (!found) return [];
    if (key === undefined) return this.membersOf(found);
    const member = this.membersOf(found).find((one) => one.name === key);
    return member ? this.fieldsOf(found.file, member.type) : [];
  }

  /** Fields of an object that is written where it is used, or of options; undefined: of no such. */
  objectsIn(file: string, type: string): Member[] | undefined {
    const one = type.replace(/^readonly /, '').replace(/( \| undefined|\[\])$/, '');
    const isOptions = /^\w+Options$/.test(one) && one !== 'NodeOptions';
    return isOptions || one.startsWith('{') ? this.fieldsOf(file, one) : undefined;
  }

  /** A type with names of fixed words spelled out. */
  spelled(file: string, type: string): string {
    return type.replace(/(?<![.'\w])[A-Z]\w+(?![\w'(])/g, (name) => this.words(file, name) ?? name);
  }

  /** `'a' | 'b'`, where the name stands for fixed words. */
  words(file: string, name: string): string | undefined {
    const found = this.find(file, name);
    if (found?.kind !== 'type') return undefined;
    const meant = found.text.replace(/^[^=]*= /, '').replace(/;$/, '');
    if (/^'[\w-]+'( \| '[\w-]+')*$/.test(meant)) return meant;
    const list = /^\(typeof (\w+)\)\[number\]$/.exec(meant)?.[1];
    const values = list && this.find(found.file, list)?.text;
    return values
      ? [...values.matchAll(/["']([^"']*)["']/g)].map(([, v]) => `'${v}'`).join(' | ')
      : undefined;
  }

  #module(file: string): Module {
    const known = this.#modules.get(file);
    if (known) return known;
    const text = fs.readFileSync(file, 'utf8');
    const imported = new Map<string, string>();
    const named = /^(?:import|export)(?: type)? \{([^}]*)\} from ['"](\.[^'"]*)\.js['"]/gm;
    for (const [, names, from] of text.matchAll(named)) {
      for (const name of names!.split(',').filter((one) => one.trim() !== '')) {
        const [what, as = what] = name
          .trim()
          .replace(/^type /, '')
          .split(' as ') as [string];
        imported.set(as, `${path.resolve(path.dirname(file), from!)}.d.ts ${what}`);
      }
    }
    const module = { imported, declared: declaredIn(file, text) };
    this.#modules.set(file, module);
    return module;
  }
}

function declaredIn(file: string, text: string): Map<string, Declaration> {
  const declared = new Map<string, Declaration>();
  let doc = '';
  // A type that begins with a comment goes on in the lines behind it.
  const whole = text.replace(/=\s*\n\/\*\*[\s\S]*?\*\/\n/g, '= ');
  for (const part of whole.split(/^(?=\S)(?![})]| \*)/m)) {
    if (part.startsWith('/**')) {
      doc = spoken(part.trim());
      continue;
    }
    const [, kind, name] = START.exec(part) ?? [];
    if (name) {
      const body = part.trim();
      declared.set(name, { file, name, kind: kind as Declaration['kind'], doc, text: body });
    }
    doc = '';
  }
  return declared;
}

/** Splits where `separator` stands outside of brackets. */
export function splitAt(text: string, separator: string): string[] {
  const parts = [''];
  let depth = 0;
  for (let i = 0; i < text.length; i++) {
    if ('{[(<'.includes(text[i]!)) depth++;
    else if ('}])'.includes(text[i]!) || (text[i] === '>' && text[i - 1] !== '=')) depth--;
    if (depth === 0 && text.startsWith(separator, i)) {
      parts.push('');
      i += separator.length - 1;
    } else parts[parts.length - 1] += text[i]!;
  }
  return parts;
}

function membersIn(file: string, body: string): Member[] {
  const docs: string[] = [];
  // Comments may hold any brackets: they stand aside while members are split.
  const bare = body.replace(/\/\*\*[\s\S]*?\*\//g, (doc) => ` /*${docs.push(doc) - 1}*/ `);
  return splitAt(bare, ';').flatMap((part) => {
    const at = /^\s*\/\*(\d+)\*\//.exec(part)?.[1];
    const inside = (text: string): string =>
      text.replace(/ ?\/\*(\d+)\*\/ ?/g, (_, n: string) => docs[Number(n)]!);
    const plain = part.replace(/^\s*\/\*\d+\*\//, '').trim();
    const found = /^(?:readonly |get )*(?:'([\w-]+)'|(\w+))(\?)?(?=[:(<])/.exec(plain);
    if (!found) return [];
    const [head, quoted, word, mark] = found;
    const name = quoted ?? word!;
    if (name === 'private' || name === 'constructor') return [];
    const rest = inside(plain.slice(head.length));
    const isField = rest.startsWith(':') || plain.startsWith('get ');
    const type = isField ? rest.replace(/^(\(\))?: /, '') : `${name}${rest}`;
    const doc = at === undefined ? '' : spoken(docs[Number(at)]!);
    return [{ file, name, isOptional: mark === '?', type: oneLine(type), doc }];
  });
}

/** The members of an inline object keep what is said of them; all else is on one line. */
function oneLine(type: string): string {
  return type.startsWith('{') ? type : type.replace(/\/\*\*[\s\S]*?\*\//g, '').replace(/\s+/g, ' ');
}
