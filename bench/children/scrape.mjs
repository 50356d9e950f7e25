// A primary with many spaces and its replicas: how long scrapes take, what they do to appends, and
// what the lag monitor costs under load, polling often or never.
import { openNode } from '#src/main/index.js';
import { cpuSeconds, randomPayload, runJob, sleep } from './child.mjs';
import { Samples } from './samples.mjs';

const PAYLOAD_BYTES = 256;
const RATE = 5_000;

await runJob(async ({ node: options, spaces: count, scrapes, seconds, lagPollMs }) => {
  const node = await openNode({ ...options, lagPollMs });
  try {
    const spaces = await Promise.all(
      Array.from({ length: count }, (_, n) => node.openSpace(n === 0 ? 'bench' : `space-${n}`)),
    );
    const payload = randomPayload(PAYLOAD_BYTES);
    const replicas = options.replicas.length;
    await Promise.all(spaces.map((space) => space.append(1, payload)));
    await Promise.all(spaces.map((space) => space.flushed(1, { replicas, timeoutMs: 60_000 })));
    // The thread begins with the first scrape, and learns the names.
    await node.metrics();
    const took = new Samples(scrapes);
    let bytes = 0;
    for (let n = 0; n < scrapes; n++) {
      const before = performance.now();
      const { body } = await node.metrics();
      took.add(performance.now() - before);
      bytes = body.length;
    }
    const offer = (work) => offerFor(spaces, payload, seconds * 1_000, work);
    await offer();
    const before = process.cpuUsage();
    const quiet = await offer();
    const { cpuSeconds: cpu } = cpuSeconds(before);
    const scraped = await offer(() => node.metrics());
    const [scrapeP50Ms, scrapeP99Ms] = took.percentiles([50, 99]);
    const [appendP50Ms, appendP99Ms] = quiet.percentiles([50, 99]);
    const [appendP50DuringScrapesMs, appendP99DuringScrapesMs] = scraped.percentiles([50, 99]);
    return {
      scrapeP50Ms,
      scrapeP99Ms,
      scrapeBytes: bytes,
      appendP50Ms,
      appendP99Ms,
      appendP50DuringScrapesMs,
      appendP99DuringScrapesMs,
      cpuMicrosPerEntry: (cpu * 1e6) / quiet.count,
    };
  } finally {
    await node.close();
  }
});

/** Appends at a fixed rate, over all spaces in turn; `work` again and again beside it. */
async function offerFor(spaces, payload, ms, work) {
  const samples = new Samples(Math.ceil((RATE * ms) / 1_000));
  const pending = [];
  let isOver = false;
  const beside = (async () => {
    while (work && !isOver) {
      await work();
      await sleep(100);
    }
  })();
  const begin = performance.now();
  let sent = 0;
  for (;;) {
    const now = performance.now() - begin;
    if (now >= ms) break;
    const due = Math.floor((RATE * now) / 1_000);
    for (; sent < due; sent++) {
      const dueMs = begin + (1_000 * sent) / RATE;
      const space = spaces[sent % spaces.length];
      pending.push(space.append(1, payload).then(() => samples.add(performance.now() - dueMs)));
    }
    await sleep(1);
  }
  await Promise.all(pending);
  isOver = true;
  await beside;
  return samples;
}
