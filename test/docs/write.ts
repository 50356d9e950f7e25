/** `npm run docs`: writes what documents have from the code and from kept results. */
import fs from 'node:fs';
import path from 'node:path';
import { ROOT } from './blocks.js';
import { writtenDocuments } from './written.js';

for (const [file, text] of writtenDocuments()) fs.writeFileSync(path.join(ROOT, file), text);
