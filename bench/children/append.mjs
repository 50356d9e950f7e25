/** Local appends: first how many a second become durable, then how long one waits for its ack. */
import { openNode } from '#src/main/index.js';
import { cpuSeconds, randomPayload, runJob, turn } from './child.mjs';
import { Samples } from './samples.mjs';

const TYPE = 1;
const ENTRY_HEADER_BYTES = 64;
const SAMPLES_MAX = 4_000_000;

await runJob(async (job) => {
  const node = await openNode(job.node);
  try {
    const space = await node.openSpace('bench');
    const payload = randomPayload(job.payloadBytes);
    const third = job.maxBytes / 3 / (ENTRY_HEADER_BYTES + job.payloadBytes);
    const thrown = await throughput(space, payload, job, 2 * third);
    const acked = await acks(space, payload, job, third);
    return { ...thrown, ...acked };
  } finally {
    await node.close();
  }
});

/** Closed loop: as fast as the budget allows, until the last entry is durable. */
async function throughput(space, payload, { seconds, burst }, most) {
  const cpu = process.cpuUsage();
  const start = performance.now();
  const end = start + seconds * 1000;
  let last = 0;
  while (performance.now() < end && last < most) {
    for (let n = 0; n < burst; n++) {
      const sequence = space.tryAppend(TYPE, payload);
      if (sequence === undefined) break;
      last = sequence;
    }
    await turn();
  }
  await space.flushed(last, { timeoutMs: 60_000 });
  const took = (performance.now() - start) / 1000;
  const used = cpuSeconds(cpu);
  return {
    entries: last,
    seconds: took,
    entriesPerSecond: last / took,
    cpuMicrosPerEntry: (used.cpuSeconds * 1e6) / last,
    systemMicrosPerEntry: (used.systemSeconds * 1e6) / last,
  };
}

/** So many callers, each waiting for its ack before it appends again. */
async function acks(space, payload, { seconds, callers }, most) {
  const samples = new Samples(SAMPLES_MAX);
  const start = performance.now();
  const end = start + seconds * 1000;
  let appended = 0;
  const caller = async () => {
    while (performance.now() < end && appended < most) {
      appended++;
      const at = performance.now();
      await space.append(TYPE, payload);
      samples.add(performance.now() - at);
    }
  };
  await Promise.all(Array.from({ length: callers }, caller));
  const took = (performance.now() - start) / 1000;
  const [p50, p99, p999] = samples.percentiles([50, 99, 99.9]);
  return {
    callers,
    ackedPerSecond: appended / took,
    appendP50Ms: p50,
    appendP99Ms: p99,
    appendP999Ms: p999,
  };
}
