/** Writes a log of about `bytes`; then closes it cleanly, or is killed with all of it durable. */
import { openNode } from '#src/main/index.js';
import { randomPayload, runJob, turn } from './child.mjs';

await runJob(async ({ node: options, payloadBytes, bytes, isKilled }) => {
  const node = await openNode(options);
  const space = await node.openSpace('bench');
  const payload = randomPayload(payloadBytes);
  let last = 0;
  // At least once: a log that is long enough already is written on, too.
  do {
    for (let n = 0; n < 1_024; n++) {
      const sequence = space.tryAppend(1, payload);
      if (sequence === undefined) break;
      last = sequence;
    }
    await turn();
  } while (node.status().durableLsn < bytes);
  await space.flushed(last, { timeoutMs: 60_000 });
  if (isKilled) {
    // Told first: nobody can answer after it.
    process.send({ kind: 'result', result: { entries: last } }, () => {
      process.kill(process.pid, 'SIGKILL');
    });
    await new Promise(() => undefined);
  }
  await node.close();
  return { entries: last };
});
