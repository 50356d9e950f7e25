/**
 * Appends for some seconds; with `checkpointSegments` the host gives up what is older than so many
 * segments, which are freed and recycled meanwhile.
 */
import { openNode } from '#src/main/index.js';
import { cpuSeconds, randomPayload, runJob, turn } from './child.mjs';

const WARM_UP_RECYCLED = 8;

await runJob(async ({ node: options, payloadBytes, seconds, burst, checkpointSegments }) => {
  const node = await openNode(options);
  const space = await node.openSpace('bench');
  const payload = randomPayload(payloadBytes);
  const perSegment = Math.floor((64 * 1024 * 1024) / (64 + payloadBytes));
  let last = 0;
  let given = 0;
  const step = async () => {
    for (let n = 0; n < burst; n++) {
      const sequence = space.tryAppend(1, payload);
      if (sequence === undefined) break;
      last = sequence;
    }
    await turn();
    if (!checkpointSegments || last - given < (checkpointSegments + 1) * perSegment) return;
    given = last - checkpointSegments * perSegment;
    void space.checkpoint(given).catch((error) => process.emitWarning(error));
  };
  // Until every new segment is one that was freed before.
  const { retention } = node.status();
  while (checkpointSegments && node.status().retention.recycledSegments < WARM_UP_RECYCLED) {
    await step();
  }
  for (let end = performance.now() + 1_000; performance.now() < end; ) await step();
  await space.flushed(last, { timeoutMs: 60_000 });
  const first = last;
  const recycledBefore = node.status().retention.recycledSegments;
  const cpu = process.cpuUsage();
  const start = performance.now();
  while (performance.now() < start + seconds * 1_000) await step();
  await space.flushed(last, { timeoutMs: 60_000 });
  const took = (performance.now() - start) / 1_000;
  const after = node.status();
  await node.close();
  const entries = last - first;
  return {
    entries,
    seconds: took,
    entriesPerSecond: entries / took,
    cpuMicrosPerEntry: (cpuSeconds(cpu).cpuSeconds * 1e6) / entries,
    recycledSegments: after.retention.recycledSegments - recycledBefore,
    retainedBytes: after.retention.retainedBytes - retention.retainedBytes,
  };
});
