// What reading takes. `idle`: the memory of a process with so many subscribers whose hosts do not
// come back for more, while entries go on coming. `tenant`: reading one small tenant among others.
import fs from 'node:fs';
import { openNode } from '#src/main/index.js';
import { randomPayload, runJob, sleep } from './child.mjs';
import { Samples } from './samples.mjs';

const MiB = 1024 * 1024;

/** Memory of this process, once what nobody reaches is collected. */
async function memory() {
  for (let n = 0; n < 3; n++) {
    globalThis.gc?.();
    await sleep(100);
  }
  const { rss, heapUsed, arrayBuffers } = process.memoryUsage();
  return { rssMb: rss / MiB, heapMb: heapUsed / MiB, buffersMb: arrayBuffers / MiB };
}

/** Bytes that this process has asked the system for. Linux only. */
function bytesRead() {
  const text = fs.readFileSync('/proc/self/io', 'utf8');
  return Number(/rchar: (\d+)/.exec(text)[1]);
}

async function fill(space, bytes) {
  const payloads = Array.from({ length: 64 }, () => randomPayload(1024));
  for (let done = 0; done < bytes; done += 64 * 1024) await space.appendBatch(1, payloads);
}

async function idle(node, { subscribers, bytes }) {
  const space = await node.openSpace('bench');
  // Buffers, threads and code are as warm before as after.
  await fill(space, bytes);
  const first = space.status().durableSequence + 1;
  const before = await memory();
  const all = Array.from({ length: subscribers }, () => space.subscribe({ from: first }));
  const waiting = all.map((entries) => entries.next());
  await space.append(1, randomPayload(1024));
  await Promise.all(waiting);
  await fill(space, bytes);
  const after = await memory();
  const { readAhead } = node.summary().memory;
  for (const entries of all) await entries.return(undefined);
  return {
    subscribers,
    rssMb: after.rssMb - before.rssMb,
    heapMb: after.heapMb - before.heapMb,
    buffersMb: after.buffersMb - before.buffersMb,
    readAheadMb: readAhead / MiB,
  };
}

async function tenant(node, { spaces: count, bytes, reads }) {
  const small = await node.openSpace('small');
  const spaces = await Promise.all(
    Array.from({ length: count }, (_, n) => node.openSpace(`space-${n}`)),
  );
  const payload = randomPayload(1024);
  await small.append(1, payload);
  for (let n = 0; node.summary().durableLsn < bytes; n++) {
    const some = Array.from({ length: 200 }, (_, i) => spaces[(200 * n + i) % count]);
    await Promise.all(some.map((space) => space.append(1, payload)));
  }
  await small.append(1, payload);
  const took = new Samples(reads);
  const before = bytesRead();
  for (let n = 0; n < reads; n++) {
    const begun = performance.now();
    let entries = 0;
    for await (const _ of small.read()) entries++;
    took.add(performance.now() - begun);
    if (entries !== 2) throw new Error(`${entries} entries of a tenant that has two`);
  }
  const [p50Ms, p99Ms] = took.percentiles([50, 99]);
  const { segments, durableLsn } = node.summary();
  const bytesPerRead = (bytesRead() - before) / reads;
  return { spaces: count, segments, logMb: durableLsn / MiB, p50Ms, p99Ms, bytesPerRead };
}

await runJob(async ({ node: options, kind, ...job }) => {
  const node = await openNode(options);
  try {
    return await (kind === 'idle' ? idle(node, job) : tenant(node, job));
  } finally {
    await node.close();
  }
});
