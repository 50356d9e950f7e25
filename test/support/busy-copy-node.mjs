/** Appends to forty spaces without end, in small segments, freeing what is old. */
import { openNode } from '../../dist/main/index.js';

const node = await openNode({
  dataDir: process.argv[2],
  nodeId: 'a',
  clusterId: 'test',
  segmentBytes: 256 * 1024,
  groupBytes: 64 * 1024,
  maxEntryBytes: 16 * 1024,
});
const names = Array.from({ length: 40 }, (_, i) => `s-${i + 1}`);
const spaces = await Promise.all(names.map((name) => node.openSpace(name)));
let isOver = false;
process.on('SIGTERM', () => {
  isOver = true;
});
for (let round = 1; !isOver; round++) {
  await Promise.all(
    spaces.map((s) => s.append(1, Buffer.alloc(1 + ((round * 37) % 2_000), round))),
  );
  if (round === 20) console.log('busy');
  if (round % 100 === 0) {
    for (const space of spaces) {
      const { lastSequence } = space.status();
      if (lastSequence > 150) await space.checkpoint(lastSequence - 100);
    }
  }
}
await node.close();
