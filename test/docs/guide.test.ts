/** The guide does what it says: each of its programs, run as it stands there. */
import { afterEach, beforeEach, expect, test } from 'vitest';
import { makeFolder, removeFolder } from '../support/cluster.js';
import {
  type Block,
  blocksOf,
  documentOf,
  installInto,
  type Program,
  programsOf,
  promisedLines,
  runProgram,
} from './blocks.js';

const PROGRAMS = programsOf(documentOf('docs/GUIDE.md'));
let folder: string;

beforeEach(() => {
  folder = makeFolder();
  installInto(folder);
});
afterEach(() => removeFolder(folder));

// The one that needs an etcd is in test/etcd/guide.test.ts.
const alone = PROGRAMS.filter(({ title }) => title !== 'With etcd');

test('it has programs for its chapters', () => {
  expect(PROGRAMS.length).toBeGreaterThan(5);
  expect(alone.length).toBe(PROGRAMS.length - 1);
});

test('its contents name each chapter, in order', () => {
  const guide = documentOf('docs/GUIDE.md');
  const chapters = [...guide.matchAll(/^## (.*)$/gm)].map(([, title]) => title);
  const contents = [...guide.matchAll(/^\d+\. \[(.*)\]\(#/gm)].map(([, title]) => title);
  expect(contents).toEqual(chapters);
});

test.each(alone)('$title', async (program) => {
  const printed = (await runProgram(folder, program)).split('\n');
  expect(printed).toEqual(expect.arrayContaining(promisedLines(program)));
});

test('of README, one block is run by test/package.test.ts, the other by CI', () => {
  const blocks = blocksOf(documentOf('README.md'));
  expect(blocks.map(({ language }) => language)).toEqual(['sh', 'js']);
  const commands = blocks[0]!.text.replace(/#.*/g, '').split(/&&|\n/);
  const script = documentOf('.ci/run');
  for (const command of commands) expect(script).toContain(command.trim());
});

test('a program that fails, or prints something else, is seen', async () => {
  const js = (text: string): Block => ({ language: 'js', text });
  const program = (...blocks: Block[]): Program => ({ title: '', blocks });
  await expect(runProgram(folder, program(js('throw new Error("no")')))).rejects.toThrow('no');
  const failing = { language: 'sh', text: 'npx engram-wal inspect nowhere\n' };
  await expect(runProgram(folder, program(failing))).rejects.toThrow('nowhere');
  const printing = program(js('console.log("this");'), { language: 'text', text: 'that\n' });
  expect(await runProgram(folder, printing)).not.toContain(promisedLines(printing)[0]);
});
