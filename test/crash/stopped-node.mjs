// A primary that is stopped while it appends. argv: data directory, port, replicas as JSON.
// Tells { acked: [sequence, text] } and { refused: code }, and { role } when it is another.
import { openNode } from '../../dist/main/index.js';

const LOOPS = 8;
const [dataDir, port, replicas] = process.argv.slice(2);
process.on('disconnect', () => process.exit(0));
const node = await openNode({
  clusterId: 'test',
  nodeId: 'a',
  dataDir,
  listen: { host: '127.0.0.1', port: Number(port) },
  replicas: JSON.parse(replicas),
  lead: true,
  segmentBytes: 256 * 1024,
  groupBytes: 64 * 1024,
  maxEntryBytes: 16 * 1024,
  memoryBudgetBytes: 1024 * 1024,
  backoffStepsMs: [20, 50],
});
node.on('space-role', ({ role }) => process.send({ role }));
const space = await node.openSpace('s');
let count = 0;

async function load() {
  for (;;) {
    const text = `entry ${++count}`;
    try {
      const ack = { replicas: 1, timeoutMs: 10_000 };
      const { sequence } = await space.append(1, Buffer.from(text), { ack });
      process.send({ acked: [sequence, text] });
    } catch ({ code }) {
      process.send({ refused: code });
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }
}

for (let i = 0; i < LOOPS; i++) void load();
