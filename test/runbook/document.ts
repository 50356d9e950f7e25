/**
 * The runbook, followed: the blocks of one chapter in their order, each on the machine that it
 * names, and what the document says one sees held against what is there to be seen.
 *
 *   sh      begins with `# on NODE`; a command that does not end with 0 says so: `# exit 1`
 *   text    behind it: lines that its last command writes, in this order; … stands for anything
 *   jsonc   begins with `// NODE: FILE`: the file is written there
 */
import fs from 'node:fs';
import path from 'node:path';
import type { Machines } from './machines.js';

const FILE = path.join(import.meta.dirname, '../../docs/OPERATIONS.md');
const SEEN_WITHIN_MS = 45_000;
/** Each look is two processes or more, on a machine that has something else to do. */
const LOOK_EVERY_MS = 500;
/** What only looks is done again until it shows what it should. */
const LOOKS =
  /^(engram-wal (status|locate|verify|inspect|spaces|space)|journalctl|curl|df|etcdctl)\b/;

interface Block {
  readonly line: number;
  readonly language: string;
  readonly text: string;
}

/** The blocks of code below a heading, up to the next one of its level or above. */
export function blocksOf(title: string): Block[] {
  const lines = fs.readFileSync(FILE, 'utf8').split('\n');
  const begin = lines.findIndex((line) => /^##+ /.test(line) && line.endsWith(` ${title}`));
  if (begin < 0) throw new Error(`the runbook has no chapter ${title}`);
  const level = lines[begin]!.indexOf(' ');
  const blocks: Block[] = [];
  for (let i = begin + 1; i < lines.length; i++) {
    const heading = /^(#+) /.exec(lines[i]!);
    if (heading && heading[1]!.length <= level) break;
    const fence = /^```(\w+)$/.exec(lines[i]!);
    if (!fence) continue;
    const end = lines.indexOf('```', i);
    blocks.push({ line: i + 1, language: fence[1]!, text: lines.slice(i + 1, end).join('\n') });
    i = end;
  }
  if (blocks.length === 0) throw new Error(`nothing is to be done in ${title}`);
  return blocks;
}

interface Command {
  readonly line: string;
  readonly code: number;
}

function commandsOf(text: string): Command[] {
  return text
    .replace(/\\\n\s*/g, '')
    .split('\n')
    .filter((line) => line.trim() !== '' && !line.startsWith('#'))
    .map((line) => {
      const [command, comment = ''] = line.split(/\s+# /);
      return { line: command!, code: Number(/^exit (\d)/.exec(comment)?.[1] ?? 0) };
    });
}

/** Whether the output has these lines in this order. */
export function shows(output: string, expected: string): boolean {
  const seen = output.split('\n').map(plain);
  let from = 0;
  for (const line of expected.split('\n').map(plain)) {
    if (line === '') continue;
    const escaped = line.replace(/[.*+?^${}()|[\]\\]/g, '\\$&');
    const pattern = new RegExp(`^${escaped.replaceAll('…', '.*')}$`);
    const at = seen.findIndex((one, i) => i >= from && pattern.test(one));
    if (at < 0) return false;
    from = at + 1;
  }
  return true;
}

function plain(line: string): string {
  return line.trim().replace(/\s+/g, ' ');
}

interface Told {
  /** Which machine the chapter's only one is. */
  readonly as?: string;
  /** What the words between two blocks of commands say: called before each but the first. */
  readonly between?: () => void;
}

/**
 * Does what the chapter says, in its order. Throws, with the line, where it is not as it says.
 * @param own lines of a machine's file beside those of the chapter, by its name
 */
export async function follow(
  machines: Machines,
  title: string,
  own: Readonly<Record<string, string>> = {},
  { as, between }: Told = {},
): Promise<void> {
  const blocks = blocksOf(title).map((block) => {
    return as === undefined ? block : { ...block, text: block.text.replaceAll('node-b', as) };
  });
  for (const [i, block] of blocks.entries()) {
    if (block.language === 'text') continue;
    if (i > 0) between?.();
    const next = blocks[i + 1];
    const sees = next?.language === 'text' ? next.text : '';
    await carryOut(machines, block, sees, own).catch((error: Error) => {
      throw new Error(`docs/OPERATIONS.md:${block.line}: ${error.message}`);
    });
  }
}

async function carryOut(
  machines: Machines,
  block: Block,
  sees: string,
  own: Readonly<Record<string, string>>,
): Promise<void> {
  const [first = ''] = block.text.split('\n');
  if (block.language === 'jsonc') {
    const [, name, file] = /^\/\/ ([\w-]+): (\S+)$/.exec(first) ?? [];
    if (!name) throw new Error('a file that no machine is named for');
    const more = own[name] === undefined ? '' : `${own[name]},\n  `;
    return machines.write(name, file!, `${block.text.replace('"http"', `${more}"http"`)}\n`);
  }
  if (block.language !== 'sh') throw new Error(`a block of ${block.language} is done by nobody`);
  const [, name] = /^# on ([\w-]+)$/.exec(first) ?? [];
  if (!name) throw new Error('commands that no machine is named for');
  const commands = commandsOf(block.text);
  for (const [i, { line, code }] of commands.entries()) {
    const expected = i === commands.length - 1 ? sees : '';
    const until = performance.now() + (LOOKS.test(line) ? SEEN_WITHIN_MS : 0);
    for (;;) {
      const ran = await machines.run(name, line);
      if (ran.code === code && shows(ran.output, expected)) break;
      if (performance.now() > until) {
        const wanted = expected === '' ? '' : `\nshould show:\n${expected}`;
        throw new Error(`on ${name}: ${line}\nends with ${ran.code}:\n${ran.output}${wanted}`);
      }
      await new Promise((resolve) => setTimeout(resolve, LOOK_EVERY_MS));
    }
  }
}
