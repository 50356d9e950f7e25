/** The documents with the parts that are made from code and kept results as they should be. */
import { API_REPORT, apiReport } from './api-report.js';
import { documentOf } from './blocks.js';
import { figuresText } from './figures.js';
import { between } from './lines.js';
import { PERFORMANCE } from './performance.js';
import { REFERENCE } from './reference.js';

/** Document to its whole text. */
export function writtenDocuments(): Map<string, string> {
  let reference = documentOf('docs/REFERENCE.md');
  for (const [mark, text] of Object.entries(REFERENCE)) {
    reference = between(reference, mark, text());
  }
  let performance = documentOf('docs/PERFORMANCE.md');
  for (const [mark, text] of Object.entries(PERFORMANCE)) {
    performance = between(performance, mark, text());
  }
  return new Map([
    ['docs/PERFORMANCE.md', performance],
    ['docs/REFERENCE.md', reference],
    [API_REPORT, apiReport()],
    ['README.md', between(documentOf('README.md'), 'figures', figuresText())],
  ]);
}
