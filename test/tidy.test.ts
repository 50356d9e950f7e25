import fs from 'node:fs';
import path from 'node:path';
import { describe, expect, test } from 'vitest';

const ROOT = path.join(import.meta.dirname, '..');

function filesBelow(dir: string): string[] {
  return fs
    .readdirSync(path.join(ROOT, dir), { recursive: true, withFileTypes: true })
    .filter((f) => f.isFile() && f.name.endsWith('.ts'))
    .map((f) => path.relative(ROOT, path.join(f.parentPath, f.name)));
}

const IMPURE_IMPORT =
  /(from|import)\s*\(?\s*'(node:)?(fs|net|tls|http|https|dgram|worker_threads|timers|child_process|os|process)(\/[a-z]+)?'/;
const IMPURE_USE =
  /\b(Date\b(?!\w)|performance\.|process\.|Math\.random|set(Timeout|Interval|Immediate)\b|queueMicrotask)/;

/** What is wrong with one source file; empty when it is tidy. */
function problems(file: string, text: string): string[] {
  const found: string[] = [];
  const lines = text.split('\n');
  const code = lines.map((line) => line.replace(/(^|\s)(\/\/|\*|\/\*).*$/, ''));
  const say = (line: number, what: string) => found.push(`${file}:${line + 1} ${what}`);
  if (!/^[a-z0-9-]+(\.[a-z]+)*\.ts$/.test(path.basename(file))) say(0, 'is not kebab-case');
  for (const [i, line] of lines.entries()) if (line.length > 100) say(i, 'is longer than 100');
  if (file.startsWith('src/') && lines.length > 501) say(500, 'is beyond 500 lines');
  for (const [i, line] of code.entries()) {
    if (file.startsWith('src/shared/')) {
      if (IMPURE_IMPORT.test(line)) say(i, 'imports what shared must not');
      if (IMPURE_USE.test(line)) say(i, 'reads a clock, chance or the process');
      if (/'\.\.\/(main|workers)\//.test(line)) say(i, 'shared imports a shell');
    }
    if (file.startsWith('src/main/') && /from '\.\.\/workers\//.test(line)) {
      say(i, 'main imports workers');
    }
    if (file.startsWith('src/workers/') && /from '\.\.\/main\//.test(line)) {
      say(i, 'workers import main');
    }
    if (file.startsWith('test/') && /\b(test|it|describe)\.(skip|only|todo|fails)\b/.test(line)) {
      say(i, 'leaves a test out');
    }
  }
  return found;
}

describe('tidy', () => {
  test('the sources keep the rules of the house', () => {
    const files = [...filesBelow('src'), ...filesBelow('test'), ...filesBelow('bench')];
    expect(files.length).toBeGreaterThan(40);
    const found = files
      .filter((file) => file !== path.relative(ROOT, import.meta.filename))
      .flatMap((file) => problems(file, fs.readFileSync(path.join(ROOT, file), 'utf8')));
    expect(found).toEqual([]);
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

  test.each([
    ['src/shared/a.ts', "import fs from 'node:fs';"],
    ['src/shared/a.ts', "import { readFile } from 'fs/promises';"],
    ['src/shared/a.ts', "const net = await import('node:net');"],
    ['src/shared/a.ts', "import { Worker } from 'worker_threads';"],
    ['src/shared/a.ts', 'const now = Date.now();'],
    ['src/shared/a.ts', 'const now = performance.now();'],
    ['src/shared/a.ts', 'const x = Math.random();'],
    ['src/shared/a.ts', 'setTimeout(f, 1);'],
    ['src/shared/a.ts', "import { x } from '../main/node.js';"],
    ['src/main/a.ts', "import { x } from '../workers/sealer.js';"],
    ['src/workers/a.ts', "import { x } from '../main/node.js';"],
    ['src/main/aB.ts', ''],
    ['src/main/a.ts', `const s = '${'x'.repeat(100)}';`],
    ['src/main/a.ts', '\n'.repeat(600)],
    ['test/a.test.ts', `test${'.skip'}('x', () => undefined);`],
  ])('a breach in %s is seen: %s', (file, text) => {
    expect(problems(file, text)).not.toEqual([]);
  });
});
