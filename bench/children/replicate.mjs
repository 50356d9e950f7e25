/** A primary at full rate: until both replicas have flushed the last entry. */
import { openNode } from '#src/main/index.js';
import {
  cpuSeconds,
  randomPayload,
  runJob,
  sleep,
  textPayloads,
  turn,
  whenStreaming,
} from './child.mjs';

const TYPE = 1;
const ENTRY_HEADER_BYTES = 64;
/** How long before the clock starts: threads are up, hot code is compiled. */
const WARM_UP_MS = 1_000;
/** How many payloads of text there are, before they come again. */
const TEXTS = 4_096;

await runJob(async (job) => {
  const node = await openNode(job.node);
  try {
    const replicas = job.node.replicas.length;
    const space = await node.openSpace('bench');
    await whenStreaming(space, replicas);
    const { payloadBytes } = job;
    const payloads = job.isText ? textPayloads(payloadBytes, TEXTS) : [randomPayload(payloadBytes)];
    const entryBytes = ENTRY_HEADER_BYTES + payloadBytes;
    const most = Math.floor(job.maxBytes / entryBytes);
    const lead = Math.ceil(job.leadBytes / entryBytes);
    const warm = await drive(space, payloads, job.burst, lead, WARM_UP_MS, Math.floor(most / 8));
    await space.flushed(warm, { replicas, timeoutMs: 120_000 });

    process.send({ kind: 'mark' });
    const cpu = process.cpuUsage();
    const start = performance.now();
    const last = await drive(space, payloads, job.burst, lead, job.seconds * 1000, most);
    await space.flushed(last, { timeoutMs: 120_000 });
    const durableMs = performance.now() - start;
    await space.flushed(last, { replicas, timeoutMs: 120_000 });
    const seconds = (performance.now() - start) / 1000;
    const entries = last - warm;
    const used = cpuSeconds(cpu);
    const wire = job.isText ? await wireFigures(node, last) : {};
    return {
      ...wire,
      lastSequence: last,
      entries,
      seconds,
      entriesPerSecond: entries / seconds,
      localPerSecond: (entries / durableMs) * 1000,
      primaryCpuMicrosPerEntry: (used.cpuSeconds * 1e6) / entries,
      primarySystemMicrosPerEntry: (used.systemSeconds * 1e6) / entries,
      primaryMaxRssBytes: process.resourceUsage().maxRSS * 1024,
    };
  } finally {
    await node.close();
  }
});

/**
 * Appends in bursts, one a turn of the event loop, for `ms` or up to sequence `most`. Waits where
 * the budget is used up, or where the slower replica is `lead` entries behind.
 * @returns the last sequence
 */
async function drive(space, payloads, burst, lead, ms, most) {
  const end = performance.now() + ms;
  let last = 0;
  while (performance.now() < end && last < most) {
    let room = burst;
    if (lead > 0) room = Math.min(room, space.status().minAckedSequence + lead - last);
    let n = 0;
    for (; n < room; n++) {
      const sequence = space.tryAppend(TYPE, payloads[(last + 1) % payloads.length]);
      if (sequence === undefined) break;
      last = sequence;
    }
    // Spinning would take the processor from those that we wait for.
    if (n < room || room < burst) await sleep(1);
    else await turn();
  }
  return last;
}

/** Per entry that was shipped; as the node tells it, once a second. */
async function wireFigures(node, last) {
  await sleep(1_500);
  const { rawBytes, sentBytes } = node.status().replicas[0].traffic;
  return { rawBytesPerEntry: rawBytes / last, sentBytesPerEntry: sentBytes / last };
}
