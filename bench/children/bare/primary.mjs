/**
 * The bare primary: stages, seals, writes, fdatasyncs and ships, with no interface, no spaces and no
 * promises. At full rate, or at an offered one.
 */
import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import { cpuSeconds, randomPayload, runJob, sleep, turn } from '../child.mjs';
import { entriesOf, WARM_UP } from '../drive.mjs';
import { Samples } from '../samples.mjs';
import { Bare } from './bare.mjs';
import { openFiles } from './group.mjs';
import { WORD } from './pipeline.mjs';

const TICK_MS = 1;

await runJob(async (job) => {
  const { replicas: ports } = job.node;
  const fds = openFiles(job.node.dataDir);
  const bare = new Bare(ports.length);
  const { shared } = bare.groups.ring;
  const tellsAcks = job.rate !== undefined;
  const thread = (name, data) =>
    new Worker(new URL(name, import.meta.url), { workerData: { shared, ...data } });
  const sealer = thread('thread.mjs', { job: 'seal' });
  const writer = thread('thread.mjs', { job: 'write', fds });
  const shippers = ports.map(({ port }, index) => {
    return thread('shipper.mjs', { index, port, tellsAcks });
  });
  await Promise.all(shippers.map((shipper) => once(shipper, 'message')));
  for (const one of [writer, ...shippers]) one.on('message', () => bare.woken());
  for (const one of [sealer, writer, ...shippers]) {
    one.on('error', (error) => {
      process.send({ kind: 'failed', message: String(error.stack) });
      process.exit(1);
    });
  }
  const result = await (tellsAcks ? offered(bare, job) : full(bare, job));
  bare.groups.ring.set(WORD.ended, 1);
  // Shippers wait for the durable end alone.
  Atomics.notify(bare.groups.ring.words, WORD.durable);
  for (const one of [sealer, writer, ...shippers]) await one.terminate();
  return result;
});

// --- as children/replicate.mjs drives ours -----------------------------------------------------

async function full(bare, job) {
  const payload = randomPayload(job.payloadBytes);
  const { most, lead, warmUpBurst, warmUpLead } = entriesOf(job);
  const small = most * WARM_UP.share;
  await drive(bare, payload, warmUpBurst, warmUpLead, WARM_UP.ms, small);
  const full = small + most * WARM_UP.fullShare;
  const warm = await drive(bare, payload, job.burst, lead, WARM_UP.fullMs, full);
  await bare.until(() => bare.acked >= warm);
  process.send({ kind: 'mark' });
  globalThis.benchThreads?.mark();
  const cpu = process.cpuUsage();
  const start = performance.now();
  const last = await drive(bare, payload, job.burst, lead, job.seconds * 1000, most);
  await bare.until(() => bare.durable >= last);
  const durableMs = performance.now() - start;
  await bare.until(() => bare.acked >= last);
  const seconds = (performance.now() - start) / 1000;
  const entries = last - warm;
  const watched = globalThis.benchThreads?.read();
  return {
    ...(watched ? { watched } : {}),
    lastSequence: last,
    entries,
    seconds,
    entriesPerSecond: entries / seconds,
    localPerSecond: (entries / durableMs) * 1000,
    ...usedSince(cpu, entries),
  };
}

async function drive(bare, payload, burst, lead, ms, most) {
  const end = performance.now() + ms;
  let last = bare.groups.next - 1;
  while (performance.now() < end && last < most) {
    let room = burst;
    if (lead > 0) room = Math.min(room, bare.acked + lead - last);
    const nowNs = process.hrtime.bigint();
    let n = 0;
    for (; n < room && bare.tryAppend(payload, nowNs); n++);
    last += n;
    bare.groups.pump();
    if (n < room || room < burst) await sleep(1);
    else await turn();
  }
  return last;
}

function usedSince(cpu, entries) {
  const used = cpuSeconds(cpu);
  return {
    primaryCpuMicrosPerEntry: (used.cpuSeconds * 1e6) / entries,
    primarySystemMicrosPerEntry: (used.systemSeconds * 1e6) / entries,
    primaryMaxRssBytes: process.resourceUsage().maxRSS * 1024,
  };
}

// --- as children/offer.mjs offers to ours ------------------------------------------------------

async function offered(bare, job) {
  const payload = randomPayload(job.payloadBytes);
  await offer(bare, payload, job.rate, WARM_UP.offeredMs);
  process.send({ kind: 'mark' });
  globalThis.benchThreads?.mark();
  const figures = await offer(bare, payload, job.rate, job.seconds * 1000);
  const watched = globalThis.benchThreads?.read();
  return { ...figures, ...(watched ? { watched } : {}), lastSequence: bare.groups.next - 1 };
}

async function offer(bare, payload, rate, ms) {
  const entries = Math.floor((rate * ms) / 1000);
  const perTick = (rate * TICK_MS) / 1000;
  const acks = new Samples(entries);
  const lags = new Samples(entries);
  const late = new Samples(entries);
  const before = bare.groups.next - 1;
  let durable = 0;
  let acked = 0;
  const durableMs = new Float64Array(entries);
  const cpu = process.cpuUsage();
  const start = performance.now();
  const dueOf = (n) => start + Math.floor(n / perTick) * TICK_MS;
  bare.heard = () => {
    const now = performance.now();
    for (const to = bare.durable - before; durable < to; durable++) {
      acks.add(now - dueOf(durable));
      durableMs[durable] = now;
    }
    // Durable here is heard of first: an acknowledgement may overtake it.
    for (const to = Math.min(durable, bare.acked - before); acked < to; acked++) {
      lags.add(now - durableMs[acked]);
    }
  };
  let sent = 0;
  while (sent < entries) {
    const tick = Math.floor((performance.now() - start) / TICK_MS);
    const dueByNow = Math.min(entries, Math.floor((tick + 1) * perTick));
    const nowNs = process.hrtime.bigint();
    for (; sent < dueByNow && bare.tryAppend(payload, nowNs); sent++) {
      late.add(performance.now() - dueOf(sent));
    }
    bare.groups.pump();
    await sleep(TICK_MS);
  }
  await bare.until(() => acked >= entries);
  const seconds = (performance.now() - start) / 1000;
  // Before the samples are sorted: that is no work of a log.
  const used = usedSince(cpu, entries);
  bare.heard = () => undefined;
  const [p50, p99, p999, max] = acks.percentiles([50, 99, 99.9, 100]);
  const [lag50, lag99, lag999, lagMax] = lags.percentiles([50, 99, 99.9, 100]);
  return {
    entries,
    failed: 0,
    seconds,
    entriesPerSecond: entries / seconds,
    appendP50Ms: p50,
    appendP99Ms: p99,
    appendP999Ms: p999,
    appendMaxMs: max,
    lagP50Ms: lag50,
    lagP99Ms: lag99,
    lagP999Ms: lag999,
    lagMaxMs: lagMax,
    sendLateP99Ms: late.percentiles([99])[0],
    ...used,
  };
}
