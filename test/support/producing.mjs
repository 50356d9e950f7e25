// A thread of a host that appends: each payload is its own name and a number, from 0 on.
import { parentPort, workerData } from 'node:worker_threads';
// Alone: the whole library takes a thread several times as long to begin with.
import { attachProducer } from '#src/main/node/produce/attach.js';

const { producer, id, count, atOnce, bytes, options, acked } = workerData;
const counts = new Int32Array(acked);
const codes = {};
const tokens = [];
let next = 0;

function payloadOf(n) {
  const payload = Buffer.alloc(bytes);
  payload.write(`${id}:${n}:`);
  return payload;
}

const p = attachProducer(producer);
async function one() {
  while (next < count) {
    const n = next++;
    try {
      const token = await p.append(1000, payloadOf(n), options);
      tokens[n] = token;
      while (tokens[counts[0]]) Atomics.add(counts, 0, 1);
    } catch (error) {
      codes[error.code] = (codes[error.code] ?? 0) + 1;
      if (workerData.untilError) next = count;
    }
  }
}
await Promise.all(Array.from({ length: atOnce }, one));
const closed = await p.close().then(
  () => 'closed',
  (error) => error.code,
);
parentPort.postMessage({ codes, tokens, closed });
