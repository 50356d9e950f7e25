/** A primary at full rate, its entries spread over so many spaces, one after the other. */
import { openNode } from '#src/main/index.js';
import { cpuSeconds, randomPayload, runJob, sleep, turn, whenStreaming } from './child.mjs';

const TYPE = 1;
const ENTRY_HEADER_BYTES = 64;
const WARM_UP_MS = 1_000;
/** Spaces opened beside each other. */
const OPENED_A_TURN = 250;

class Driver {
  #spaces;
  #payload;
  #burst;
  #lead;
  #next = 0;
  /** The last entry of each burst that not every replica has yet, as far as was looked. */
  #open = [];
  #acked = 0;
  appended = 0;
  most;

  constructor(spaces, payload, { burst, leadBytes, maxBytes }) {
    const bytes = ENTRY_HEADER_BYTES + payload.length;
    this.#spaces = spaces;
    this.#payload = payload;
    this.#burst = burst;
    this.#lead = Math.ceil(leadBytes / bytes);
    this.most = Math.floor(maxBytes / bytes);
  }

  /** Until the last entry is flushed on every replica. */
  async drive(ms, most) {
    const end = performance.now() + ms;
    while (performance.now() < end && this.appended < most) {
      this.#look();
      if (this.appended - this.#acked >= this.#lead || !this.#appendBurst()) await sleep(1);
      else await turn();
    }
    while (this.#open.length > 0) {
      await sleep(1);
      this.#look();
    }
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
    this.appended += n;
    if (last) this.#open.push({ ...last, appended: this.appended });
    return n === this.#burst;
  }

  #look() {
    while (this.#open.length > 0) {
      const { space, sequence, appended } = this.#open[0];
      if (space.status().minAckedSequence < sequence) return;
      this.#acked = appended;
      this.#open.shift();
    }
  }
}

await runJob(async (job) => {
  let node = await openNode(job.node);
  try {
    const replicas = job.node.replicas.length;
    const began = performance.now();
    const spaces = [await node.openSpace('bench')];
    while (spaces.length < job.spaces) {
      const count = Math.min(OPENED_A_TURN, job.spaces - spaces.length);
      const names = Array.from({ length: count }, (_, n) => `space-${spaces.length + n}`);
      spaces.push(...(await Promise.all(names.map((name) => node.openSpace(name)))));
    }
    const opened = performance.now();
    const payload = randomPayload(job.payloadBytes);
    for (const space of spaces) await whenStreaming(space, replicas);
    const introducedMs = performance.now() - opened;
    const driver = new Driver(spaces, payload, job);
    await driver.drive(WARM_UP_MS, Math.floor(driver.most / 8));
    process.send({ kind: 'mark' });
    const cpu = process.cpuUsage();
    const warm = driver.appended;
    const start = performance.now();
    await driver.drive(job.seconds * 1_000, driver.most);
    const seconds = (performance.now() - start) / 1_000;
    const used = cpuSeconds(cpu);
    const entries = driver.appended - warm;
    for (const space of spaces) {
      const { lastSequence } = space.status();
      await space.flushed(lastSequence, { replicas, timeoutMs: 60_000 });
    }
    const { lastSequence } = spaces[0].status();
    await node.close();
    const closed = performance.now();
    node = await openNode(job.node);
    const openedMs = performance.now() - closed;
    return {
      lastSequence,
      entries,
      seconds,
      entriesPerSecond: entries / seconds,
      createdMs: opened - began,
      introducedMs,
      openedMs,
      primaryCpuMicrosPerEntry: (used.cpuSeconds * 1e6) / entries,
      primaryMaxRssBytes: process.resourceUsage().maxRSS * 1024,
    };
  } finally {
    await node.close();
  }
});
