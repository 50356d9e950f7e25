/**
 * A primary whose first replica is healthy; what happens to the others after the mark must not show.
 * First as fast as the disk and the healthy replica take it, then at a fixed offered rate.
 */
import { openNode } from '#src/main/index.js';
import { cpuSeconds, randomPayload, runJob, sleep, turn, whenStreaming } from './child.mjs';
import { offer } from './offer.mjs';

const TYPE = 1;
const ENTRY_HEADER_BYTES = 64;
const HEALTHY = 'replica-1';
const WARM_UP_MS = 1_000;
/** From the mark on: until what is done to the other replicas is done. */
const SETTLE_MS = 500;

await runJob(async (job) => {
  const node = await openNode(job.node);
  const space = await node.openSpace('bench');
  const replicas = job.node.replicas.length;
  await whenStreaming(space, replicas);
  const payload = randomPayload(job.payloadBytes);
  await space.append(TYPE, payload, { ack: { replicas } });
  const lead = Math.ceil(job.leadBytes / (ENTRY_HEADER_BYTES + payload.length));
  process.send({ kind: 'mark' });
  await sleep(SETTLE_MS);
  await caughtUp(space, await drive(space, payload, job.burst, lead, WARM_UP_MS));

  const cpu = process.cpuUsage();
  const start = performance.now();
  const first = space.status().lastSequence;
  const last = await drive(space, payload, job.burst, lead, job.seconds * 1_000);
  await caughtUp(space, last);
  const seconds = (performance.now() - start) / 1_000;
  const entries = last - first;
  const { cpuSeconds: used } = cpuSeconds(cpu);

  const offered = await offer(space, payload, job.rate, job.seconds * 1_000, 1);
  await caughtUp(space, space.status().lastSequence);
  const { spaces, memory } = node.status();
  const others = spaces[0].replicas.filter((r) => r.replicaId !== HEALTHY);
  const result = {
    entries,
    seconds,
    entriesPerSecond: entries / seconds,
    cpuMicrosPerEntry: (used * 1e6) / entries,
    offeredPerSecond: job.rate,
    ackedPerSecond: offered.entriesPerSecond,
    failed: offered.failed,
    appendP50Ms: offered.appendP50Ms,
    appendP99Ms: offered.appendP99Ms,
    appendP999Ms: offered.appendP999Ms,
    lagP99Ms: offered.lagP99Ms,
    maxRssBytes: process.resourceUsage().maxRSS * 1024,
    slabsInUse: memory.inUse,
    othersBehindEntries: others.length > 0 ? Math.min(...others.map((r) => r.lagEntries)) : 0,
  };
  await node.close();
  return result;
});

function healthy(space) {
  return space.status().replicas.find((r) => r.replicaId === HEALTHY).ackedSequence;
}

/** The healthy replica has flushed it. */
async function caughtUp(space, sequence) {
  const deadline = performance.now() + 60_000;
  while (healthy(space) < sequence) {
    if (performance.now() > deadline) throw new Error('the healthy replica does not catch up');
    await sleep(1);
  }
}

/**
 * Appends in bursts, one a turn of the event loop. Waits where the budget is used up, or where the
 * healthy replica is `lead` entries behind. @returns the last sequence
 */
async function drive(space, payload, burst, lead, ms) {
  const end = performance.now() + ms;
  let { lastSequence: last } = space.status();
  let acked = healthy(space);
  while (performance.now() < end) {
    // Looked up only where it matters: the cost of a status grows with its replicas.
    if (last + burst > acked + lead) acked = healthy(space);
    const room = Math.min(burst, acked + lead - last);
    let n = 0;
    for (; n < room; n++) {
      const sequence = space.tryAppend(TYPE, payload);
      if (sequence === undefined) break;
      last = sequence;
    }
    // Spinning would take the processor from those that we wait for.
    if (n < room || room < burst) await sleep(1);
    else await turn();
  }
  return last;
}
