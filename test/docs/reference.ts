/** The lists of docs/REFERENCE.md, made from the code: nothing in them can drift. */
import { execFileSync } from 'node:child_process';
import path from 'node:path';
import { OPTION_NAMES, readOptions } from '#src/main/options/config.js';
import { DEFAULT_HTTP_HOST, DEFAULT_HTTP_PORT } from '#src/main/options/http.js';
import { type EngramError, ERROR_CODES, failure } from '#src/shared/errors.js';
import { ROOT } from './blocks.js';
import { type Declaration, Declarations, type Member, splitAt } from './declarations.js';
import { item, paragraph } from './lines.js';

const said = new Declarations(path.join(ROOT, 'dist/main/index.d.ts'));
const NEEDED = { dataDir: './data/a', nodeId: 'node-a', clusterId: 'demo' };

/** The lists of the reference, by the mark that each stands behind. */
export const REFERENCE: Readonly<Record<string, () => string>> = {
  calls,
  options,
  events,
  errors,
  commands,
  types,
};

function exported(name: string): Declaration {
  const found = said.exported().find((one) => one.name === name);
  if (!found) throw new Error(`index.ts exports no ${name}`);
  return found;
}

/** A type as code: fixed words one by one, so that lines can be broken between them. */
function code(file: string, type: string): string {
  const spelled = said.spelled(file, type).replace(/\breadonly /g, '');
  const words = spelled.split(' | ');
  const isLong = words.length > 2 && !/[{(<]/.test(spelled);
  return isLong ? words.map((word) => `\`${word}\``).join(' or ') : `\`${spelled}\``;
}

/** Fields of an object, and what is said of them; those of objects within it below. */
function fields(members: readonly Member[], depth: number): string[] {
  return members.flatMap(({ file, name, isOptional, type, doc }) => {
    if (type.startsWith(`${name}(`)) return [item(`\`${type}\`${doc && `. ${doc}`}`, depth)];
    const title = `\`${name}${isOptional ? '?' : ''}\``;
    const inner = said.objectsIn(file, type);
    const what = inner ? '' : `: ${code(file, type)}`;
    const line = item(`${title}${what}${doc && `. ${doc}`}`, depth);
    return [line, ...(inner ? fields(inner, depth + 1) : [])];
  });
}

// --- calls -----------------------------------------------------------------------------------

function calls(): string {
  const open = exported('openNode');
  const signature = open.text.replace(/^.*?function |;$/g, '').replace(/\s+/g, ' ');
  const lines = call(signature, open.doc);
  for (const name of ['jsonCodec', 'msgpackCodec', 'decodeEntry', 'attachProducer']) {
    const made = exported(name);
    lines.push(...call(made.text.replace(/^.*?function |;$/g, '').replace(/\s+/g, ' '), made.doc));
  }
  const titles = {
    Node: 'A node',
    Space: 'A space',
    TypedSpace: 'A space with a codec',
    Producer: 'A producer',
    AttachedProducer: 'A producer in its thread',
  };
  for (const [name, title] of Object.entries(titles)) {
    lines.push(`### ${title}`, '');
    const type = exported(name);
    lines.push(paragraph(type.doc), '');
    const members = said.membersOf(type);
    const isCall = (member: Member): boolean => member.type.startsWith(member.name);
    for (const { type: text, doc } of members.filter(isCall)) lines.push(...call(text, doc));
    lines.push('What can be read of it:', '');
    const facts = members.filter((member) => !isCall(member));
    lines.push(...fields(facts, 0), '');
  }
  return lines.join('\n');
}

function call(signature: string, doc: string): string[] {
  const plain = signature.replace(/\breadonly /g, '');
  const [, head, given, result] = /^(.*?\()(.*)(\): .*)$/.exec(plain)!;
  const isShort = plain.length <= 116;
  const text = isShort
    ? plain
    : `${head}\n  ${given!.replace(/, (?=\w+\??: )/g, ',\n  ')}\n${result}`;
  return ['```ts', text, '```', '', ...(doc ? [paragraph(sentences(doc)), ''] : [])];
}

/** What a comment says of parameters, as sentences. */
function sentences(doc: string): string {
  return doc
    .replace(/(\w)? @param (\w+) /g, (_, end = '', name) => `${end}${end && '.'} \`${name}\`: `)
    .replace(/(?<![.:]) (Rejects|Throws|Where) /g, '. $1 ');
}

// --- options ---------------------------------------------------------------------------------

/** Where it depends on other options, the comment says how. */
const DEPENDS = ['lead'];

/** What a group of options is about, by the first of them. */
const GROUPS: Readonly<Record<string, string>> = {
  dataDir: 'Who and where',
  apply: 'Functions of the host',
  fsync: 'The log on disk',
  windowBytes: 'Links between nodes',
  lagAlertThresholdMs: 'Seen from outside',
};

function options(): string {
  const members = said.membersOf(exported('NodeOptions'));
  const inForce = readOptions(NEEDED) as unknown as Record<string, unknown>;
  const lines = OPTION_NAMES.all.flatMap((name) => {
    const member = members.find((one) => one.name === name)!;
    const title = GROUPS[name] ? [`\n### ${GROUPS[name]}\n`] : [];
    const line = optionItem(member, DEPENDS.includes(name) ? undefined : inForce[name]);
    return [...title, line, ...partsOf(member)];
  });
  return lines.join('\n').trim();
}

/** What is in an option: of an object its fields, of a function what it is given and gives. */
function partsOf({ file, name, type }: Member): string[] {
  const [, given, result] = /^\((.*)\) => (.*)$/.exec(type) ?? [];
  if (given !== undefined) {
    const args = splitAt(given, ', ').map((arg) => code(file, arg));
    return [item(`Given: ${args.join(', ')}. Returns: ${code(file, result!)}.`, 1)];
  }
  if (name !== 'http' && name !== 'coordinator') return [];
  const parts = said.objectsIn(file, type)!.filter((part) => part.name !== 'kind');
  const known = name === 'http' ? httpDefaults() : etcdDefaults();
  for (const part of parts) checkDefault(part, known[part.name]);
  return fields(parts, 1);
}

function optionItem({ name, isOptional, doc }: Member, value: unknown): string {
  const isPlain = Array.isArray(value) || (value !== undefined && typeof value !== 'object');
  const fallback = isPlain ? ` Default: ${shown(name, value)}.` : '';
  if (isPlain) checkDefault({ name, doc }, value);
  const about = isPlain ? doc.replace(/ ?Default:? `?[^`. ]+`?\.?$/, '') : doc;
  const rest = `${isOptional ? fallback : ' Needed.'}${about && ` ${about}`}`;
  return item(`**\`${name}\`**: ${mustBe(name)}.${rest}`);
}

function httpDefaults(): Record<string, unknown> {
  return { host: DEFAULT_HTTP_HOST, port: DEFAULT_HTTP_PORT };
}

function etcdDefaults(): Record<string, unknown> {
  const listen = { host: '127.0.0.1', port: 0 };
  const coordinator = { kind: 'etcd', endpoints: ['http://127.0.0.1:2379'] } as const;
  const { kind, endpoints, ...rest } = readOptions({ ...NEEDED, listen, coordinator })
    .coordinator as unknown as Record<string, unknown>;
  return rest;
}

/** What a comment says of a default must be the one that is in force. */
function checkDefault({ name, doc }: Pick<Member, 'name' | 'doc'>, value: unknown): void {
  const told = /Default:? `?([\w.,-]*[\w-])/.exec(doc)?.[1];
  if (told === undefined || value === undefined) return;
  const plain = (text: string): string => text.replace(/[`',]| ms$/g, '');
  if (plain(told) === plain(shown(name, value))) return;
  throw new Error(`${name}: the default is ${shown(name, value)}, its comment says ${told}`);
}

/** A value as people write it, with its unit. */
function shown(name: string, value: unknown): string {
  if (value === Number.POSITIVE_INFINITY) return 'unlimited';
  if (Array.isArray(value))
    return value.length === 0 ? 'none' : `${value.map(thousands).join(', ')} ms`;
  if (typeof value !== 'number') return `\`${String(value)}\``;
  const [unit, size] =
    value % 2 ** 30 === 0
      ? ['GiB', 2 ** 30]
      : value % 2 ** 20 === 0
        ? ['MiB', 2 ** 20]
        : ['KiB', 2 ** 10];
  if (/Bytes/.test(name) && value > 0 && value % 1024 === 0)
    return `${value / (size as number)} ${unit}`;
  return `${thousands(value)}${name.endsWith('Ms') ? ' ms' : ''}`;
}

function thousands(value: unknown): string {
  return (value as number).toLocaleString('en-US');
}

/** What a value must be, in the words with which `openNode` refuses another one. */
function mustBe(name: string): string {
  try {
    readOptions({ ...NEEDED, [name]: Number.NaN });
  } catch (error) {
    const expected = / is [^,]*, not (.*)/.exec((error as EngramError).message)?.[1];
    if (expected) return expected.replace(/(?<![\d^])\d{4,}/g, (n) => thousands(Number(n)));
  }
  throw new Error(`nobody says what the option ${name} must be`);
}

// --- events ----------------------------------------------------------------------------------

function events(): string {
  const type = exported('NodeEvents');
  const lines = said
    .membersOf(type)
    .flatMap(({ file, name, type: told, doc }) => [
      item(`**\`${name}\`**${doc && `: ${doc}`}`),
      ...fields(said.fieldsOf(file, told), 1),
    ]);
  return lines.join('\n');
}

// --- errors ----------------------------------------------------------------------------------

function errors(): string {
  const lines: string[] = [];
  for (const family of ['StorageError', 'MemorySpaceError', 'ReplicationError']) {
    lines.push(`### ${family}`, '', paragraph(exported(family).doc), '');
    for (const error of ERROR_CODES.map((one) => failure(one, '')).filter(
      (e) => e.name === family,
    )) {
      const { code, retryable, expected, remedy, example } = error;
      const advice = /^nothing to do/.test(remedy) ? `N${remedy.slice(1)}` : `To do: ${remedy}`;
      const title = `**\`${code}\`**, ${retryable ? '' : 'not '}retryable`;
      lines.push(item(`${title}. Expected: ${expected}. ${advice}.`));
      lines.push(item(`Example: \`${example}\``, 1));
    }
    lines.push('');
  }
  return lines.join('\n').trimEnd();
}

// --- commands --------------------------------------------------------------------------------

function help(...words: string[]): string {
  const cli = path.join(ROOT, 'dist/main/cli.js');
  return execFileSync(process.execPath, [cli, ...words, '--help'], { encoding: 'utf8' });
}

/** Rows of a part of a help text: what is called so, and what it is. */
function rows(text: string, part: string): [string, string][] {
  const lines = text.split(`\n${part}:\n`)[1]?.split('\n\n')[0] ?? '';
  // What a row has not room for stands below it, farther in.
  const whole = lines.replace(/\n {4,}(?=\S)/g, ' ').split('\n');
  return whole.flatMap((line) => {
    const found = /^ {2}(\S.*?)(?: {2,}(\S.*))?$/.exec(line);
    const what = found?.[2]?.replace(/ \(default: false\)$/, '') ?? '';
    return found ? [[found[1]!, what] as [string, string]] : [];
  });
}

function commands(): string {
  const lines: string[] = [];
  const add = (above: string[]): void => {
    for (const [usage, what] of rows(help(...above), 'Commands')) {
      const name = usage.split(' ')[0]!;
      if (name === 'help') continue;
      const words = [...above, name];
      const text = help(...words);
      if (rows(text, 'Commands').length > 0) {
        add(words);
        continue;
      }
      const own = usage.replace('[options] ', '').replace(' [options]', '');
      lines.push(item(`**\`engram-wal ${[...above, own].join(' ')}\`**: ${what}`));
      for (const [option, meaning] of rows(text, 'Options')) {
        if (option !== '-h, --help') lines.push(item(`\`${option}\`: ${meaning}`, 1));
      }
    }
  };
  add([]);
  return lines.join('\n');
}

// --- types -----------------------------------------------------------------------------------

/** Told in a chapter of their own. */
const ELSEWHERE = ['Node', 'Space', 'NodeOptions', 'NodeEventName', 'ErrorCode', 'HttpOptions'];
ELSEWHERE.push('CoordinatorOptions', 'openNode');
ELSEWHERE.push('StorageError', 'MemorySpaceError', 'ReplicationError');
/** What the rooms take and tell, put together in NodeOptions and NodeEvents. */
const isOfRoom = (name: string): boolean =>
  /^(Log|Ship|Snapshot|Follow|Lead)Options$|Events$/.test(name);

function types(): string {
  const lines: string[] = [];
  for (const type of said
    .exported()
    .filter(({ name }) => !ELSEWHERE.includes(name) && !isOfRoom(name))) {
    const { file, name, doc } = type;
    const members = said.membersOf(type);
    const words = said.words(file, name);
    const alias = type.text
      .replace(/^[^=]*= ?/, '')
      .replace(/;$/, '')
      .replace(/\s+/g, ' ');
    const what = words ? code(file, name) : `\`${alias}\``;
    const meant = members.length > 0 || type.kind === 'const' ? '' : `: ${what}`;
    lines.push(item(`**\`${name}\`**${meant}${doc && `. ${doc}`}`), ...fields(members, 1));
  }
  return lines.join('\n');
}
