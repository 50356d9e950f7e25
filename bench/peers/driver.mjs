/**
 * The client of one peer, in a process of its own: so many batches are in flight, each is sent again
 * as soon as it is acknowledged (a closed loop). What it sends was made before the clock started.
 */
import { cpuSeconds, randomPayload, runJob, sleep } from '../children/child.mjs';
import { Samples } from '../children/samples.mjs';

const WARM_UP_MS = 1_000;
const SAMPLES_MAX = 1_000_000;

await runJob(async (job) => {
  const { connect } = await import(`./clients/${job.client}.mjs`);
  const { batch, inFlight, payloadBytes } = job;
  const payloads = Array.from({ length: batch }, () => randomPayload(payloadBytes));
  const client = await connect(job.at, { payloads, inFlight });
  try {
    await drive(client, inFlight, WARM_UP_MS);
    process.send({ kind: 'mark' });
    // The parent reads how much processor time was used until now.
    await sleep(100);
    const samples = new Samples(SAMPLES_MAX);
    const cpu = process.cpuUsage();
    const start = performance.now();
    const batches = await drive(client, inFlight, job.seconds * 1_000, samples);
    const seconds = (performance.now() - start) / 1_000;
    const entries = batches * batch;
    const [p50, p99] = samples.percentiles([50, 99]);
    return {
      entries,
      seconds,
      entriesPerSecond: entries / seconds,
      appendP50Ms: p50,
      appendP99Ms: p99,
      clientCpuSeconds: cpuSeconds(cpu).cpuSeconds,
    };
  } finally {
    await client.close();
  }
});

/** @returns how many batches were acknowledged */
async function drive(client, inFlight, ms, samples) {
  const end = performance.now() + ms;
  let done = 0;
  const loop = async (slot) => {
    while (performance.now() < end) {
      const at = performance.now();
      await client.append(slot);
      samples?.add(performance.now() - at);
      done++;
    }
  };
  await Promise.all(Array.from({ length: inFlight }, (_, slot) => loop(slot)));
  return done;
}
