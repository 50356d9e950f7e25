// A host with two spaces and two threads each that append, until it is killed. It prints how much
// is acknowledged: `{"s0-0":17,...}`.
import fs from 'node:fs';
import { Worker } from 'node:worker_threads';
import { openNode } from '#src/main/index.js';

const [dataDir] = process.argv.slice(2);
const node = await openNode({ dataDir, nodeId: 'a', clusterId: 'test' });
const file = new URL('producing.mjs', import.meta.url);
const acked = {};
for (const name of ['s0', 's1']) {
  const space = await node.openSpace(name);
  for (const thread of [0, 1]) {
    const id = `${name}-${thread}`;
    acked[id] = new Int32Array(new SharedArrayBuffer(4));
    const job = { id, count: 1e9, atOnce: 64, bytes: 100, acked: acked[id].buffer };
    new Worker(file, { workerData: { ...job, producer: space.producer() } });
  }
}
setInterval(() => {
  const told = Object.entries(acked).map(([id, counts]) => [id, Atomics.load(counts, 0)]);
  fs.writeSync(1, `${JSON.stringify(Object.fromEntries(told))}\n`);
}, 5);
