// A replica whose host commits data and position together, in one file that is replaced. It is
// killed while it does so. argv: data directory, file of the host, port (0: any).
import fs from 'node:fs';
import { openNode } from '../../dist/main/index.js';

const [dataDir, file, port] = process.argv.slice(2);
process.on('disconnect', () => process.exit(0));

/** All that the host has: what it has applied, in order, and how far. */
let store = { applied: 0, texts: [] };
if (fs.existsSync(file)) store = JSON.parse(fs.readFileSync(file, 'utf8'));

async function apply(entries, { position }) {
  const texts = entries.map((e) => `${e.sequence} ${Buffer.from(e.payload).toString()}`);
  const next = { applied: position.sequence, texts: [...store.texts, ...texts] };
  // Here it dies, as a rule: with the new state written beside the old one, or half of it.
  fs.writeFileSync(`${file}.tmp`, JSON.stringify(next));
  await new Promise((resolve) => setTimeout(resolve, 3));
  fs.renameSync(`${file}.tmp`, file);
  store = next;
  process.send({ applied: store.applied });
}

const node = await openNode({
  clusterId: 'test',
  nodeId: 'b',
  dataDir,
  listen: { host: '127.0.0.1', port: Number(port) },
  segmentBytes: 256 * 1024,
  groupBytes: 64 * 1024,
  maxEntryBytes: 16 * 1024,
  memoryBudgetBytes: 1024 * 1024,
  apply,
  appliedUpTo: () => store.applied,
});
process.send({ port: node.address.port });
