/** How long does it take to open a log, until the first entry behind it is acknowledged? */
import { openNode } from '#src/main/index.js';
import { runJob } from './child.mjs';

await runJob(async ({ node: options }) => {
  const before = performance.now();
  const node = await openNode(options);
  const openMs = performance.now() - before;
  const space = await node.openSpace('bench');
  await space.append(1, new Uint8Array(8));
  const firstAckMs = performance.now() - before;
  const { durableSequence } = space.status();
  const { durableLsn } = node.status();
  await node.close();
  return { entries: durableSequence, logBytes: durableLsn, openMs, firstAckMs };
});
