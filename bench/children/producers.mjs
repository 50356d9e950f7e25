/** Entries of one space as fast as they go: from main (`threads` 0), or from threads of the host. */
import fs from 'node:fs';
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';
import { attachProducer, openNode } from '#src/main/index.js';
import { cpuSeconds, randomPayload, runJob, turn } from './child.mjs';

const TYPE = 1;
const ENTRY_HEADER_BYTES = 64;
/** Appends with a promise that are on their way at once, in all. */
const AT_ONCE = 2_048;
const BURST = 256;

if (isMainThread) await runJob(measured);
else await inThread(workerData);

async function measured(job) {
  const node = await openNode(job.node);
  try {
    const space = await node.openSpace('bench');
    const threads = Array.from({ length: job.threads }, () => {
      const data = { ...job, producer: space.producer() };
      return new Worker(new URL(import.meta.url), { workerData: data });
    });
    // Begun, and each has appended: what is measured is no thread's start.
    await Promise.all(threads.map(said));
    const before = space.status().durableSequence;
    const cpu = process.cpuUsage();
    const mainCpu = mainMicros();
    const start = performance.now();
    for (const thread of threads) thread.postMessage('go');
    if (threads.length === 0) await append(space, job);
    else await Promise.all(threads.map(said));
    await space.flushed(space.status().lastSequence, { timeoutMs: 60_000 });
    const tookMs = performance.now() - start;
    const entries = space.status().durableSequence - before;
    return {
      entries,
      seconds: tookMs / 1000,
      entriesPerSecond: (entries * 1000) / tookMs,
      mainMicrosPerEntry: (mainMicros() - mainCpu) / entries,
      cpuMicrosPerEntry: (cpuSeconds(cpu).cpuSeconds * 1e6) / entries,
    };
  } finally {
    await node.close();
  }
}

/** Processor time of the main thread: its id is the process's. */
function mainMicros() {
  const stat = fs.readFileSync(`/proc/self/task/${process.pid}/schedstat`, 'utf8');
  return Number(stat.split(' ')[0]) / 1000;
}

function said(thread) {
  return new Promise((resolve, reject) => {
    thread.once('message', resolve);
    thread.once('error', reject);
  });
}

async function inThread(job) {
  const p = attachProducer(job.producer);
  await p.append(TYPE, randomPayload(job.payloadBytes));
  const go = new Promise((resolve) => parentPort.once('message', resolve));
  parentPort.postMessage('begun');
  await go;
  await append(p, job);
  await p.close();
  parentPort.postMessage('done');
}

/** @param to a space, or a producer */
async function append(to, { how, threads, seconds, maxBytes, payloadBytes }) {
  const share = Math.max(1, threads);
  const payload = randomPayload(payloadBytes);
  const most = maxBytes / (ENTRY_HEADER_BYTES + payloadBytes) / share;
  const end = performance.now() + seconds * 1000;
  let appended = 0;
  const isOver = () => performance.now() > end || appended > most;
  if (how === 'append') {
    const caller = async () => {
      while (!isOver()) {
        appended++;
        await to.append(TYPE, payload);
      }
    };
    await Promise.all(Array.from({ length: AT_ONCE / share }, caller));
    return;
  }
  while (!isOver()) {
    for (let n = 0; n < BURST && to.tryAppend(TYPE, payload); n++) appended++;
    await turn();
  }
}
