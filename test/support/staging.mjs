// A host that stages entries, many in one turn, and prints how much of its heap each of them took:
// nothing is collected meanwhile, for its young generation has room for all of it.
import { openNode } from '#src/main/index.js';

const [dataDir, spaceCount, bytes] = process.argv.slice(2);
const ENTRIES = 10_000;
const node = await openNode({ dataDir, nodeId: 'a', clusterId: 'test' });
const spaces = await Promise.all(
  Array.from({ length: Number(spaceCount) }, (_, n) => node.openSpace(`s${n}`)),
);
const payload = Buffer.alloc(Number(bytes), 7);

/** @returns bytes of the heap that an entry took */
async function staged() {
  await new Promise((resolve) => setImmediate(resolve));
  const before = process.memoryUsage().heapUsed;
  for (let n = 0; n < ENTRIES; n++) {
    if (spaces[n % spaces.length].tryAppend(1, payload) === undefined) throw new Error('no room');
  }
  const took = process.memoryUsage().heapUsed - before;
  for (const space of spaces) {
    const { lastSequence } = space.status();
    await space.flushed(lastSequence, { replicas: 0 });
  }
  return took / ENTRIES;
}

const all = [];
for (let round = 0; round < 60; round++) all.push(await staged());
// The first ones are before all of it is compiled.
console.log(JSON.stringify(all.slice(30).sort((a, b) => a - b)));
await node.close();
