/** A primary under a fixed offered rate, followed to its replicas. */
import { openNode } from '#src/main/index.js';
import { randomPayload, runJob, whenStreaming } from './child.mjs';
import { WARM_UP } from './drive.mjs';
import { offer } from './offer.mjs';

await runJob(async (job) => {
  const node = await openNode(job.node);
  try {
    const replicas = job.node.replicas.length;
    const space = await node.openSpace('bench');
    await whenStreaming(space, replicas);
    const payload = randomPayload(job.payloadBytes);
    await offer(space, payload, job.rate, WARM_UP.offeredMs, replicas);
    process.send({ kind: 'mark' });
    const { cpuSeconds, systemSeconds, ...run } = await offer(
      space,
      payload,
      job.rate,
      job.seconds * 1000,
      replicas,
    );
    return {
      ...run,
      lastSequence: space.status().lastSequence,
      primaryCpuMicrosPerEntry: (cpuSeconds * 1e6) / run.entries,
      primarySystemMicrosPerEntry: (systemSeconds * 1e6) / run.entries,
    };
  } finally {
    await node.close();
  }
});
