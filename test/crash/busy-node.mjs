// A primary for the tests that stop, block or kill it. argv: data directory, replicas as JSON.
// Messages: { append: n } appends and tells the last sequence; { block: ms } blocks the event loop.
import { openNode } from '../../dist/main/index.js';

const [dataDir, replicas] = process.argv.slice(2);
process.on('disconnect', () => process.exit(0));
const node = await openNode({
  clusterId: 'test',
  nodeId: process.argv[4] ?? 'primary',
  dataDir,
  replicas: JSON.parse(replicas),
  segmentBytes: 256 * 1024,
  groupBytes: 64 * 1024,
  maxEntryBytes: 16 * 1024,
  memoryBudgetBytes: 1024 * 1024,
  backoffStepsMs: [20, 50],
});
const space = await node.openSpace('s');
process.on('message', async ({ append, block }) => {
  if (block) {
    const end = performance.now() + block;
    while (performance.now() < end);
  }
  if (append) {
    const payloads = Array.from({ length: append }, () => Buffer.from('x'));
    const { lastSequence } = await space.appendBatch(1, payloads);
    process.send({ appended: lastSequence });
  }
});
process.send({ open: space.status().durableSequence, crashes: node.status().crashes });
