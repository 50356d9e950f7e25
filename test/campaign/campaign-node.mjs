// The process that the campaign kills. It reads everything back, tells it, then appends, rolls,
// checkpoints and recycles until it dies. argv: data directory, seed, attempt.
import { openNode } from '../../dist/main/index.js';
import { digestOf, NAMES, payloadOf, random, SIZES } from './campaign-facts.mjs';

const [dataDir, seed, attempt] = process.argv.slice(2);
const chance = random(Number(seed) * 1_000 + Number(attempt));
process.on('disconnect', () => process.exit(0));

const node = await openNode({ ...SIZES, dataDir, nodeId: 'a', clusterId: 'campaign' });
const spaces = [];
for (const name of NAMES) spaces.push(await node.openSpace(name));
for (const [index, space] of spaces.entries()) {
  process.send({ kind: 'found', index, ...(await readAll(space)) });
}
process.send({ kind: 'open', holes: node.status().holes.length });

async function readAll(space) {
  for (;;) {
    const { firstSequence, durableSequence, damage } = space.status();
    const digests = [];
    try {
      const range = { from: Math.max(1, firstSequence) };
      for await (const entry of space.read(range)) digests.push(digestOf(entry.payload));
      return { firstSequence, durableSequence, damage, digests };
    } catch (error) {
      // A checkpoint of the life before lets segments go while we read: begin again.
      if (error.code !== 'Trimmed') throw error;
    }
  }
}

/** On its way when it resolves: what dies with this process was never tried. */
function tell(message) {
  return new Promise((resolve) => process.send(message, resolve));
}

let count = 0;
function next(index) {
  return payloadOf(Number(seed), Number(attempt), index, count++);
}

async function one(index) {
  const space = spaces[index];
  const kind = chance(10);
  if (kind < 6) {
    const payload = next(index);
    await tell({ kind: 'try', index, digests: [digestOf(payload)] });
    const { sequence } = await space.append(1, payload);
    process.send({ kind: 'ack', index, first: sequence, digests: [digestOf(payload)] });
  } else if (kind < 9) {
    const payloads = Array.from({ length: 1 + chance(20) }, () => next(index));
    const digests = payloads.map(digestOf);
    await tell({ kind: 'try', index, digests });
    const { firstSequence } = await space.appendBatch(1, payloads);
    process.send({ kind: 'ack', index, first: firstSequence, digests });
  } else {
    const sequence = Math.max(1, space.status().durableSequence - chance(30));
    await tell({ kind: 'checkpointing', index, sequence });
    await space.checkpoint(sequence);
  }
}

for (let worker = 0; worker < 8; worker++) {
  (async () => {
    for (;;) await one(chance(NAMES.length));
  })();
}
setInterval(() => {
  const { retention, segments } = node.status();
  process.send({ kind: 'status', recycled: retention.recycledSegments, segments });
}, 20);
