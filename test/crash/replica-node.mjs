// A replica that is killed over and over. argv: data directory, port.
// Tells { up: true } once it can be dialled.
import { openNode } from '../../dist/main/index.js';

const [dataDir, port] = process.argv.slice(2);
process.on('disconnect', () => process.exit(0));
await openNode({
  clusterId: 'test',
  nodeId: 'b',
  dataDir,
  listen: { host: '127.0.0.1', port: Number(port) },
  segmentBytes: 256 * 1024,
  groupBytes: 64 * 1024,
  maxEntryBytes: 16 * 1024,
  memoryBudgetBytes: 1024 * 1024,
});
process.send({ up: true });
