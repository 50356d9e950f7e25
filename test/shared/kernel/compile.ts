/**
 * Compiles src/shared/kernel/entries.wat. `npm run kernel` writes what it becomes into compiled.ts,
 * which is kept, so that a build needs no compiler of it; a test holds the two against each other.
 */
import fs from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import wabt from 'wabt';

const KERNEL = path.join(import.meta.dirname, '../../../src/shared/kernel');
export const COMPILED = path.join(KERNEL, 'compiled.ts');
const LINE = 88;

/** What compiled.ts is to be. */
export async function compiled(): Promise<string> {
  const source = fs.readFileSync(path.join(KERNEL, 'entries.wat'), 'utf8');
  const module = (await wabt()).parseWat('entries.wat', source);
  module.resolveNames();
  module.validate();
  const text = Buffer.from(module.toBinary({}).buffer).toString('base64');
  const lines = text.match(new RegExp(`.{1,${LINE}}`, 'g'))!.map((line) => `  '${line}',`);
  return `/** entries.wat as WebAssembly, in base64: made by \`npm run kernel\`, not by hand. */
export const ENTRIES_WASM = [
${lines.join('\n')}
].join('');
`;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  fs.writeFileSync(COMPILED, await compiled());
}
