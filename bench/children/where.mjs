/** A primary at full rate or at an offered one, whose threads are watched (threads.cjs). */
import { openNode } from '#src/main/index.js';
import { randomPayload, runJob, sleep, whenStreaming } from './child.mjs';
import { drive, entriesOf, WARM_UP, warmUp } from './drive.mjs';

const TYPE = 1;
const TICK_MS = 1;
const MIB = 1024 * 1024;

await runJob(async (job) => {
  const node = await openNode(job.node);
  try {
    const replicas = job.node.replicas.length;
    const space = await node.openSpace('bench');
    await whenStreaming(space, replicas);
    const payload = randomPayload(job.payloadBytes);
    const load = job.rate ? offered : full;
    if (job.rate) await offered(space, payload, job, WARM_UP.offeredMs, replicas);
    else await warmUp(space, [payload], job, replicas);
    process.send({ kind: 'mark' });
    globalThis.benchThreads?.mark();
    // strace takes its time to attach; what it counts until then is little.
    await sleep(job.settleMs);
    const start = performance.now();
    const run = await load(space, payload, job, job.seconds * 1_000, replicas);
    const seconds = (performance.now() - start) / 1_000;
    const watched = globalThis.benchThreads?.read();
    globalThis.benchThreads?.endProfiles();
    // The threads that wait for words come by again: to write their profiles.
    if (job.isProfiled) await load(space, payload, job, 2_500, replicas);
    const lastSequence = space.status().lastSequence;
    return { ...run, seconds, lastSequence, watched, pid: process.pid };
  } finally {
    await node.close();
  }
});

async function full(space, payload, job, ms, replicas) {
  const before = space.status().lastSequence;
  const { most, lead } = entriesOf(job);
  const last = await drive(space, [payload], job.burst, lead, ms, most, replicas);
  await space.flushed(last, { replicas, timeoutMs: 60_000 });
  return { entries: last - before, samples: [] };
}

/** Entries are due in bursts, one each millisecond; the last one of each is followed. */
async function offered(space, payload, job, ms, replicas) {
  const perTick = (job.rate * TICK_MS) / 1_000;
  const entries = Math.floor((job.rate * ms) / 1_000);
  const samples = [];
  const rss = [];
  const follow = async (calledMs) => {
    const { sequence } = await space.append(TYPE, payload);
    const ackedMs = sharedMs();
    await space.flushed(sequence, { replicas, timeoutMs: 60_000 });
    samples.push([sequence, calledMs, ackedMs, sharedMs()]);
  };
  const pending = [];
  const start = performance.now();
  let sent = 0;
  let ticks = 0;
  while (sent < entries) {
    const tick = Math.floor((performance.now() - start) / TICK_MS);
    const due = Math.min(entries, Math.floor((tick + 1) * perTick));
    for (; sent < due - 1; sent++) space.append(TYPE, payload).catch(() => undefined);
    if (sent < due) {
      pending.push(follow(sharedMs()));
      sent++;
    }
    if (++ticks % 100 === 0) rss.push(process.memoryUsage.rss());
    await sleep(TICK_MS);
  }
  await Promise.all(pending);
  const late = rss.slice(Math.floor(rss.length / 2)).sort((a, b) => a - b);
  return { entries, samples, rssMib: (late[Math.floor(late.length / 2)] ?? 0) / MIB };
}

/** The clock that all threads and processes of a machine share. */
function sharedMs() {
  const [s, ns] = process.hrtime();
  return s * 1e3 + ns / 1e6;
}
