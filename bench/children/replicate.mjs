/** A primary at full rate: until both replicas have flushed the last entry. */
import { openNode } from '#src/main/index.js';
import { cpuSeconds, randomPayload, runJob, sleep, textPayloads, whenStreaming } from './child.mjs';
import { drive, entriesOf, warmUp } from './drive.mjs';

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
    const { most, lead } = entriesOf(job);
    const warm = await warmUp(space, payloads, job, replicas);

    process.send({ kind: 'mark' });
    const cpu = process.cpuUsage();
    const start = performance.now();
    const last = await drive(space, payloads, job.burst, lead, job.seconds * 1000, most, replicas);
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

/** Per entry that was shipped; as the node tells it, once a second. */
async function wireFigures(node, last) {
  await sleep(1_500);
  const { rawBytes, sentBytes } = node.status().replicas[0].traffic;
  return { rawBytesPerEntry: rawBytes / last, sentBytesPerEntry: sentBytes / last };
}
