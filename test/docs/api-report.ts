/**
 * What a host can name, as a reviewer reads it: every declaration that index.ts exports, without
 * what is said of it, by name. Kept in test/golden/api.txt; `npm run docs` writes it anew.
 */
import path from 'node:path';
import { ROOT } from './blocks.js';
import { Declarations } from './declarations.js';

export const API_REPORT = 'test/golden/api.txt';

export function apiReport(): string {
  const all = new Declarations(path.join(ROOT, 'dist/main/index.d.ts')).exported();
  const texts = all.map(({ text }) =>
    text
      .replace(/^[ \t]*\/\*\*[\s\S]*?\*\/\n/gm, '')
      .replace(/^[ \t]*(#private|private constructor\(.*\));\n/gm, '')
      .replace(/^(export |declare )+/, '')
      .trim(),
  );
  return `${texts.join('\n\n')}\n`;
}
