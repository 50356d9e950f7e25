/** What documents say of the code is what the code says: written anew, nothing changes. */
import { expect, test } from 'vitest';
import { OPTION_NAMES } from '#src/main/options/config.js';
import { EVENT_NAMES } from '#src/main/tell/event-lines.js';
import { ERROR_CODES } from '#src/shared/errors.js';
import { METRICS } from '#src/shared/metrics/catalog.js';
import { documentOf } from './blocks.js';
import { writtenDocuments } from './written.js';

const DOCUMENTS = writtenDocuments();

test.each([...DOCUMENTS])('%s is up to date (npm run docs)', (file, text) => {
  expect(documentOf(file)).toBe(text);
});

test('the reference has every option, event and code', () => {
  const names = [...OPTION_NAMES.all, ...EVENT_NAMES, ...ERROR_CODES];
  expect(names.length).toBeGreaterThan(140);
  const reference = DOCUMENTS.get('docs/REFERENCE.md')!;
  const missing = names.filter((name) => !reference.includes(`\n- **\`${name}\`**`));
  expect(missing).toEqual([]);
});

test('the handbook says of each metric what a scrape says', () => {
  const handbook = documentOf('docs/METRICS.md').replace(/\s+/g, ' ');
  const missing = METRICS.filter(({ name, type, help }) => {
    const said = handbook.split(`- **\`engram_${name}\`** (${type}`)[1]?.split(' - **')[0];
    return !said?.includes(`): ${help}`);
  });
  expect(missing.map(({ name }) => name)).toEqual([]);
});
