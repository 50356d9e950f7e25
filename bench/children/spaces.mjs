// What each call costs among so many spaces, all of which have entries in every segment; and the
// longest turn of the event loop meanwhile. The driver itself makes at most BURST calls a turn.
import { openNode } from '#src/main/index.js';
import { randomPayload, runJob, sleep, turn } from './child.mjs';
import { Samples } from './samples.mjs';

const BURST = 250;
/** Calls that are made one after the other. */
const CALLS = 200;
const payload = randomPayload(32);

/** The longest turn of the event loop since it was asked last, in ms. */
class Turns {
  #longest = 0;
  #last = performance.now();
  #isOver = false;

  constructor() {
    const look = () => {
      const now = performance.now();
      this.#longest = Math.max(this.#longest, now - this.#last);
      this.#last = now;
      if (!this.#isOver) setImmediate(look);
    };
    setImmediate(look);
  }

  longest() {
    const found = this.#longest;
    this.#longest = 0;
    return found;
  }

  end() {
    this.#isOver = true;
  }
}

/** Calls for all, so many in a turn, without waiting for one before the next. */
async function beside(all, call) {
  const done = [];
  for (let i = 0; i < all.length; i++) {
    if (i % BURST === BURST - 1) await turn();
    done.push(call(all[i]));
  }
  return await Promise.all(done);
}

async function timed(work) {
  const before = performance.now();
  const result = await work();
  return { ms: performance.now() - before, result };
}

/** Median of one call after the other, in us. */
async function oneByOne(calls, call) {
  const took = new Samples(calls);
  for (let n = 0; n < calls; n++) {
    const before = performance.now();
    await call(n);
    took.add(performance.now() - before);
  }
  return 1_000 * took.percentiles([50])[0];
}

async function appendRound(spaces, count) {
  for (let done = 0; done < count; done += BURST) {
    const some = Array.from({ length: BURST }, (_, i) => spaces[(done + i) % spaces.length]);
    await Promise.all(some.map((space) => space.append(1, payload)));
  }
}

/** Every space has entries in every one of so many segments. */
async function fill(node, spaces, segments) {
  let done = 0;
  while (node.summary().segments <= segments) {
    const some = Array.from({ length: 4 * BURST }, (_, i) => spaces[(done + i) % spaces.length]);
    done += some.length;
    await Promise.all(some.map((space) => space.append(1, payload)));
  }
}

await runJob(async ({ node: options, spaces: count, segments }) => {
  const found = {};
  const longest = {};
  const turns = new Turns();
  let node = await openNode(options);
  const names = Array.from({ length: count }, (_, n) => `tenant-${n}`);
  turns.longest();
  const created = await timed(() => beside(names, (name) => node.openSpace(name)));
  let spaces = created.result;
  found.createAllMs = created.ms;
  longest.create = turns.longest();
  found.createUs = await oneByOne(CALLS, (n) => node.openSpace(`one-by-one-${n}`));
  await fill(node, spaces, segments);
  // Indexes are stored, the state is written.
  await sleep(500);
  turns.longest();
  const appended = await timed(() => appendRound(spaces, 20_000));
  found.appendUs = (1_000 * appended.ms) / 20_000;
  longest.append = turns.longest();
  const rolls = node.summary().segments + 2;
  while (node.summary().segments < rolls) await appendRound(spaces, 4 * BURST);
  longest.roll = turns.longest();
  found.checkpointUs = await oneByOne(CALLS, (n) => {
    const space = spaces[(7 * n) % count];
    return space.checkpoint(Math.min(n + 2, space.status().durableSequence));
  });
  longest.checkpoint = turns.longest();
  const status = await timed(() => node.status());
  found.statusMs = status.ms;
  await turn();
  longest.status = turns.longest();
  const each = spaces.slice(0, 1_000);
  const statuses = await timed(() => each.map((space) => space.status()));
  found.spaceStatusUs = (1_000 * statuses.ms) / each.length;
  await node.metrics();
  await turn();
  turns.longest();
  found.scrapeMs = (await oneByOne(10, () => node.metrics())) / 1_000;
  longest.scrape = turns.longest();
  const freed = await timed(async () => {
    await beside(spaces, (space) => space.checkpoint(space.status().durableSequence));
    while (node.summary().segments > 3) await sleep(5);
  });
  found.giveAllUpMs = freed.ms;
  longest.retention = turns.longest();
  found.closeMs = (await timed(() => node.close())).ms;
  longest.close = turns.longest();
  const opened = await timed(() => openNode(options));
  found.openNodeMs = opened.ms;
  longest.open = turns.longest();
  node = opened.result;
  const handles = await timed(() => beside(names, (name) => node.openSpace(name)));
  spaces = handles.result;
  found.openAllMs = opened.ms + handles.ms;
  found.openUs = (1_000 * handles.ms) / count;
  turns.end();
  globalThis.gc?.();
  found.rssMb = process.memoryUsage().rss / 1024 ** 2;
  await node.close();
  for (const [what, ms] of Object.entries(longest)) found[`${what}TurnMs`] = ms;
  found.longestTurnMs = Math.max(...Object.values(longest));
  return found;
});
