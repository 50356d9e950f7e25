// What counting costs: CPU of an entry on a primary without replicas, in large groups and one by
// one; then the very calls that count, in a tight loop with groups of the size that was seen.
import { openNode } from '#src/main/index.js';
import { NodeCounts } from '../../dist/main/log/write/counts.js';
import { OpenGroup } from '../../dist/main/log/write/open-group.js';
import { cpuSeconds, randomPayload, runJob, turn } from './child.mjs';

const TYPE = 1;
const BURST = 1_024;
const LOOP_ENTRIES = 5_000_000;
const OVERHEAD_BYTES = 64;

await runJob(async ({ node: options, seconds, isBurst }) => {
  const node = await openNode(options);
  try {
    const space = await node.openSpace('bench');
    const payload = randomPayload(256);
    const run = isBurst ? bursts : singles;
    await run(space, payload, seconds / 4);
    const seen = await groupsOf(node);
    const before = process.cpuUsage();
    await run(space, payload, seconds);
    const { cpuSeconds: cpu } = cpuSeconds(before);
    const now = await groupsOf(node);
    const entries = now.entries - seen.entries;
    const perGroup = Math.max(1, Math.round(entries / (now.groups - seen.groups)));
    const cpuNanosPerEntry = (cpu * 1e9) / entries;
    tightLoop(perGroup, LOOP_ENTRIES / 10);
    const nanos = tightLoop(perGroup, LOOP_ENTRIES);
    return {
      entriesPerGroup: perGroup,
      cpuNanosPerEntry,
      countingNanosPerEntry: nanos,
      countingPercent: (100 * nanos) / cpuNanosPerEntry,
    };
  } finally {
    await node.close();
  }
});

async function bursts(space, payload, seconds) {
  const end = performance.now() + 1_000 * seconds;
  let last = 0;
  while (performance.now() < end) {
    for (let n = 0; n < BURST; n++) last = space.tryAppend(TYPE, payload) ?? last;
    await turn();
  }
  await space.flushed(last, { timeoutMs: 60_000 });
}

async function singles(space, payload, seconds) {
  const end = performance.now() + 1_000 * seconds;
  while (performance.now() < end) await space.append(TYPE, payload);
}

async function groupsOf(node) {
  const { body } = await node.metrics();
  const of = (part) =>
    Number(new RegExp(`engram_wal_group_commit_entries_${part} (\\d+)`).exec(body)[1]);
  return { entries: of('sum'), groups: of('count') };
}

/** All that a group of entries of `perGroup / BURST` turns has counted. @returns ns an entry */
function tightLoop(perGroup, entries) {
  const counts = new NodeCounts();
  const before = process.cpuUsage();
  const turn = { ms: 1 };
  for (let done = 0; done < entries; done += perGroup) {
    const group = new OpenGroup(undefined, 1, undefined, undefined);
    for (let n = 0; n < perGroup; n++) {
      // A turn reads the clock once.
      if (n % BURST === 0) turn.ms = performance.now();
      group.append(turn);
    }
    counts.group(perGroup, perGroup * (256 + OVERHEAD_BYTES));
    counts.sync(0.2, 0.1);
    counts.acknowledged(group);
  }
  const { user, system } = process.cpuUsage(before);
  return (1_000 * (user + system)) / entries;
}
