/** Children of benchmarks are plain JavaScript: no compiler sees an import that has moved. */
import fs from 'node:fs';
import path from 'node:path';
import { expect, test } from 'vitest';

const CHILDREN = path.join(import.meta.dirname, '../../bench/children');
/** The path in `from '...'`, `import('...')` and `new URL('...', ...)`. */
const BUILT = /(?:from|import\(|new URL\()\s*'([^']*\/dist\/[^']+)'/g;

test('what benchmarks import of the build is there', () => {
  const files = fs.readdirSync(CHILDREN, { recursive: true, encoding: 'utf8' });
  const found = files
    .filter((file) => /\.[cm]?js$/.test(file))
    .flatMap((file) => {
      const from = path.join(CHILDREN, file);
      const imports = [...fs.readFileSync(from, 'utf8').matchAll(BUILT)].map(([, to]) => to!);
      return imports.map((to) => ({
        file,
        to,
        isThere: fs.existsSync(path.resolve(path.dirname(from), to)),
      }));
    });
  expect(found.length).toBeGreaterThan(5);
  expect(found.filter(({ isThere }) => !isThere)).toEqual([]);
});
