/** Documents that can be read: short lines, small cells, links that lead somewhere. */
import fs from 'node:fs';
import path from 'node:path';
import { expect, test } from 'vitest';
import { ROOT } from './blocks.js';

const LINE_MAX = 120;
const CELL_WORDS_MAX = 24;
const README = { lines: 150, line: 100 };
const FOLDERS = ['.', 'docs', 'bench', 'deploy', 'examples'];

const DOCUMENTS = FOLDERS.filter((folder) => fs.existsSync(path.join(ROOT, folder))).flatMap(
  (folder) =>
    fs
      .readdirSync(path.join(ROOT, folder))
      .filter((name) => name.endsWith('.md'))
      .map((name) => path.join(folder, name)),
);

/** What GitHub makes of a heading, to link to it. */
function anchorOf(heading: string): string {
  const plain = heading.toLowerCase().replace(/[^\w\- ]/g, '');
  return plain.replaceAll(' ', '-');
}

function anchorsOf(file: string): string[] {
  const text = fs.readFileSync(file, 'utf8').replace(/^```[\s\S]*?^```$/gm, '');
  return [...text.matchAll(/^#+ (.*)$/gm)].map(([, heading]) => anchorOf(heading!));
}

/** Links to what is not there; those to other sites are not looked at. */
function deadLinks(file: string, text: string): string[] {
  const prose = text.replace(/^```[\s\S]*?^```$/gm, '');
  const links = [...prose.matchAll(/\]\(([^)\s]+)\)/g)].map(([, link]) => link!);
  return links.filter((link) => {
    if (/^\w+:/.test(link)) return false;
    const [to, anchor] = link.split('#') as [string, string?];
    const there = to === '' ? path.join(ROOT, file) : path.join(ROOT, path.dirname(file), to);
    if (!fs.existsSync(there)) return true;
    return anchor !== undefined && !anchorsOf(there).includes(anchor);
  });
}

const SOURCES = ['src', 'test', 'bench', 'examples']
  .flatMap((top) => fs.readdirSync(path.join(ROOT, top), { recursive: true, encoding: 'utf8' }))
  .filter((name) => !name.includes('node_modules'));
const BASENAMES = new Set(SOURCES.map((name) => path.basename(name)));

/**
 * Sources and folders that are named and are not there: by their way from the root or from src, a
 * source also by its name alone.
 */
function deadNames(text: string): string[] {
  const ways = text.matchAll(
    /(?<![\w/.-])(?:main|shared|workers|src|test|bench)\/[\w./-]+\.m?ts\b/g,
  );
  const folders = text.matchAll(
    /(?<=`)(?:main|shared|workers|src|test|bench)(?:\/[\w-]+)+\/?(?=`)/g,
  );
  const names = text.matchAll(/(?<=`)[\w-]+(?:\.[\w-]+)*\.m?ts(?=`)/g);
  const isThere = (name: string): boolean =>
    [name, `src/${name}`].some((one) => fs.existsSync(path.join(ROOT, one)));
  return [
    ...[...ways, ...folders].map(([name]) => name).filter((name) => !isThere(name)),
    ...[...names].map(([name]) => name).filter((name) => !BASENAMES.has(name)),
  ];
}

function problems(file: string, text: string): string[] {
  const lines = text.trimEnd().split('\n');
  const longest = file === 'README.md' ? README.line : LINE_MAX;
  const found = deadLinks(file, text).map((link) => `${file}: ${link} leads nowhere`);
  found.push(...deadNames(text).map((name) => `${file}: there is no ${name}`));
  for (const [i, line] of lines.entries()) {
    const say = (what: string) => found.push(`${file}:${i + 1} ${what}`);
    if (line.length > longest) say(`is longer than ${longest}`);
    const cells = line.startsWith('|') ? line.split('|') : [];
    const words = cells.map((cell) => cell.trim().split(/\s+/).length);
    if (words.some((count) => count > CELL_WORDS_MAX)) say('has a cell of too many words');
  }
  if (file === 'README.md' && lines.length > README.lines) found.push(`${file} is too long`);
  return found;
}

test('documents keep to their limits, and link to what is there', () => {
  expect(DOCUMENTS.length).toBeGreaterThan(8);
  const found = DOCUMENTS.flatMap((file) =>
    problems(file, fs.readFileSync(path.join(ROOT, file), 'utf8')),
  );
  expect(found).toEqual([]);
});

test.each([
  ['docs/A.md', 'x'.repeat(121)],
  ['README.md', 'x'.repeat(101)],
  ['README.md', 'x\n'.repeat(151)],
  ['docs/A.md', `| a | ${'word '.repeat(25)}|`],
  ['docs/A.md', '[away](NOWHERE.md)'],
  ['docs/A.md', 'see `main/nowhere.ts`'],
  ['docs/A.md', 'see `nowhere.ts`'],
  ['docs/A.md', 'see `main/nowhere`'],
  ['docs/A.md', '[away](GUIDE.md#no-such-chapter)'],
])('a breach in %s is seen', (file, text) => {
  expect(problems(file, text)).not.toEqual([]);
});
