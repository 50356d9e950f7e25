/**
 * A primary whose entries are spread over so many spaces, one after the other: round by round, as
 * it is told. At the end: what it costs to look at it, and to open it again.
 */
import { openNode } from '#src/main/index.js';
import { cpuSeconds, randomPayload, runJob, sleep, turn } from './child.mjs';
import { Samples } from './samples.mjs';

const TYPE = 1;
const ENTRY_HEADER_BYTES = 64;
const WARM_UP_MS = 1_000;
/** Of what a round may append. */
const WARM_UP_SHARE = 1 / 4;
/** Spaces opened beside each other. */
const OPENED_A_TURN = 250;
/** For so long no replica flushes anything of what it lacks, and the run has failed. */
const STANDSTILL_MS = 30_000;
const LOOKS = 5;
const OPENINGS = 3;
const MIB = 2 ** 20;

class Driver {
  #spaces;
  #payload;
  #burst;
  #lead;
  #next = 0;
  /** The last entry of each burst that not every replica has yet, as far as was looked. */
  #open = [];
  #acked = 0;
  #movedMs = 0;
  #appended = 0;

  constructor(spaces, payload, { burst, leadBytes }) {
    this.#spaces = spaces;
    this.#payload = payload;
    this.#burst = burst;
    this.#lead = Math.ceil(leadBytes / (ENTRY_HEADER_BYTES + payload.length));
  }

  /** Until the last entry is flushed on every replica. @returns how many were appended */
  async drive(ms, most) {
    const before = this.#appended;
    const end = performance.now() + ms;
    this.#movedMs = performance.now();
    while (performance.now() < end && this.#appended - before < most) {
      this.#look();
      if (this.#appended - this.#acked >= this.#lead || !this.#appendBurst()) await sleep(1);
      else await turn();
    }
    while (this.#open.length > 0) {
      await sleep(1);
      this.#look();
    }
    return this.#appended - before;
  }

  /** @returns whether there was room for all of it */
  #appendBurst() {
    const spaces = this.#spaces;
    let last;
    let n = 0;
    for (; n < this.#burst; n++) {
      const space = spaces[this.#next];
      const sequence = space.tryAppend(TYPE, this.#payload);
      if (sequence === undefined) break;
      last = { space, sequence };
      this.#next = (this.#next + 1) % spaces.length;
    }
    this.#appended += n;
    if (last) this.#open.push({ ...last, appended: this.#appended });
    return n === this.#burst;
  }

  /** Throws where nothing moves any more. */
  #look() {
    while (this.#open.length > 0) {
      const { space, sequence, appended } = this.#open[0];
      const status = space.status();
      if (status.minAckedSequence < sequence) {
        this.#checkMoves(status, sequence);
        return;
      }
      this.#acked = appended;
      this.#movedMs = performance.now();
      this.#open.shift();
    }
  }

  #checkMoves({ name, durableSequence, replicas }, sequence) {
    if (performance.now() - this.#movedMs < STANDSTILL_MS) return;
    const stand = replicas.map((r) => `${r.replicaId}: ${r.ackedSequence}, ${r.reason}`);
    const lacks = `entry ${sequence} of ${name}, durable here: ${durableSequence}`;
    throw new Error(`nothing moved for ${STANDSTILL_MS} ms: ${lacks}; ${stand.join('; ')}`);
  }
}

/** So many are opened beside each other. */
async function openSpaces(node, names) {
  const spaces = [];
  while (spaces.length < names.length) {
    const some = names.slice(spaces.length, spaces.length + OPENED_A_TURN);
    spaces.push(...(await Promise.all(some.map((name) => node.openSpace(name)))));
  }
  return spaces;
}

/** Until every replica streams every one of them. */
async function whenAllStream(spaces, count) {
  let movedMs = performance.now();
  for (let n = 0; n < spaces.length; ) {
    const { name, replicas } = spaces[n].status();
    if (replicas.filter(({ state }) => state === 'streaming').length === count) {
      n++;
      movedMs = performance.now();
    } else if (performance.now() - movedMs < STANDSTILL_MS) await sleep(10);
    else {
      const stand = replicas.map((r) => `${r.replicaId}: ${r.state}, ${r.reason}`);
      throw new Error(`${name} is not streamed for ${STANDSTILL_MS} ms: ${stand.join('; ')}`);
    }
  }
}

const rssMib = () => {
  globalThis.gc?.();
  return process.memoryUsage.rss() / MIB;
};

/** The median time of `work`; so long is waited before each. */
async function medianMs(work, restMs = 0) {
  const took = new Samples(LOOKS);
  for (let n = 0; n < LOOKS; n++) {
    await sleep(restMs);
    const before = performance.now();
    await work();
    took.add(performance.now() - before);
  }
  return took.percentiles([50])[0];
}

/** What those who operate it ask for, over HTTP; the first scrape starts a thread. */
async function looks(node) {
  const { host, port } = node.httpAddress;
  let scrapeBytes = null;
  const get = (place) => async () => {
    const answer = await fetch(`http://${host}:${port}${place}`);
    const body = await answer.text();
    if (!answer.ok) throw new Error(`${answer.status} ${body}`);
    if (place === '/metrics') scrapeBytes = body.length;
  };
  await orNothing('the first scrape', get('/metrics'));
  const cpu = process.cpuUsage();
  const scrapeMs = await orNothing('a scrape', () => medianMs(get('/metrics')));
  const scrapeCpuMs = scrapeMs && (cpuSeconds(cpu).cpuSeconds * 1e3) / LOOKS;
  // The board looks once a second at most: each of these makes it look.
  const status = () => medianMs(get('/replication/status'), 1_000);
  const httpStatusMs = await orNothing('the status', status);
  const statusMs = await medianMs(() => node.status());
  return { scrapeMs, scrapeCpuMs, scrapeBytes, httpStatusMs, statusMs };
}

/** What cannot be had is said, and costs nothing of what was measured before. */
async function orNothing(what, work) {
  try {
    return await work();
  } catch (error) {
    process.stderr.write(`tenants: no figure of ${what}: ${error}, ${error.cause ?? ''}\n`);
    return null;
  }
}

function told() {
  return new Promise((resolve) => process.once('message', resolve));
}

await runJob(async (job) => {
  let node = await openNode(job.node);
  try {
    const before = rssMib();
    const names = Array.from({ length: job.spaces }, (_, n) => (n ? `space-${n}` : 'bench'));
    const replicas = job.node.replicas.length;
    const began = performance.now();
    const cpu = process.cpuUsage();
    const spaces = await openSpaces(node, names);
    const createdMs = performance.now() - began;
    await whenAllStream(spaces, replicas);
    const introducedMs = performance.now() - began - createdMs;
    const createdCpuMs = cpuSeconds(cpu).cpuSeconds * 1e3;
    const createdRssMib = rssMib() - before;
    const driver = new Driver(spaces, randomPayload(job.payloadBytes), job);
    await driver.drive(WARM_UP_MS, job.mostEntries * WARM_UP_SHARE);
    process.send({
      kind: 'ready',
      figures: { createdMs, createdCpuMs, introducedMs, createdRssMib },
    });

    for (let message = await told(); message.kind === 'round'; message = await told()) {
      process.send({ kind: 'mark' });
      globalThis.benchThreads?.mark();
      const cpu = process.cpuUsage();
      const start = performance.now();
      const entries = await driver.drive(job.seconds * 1_000, job.mostEntries);
      const seconds = (performance.now() - start) / 1_000;
      const used = cpuSeconds(cpu);
      const figures = {
        entries,
        seconds,
        entriesPerSecond: entries / seconds,
        primaryCpuMicrosPerEntry: (used.cpuSeconds * 1e6) / entries,
        primaryMaxRssBytes: process.resourceUsage().maxRSS * 1024,
      };
      // Only where a process is watched (children/threads.cjs).
      const watched = globalThis.benchThreads?.read();
      globalThis.benchThreads?.endProfiles();
      process.send({ kind: 'round', figures, watched });
    }

    for (const space of spaces) {
      const { lastSequence } = space.status();
      await space.flushed(lastSequence, { replicas, timeoutMs: STANDSTILL_MS });
    }
    const { lastSequence } = spaces[0].status();
    const opened = new Samples(OPENINGS);
    for (let n = 1; n <= OPENINGS; n++) {
      await node.close();
      const closed = performance.now();
      // The last one is looked at. Not while it works: what a look costs is told by itself.
      node = await openNode({ ...job.node, ...(n === OPENINGS ? { http: { port: 0 } } : {}) });
      opened.add(performance.now() - closed);
    }
    const again = names.map((name) => node.space(name));
    await whenAllStream(again, replicas);
    const looked = await looks(node);
    return { lastSequence, ...looked, openedMs: opened.percentiles([50])[0] };
  } finally {
    await node.close();
  }
});
