/**
 * The blocks of code of a document, run as a reader would run them: in a folder of their own, in
 * which engram-wal is installed. A block that begins with `import` begins a new program; shell
 * commands come between the lines of code that stand around them, while the nodes are open.
 */
import { execFile } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { promisify } from 'node:util';
import { freePort } from '../support/etcd.js';

export const ROOT = path.join(import.meta.dirname, '../..');
/** Ports that documents name; each run has free ones in their place. */
const PORTS = /\b7[34]\d\d\b/g;
const PROGRAM_MS = 50_000;

export interface Block {
  readonly language: string;
  readonly text: string;
}

/** @param file from the root of the repository */
export function documentOf(file: string): string {
  return fs.readFileSync(path.join(ROOT, file), 'utf8');
}

export function blocksOf(markdown: string): Block[] {
  const fenced = /^```(\w*)\n([\s\S]*?)^```$/gm;
  return [...markdown.matchAll(fenced)].map(([, language, text]) => ({
    language: language!,
    text: text!,
  }));
}

export interface Program {
  /** The heading under which it begins. */
  readonly title: string;
  readonly blocks: readonly Block[];
}

export function programsOf(markdown: string): Program[] {
  const programs: { title: string; blocks: Block[] }[] = [];
  for (const chapter of markdown.split(/^(?=## )/m)) {
    for (const block of blocksOf(chapter)) {
      const title = /^## (.*)/.exec(chapter)?.[1] ?? '';
      if (block.text.startsWith('import ')) programs.push({ title, blocks: [] });
      programs.at(-1)?.blocks.push(block);
    }
  }
  return programs;
}

/** What a program says that it prints: lines of its blocks of text. */
export function promisedLines({ blocks }: Program): string[] {
  return blocks
    .filter(({ language }) => language === 'text')
    .flatMap(({ text }) => text.trimEnd().split('\n'));
}

/** What shell commands and files of a document become in the program around them. */
const HARNESS = `
import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import { promisify } from 'node:util';
const servers = [];
export const file = (name, text) => fs.writeFileSync(name, text);
export async function sh(text) {
  for (const line of text.split('\\n').filter((l) => l.trim() !== '' && !l.startsWith('#'))) {
    const command = line.replace('npx engram-wal', 'engram-wal');
    if (/ serve /.test(command)) await served(command.replace(/#.*/, '').trim());
    else console.log((await promisify(execFile)('sh', ['-ec', command])).stdout);
  }
}
async function served(command) {
  const child = spawn('sh', ['-ec', 'exec ' + command], { stdio: ['ignore', 'pipe', 'inherit'] });
  servers.push(child);
  for await (const chunk of child.stdout) if (String(chunk).includes('"serving"')) break;
}
export async function end() {
  for (const child of servers) {
    if (child.exitCode !== null) throw new Error('serve has ended with ' + child.exitCode);
    child.kill('SIGTERM');
    const [code] = await once(child, 'exit');
    if (code !== 0) throw new Error('serve ends with ' + code);
  }
}
`;

function sourceOf({ blocks }: Program): string {
  const lines = ["import { end, file, sh } from './harness.mjs';"];
  for (const { language, text } of blocks) {
    if (language === 'js') lines.push(text);
    else if (language === 'sh') lines.push(`await sh(${JSON.stringify(text)});`);
    else if (language === 'json') lines.push(`file('wal.json', ${JSON.stringify(text)});`);
    else if (language !== 'text') throw new Error(`a block of ${language} is run by nobody`);
  }
  return [...lines, 'await end();', ''].join('\n');
}

/** A folder in which `import 'engram-wal'` and `npx engram-wal` find this repository. */
export function installInto(folder: string): void {
  const bin = path.join(folder, 'node_modules/.bin');
  fs.mkdirSync(bin, { recursive: true });
  fs.symlinkSync(ROOT, path.join(folder, 'node_modules/engram-wal'));
  const command = path.join(bin, 'engram-wal');
  const cli = path.join(ROOT, 'dist/main/cli.js');
  fs.writeFileSync(command, `#!/bin/sh\nexec '${process.execPath}' '${cli}' "$@"\n`);
  fs.chmodSync(command, 0o755);
}

/**
 * Runs a program in `folder` to its end. @returns what it printed
 * @param instead what stands in the document, and what is there in this run
 * Rejects, with what it printed, where it ends otherwise than with 0.
 */
export async function runProgram(
  folder: string,
  program: Program,
  instead: readonly (readonly [string, string])[] = [],
): Promise<string> {
  let source = sourceOf(program);
  for (const [there, here] of instead) source = source.replaceAll(there, here);
  for (const port of new Set(source.match(PORTS))) {
    source = source.replaceAll(port, String(await freePort()));
  }
  fs.writeFileSync(path.join(folder, 'harness.mjs'), HARNESS);
  fs.writeFileSync(path.join(folder, 'program.mjs'), source);
  const env = {
    ...process.env,
    PATH: `${path.join(folder, 'node_modules/.bin')}:${process.env.PATH}`,
  };
  const options = { cwd: folder, env, timeout: PROGRAM_MS };
  const { stdout } = await promisify(execFile)(process.execPath, ['program.mjs'], options);
  return stdout;
}
