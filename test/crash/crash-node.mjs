// A process that the crash tests kill: a primary that appends and tells what was acknowledged, or
// a replica. argv: role, data directory, port (replica) or replicas as JSON (primary), spaces.
import { createHash } from 'node:crypto';
import { openNode } from '../../dist/main/index.js';

const [role, dataDir, argument, count] = process.argv.slice(2);
const sizes = {
  clusterId: 'test',
  segmentBytes: 256 * 1024,
  groupBytes: 64 * 1024,
  maxEntryBytes: 16 * 1024,
  memoryBudgetBytes: 1024 * 1024,
  windowBytes: 1024 * 1024,
  backoffStepsMs: [20, 50],
};
process.on('disconnect', () => process.exit(0));

/** The payload of an entry follows from its space and a counter, and tells both. */
function payloadOf(space, counter) {
  const head = `${space}:${counter}:`;
  const hash = createHash('sha256').update(head).digest('hex');
  return Buffer.from(head + hash.repeat(1 + (counter % 7)));
}

if (role === 'replica') {
  const listen = { host: '127.0.0.1', port: Number(argument) };
  const node = await openNode({ ...sizes, dataDir, nodeId: 'replica', listen });
  process.send({ kind: 'open', port: node.address.port });
  process.on('message', () => node.close().then(() => process.exit(0)));
} else {
  const replicas = JSON.parse(argument);
  const node = await openNode({ ...sizes, dataDir, nodeId: 'primary', replicas });
  const names = Array.from({ length: Number(count) }, (_, i) => `space-${i}`);
  const spaces = await Promise.all(names.map((name) => node.openSpace(name)));
  process.send({ kind: 'open' });
  let acked = [];
  let appending = true;
  setInterval(() => {
    if (acked.length > 0) process.send({ kind: 'acked', acked });
    acked = [];
  }, 1);
  // Each run counts anew, so that what an earlier run left unacknowledged is told apart.
  const run = `${process.pid}`;
  let counter = 0;
  async function append(index) {
    while (appending) {
      const mine = `${run}.${counter++}`;
      const payload = payloadOf(names[index], counter - 1);
      const tagged = Buffer.concat([Buffer.from(`${mine}|`), payload]);
      const { sequence } = await spaces[index].append(1000, tagged);
      const hash = createHash('sha256').update(tagged).digest('base64');
      acked.push([names[index], sequence, hash]);
    }
  }
  const appenders = [];
  for (let i = 0; i < names.length; i++) for (let k = 0; k < 8; k++) appenders.push(append(i));
  process.on('message', async () => {
    appending = false;
    await Promise.all(appenders);
    for (const space of spaces) {
      const { lastSequence } = space.status();
      await space.flushed(lastSequence, { replicas: replicas.length, timeoutMs: 30_000 });
    }
    process.send({ kind: 'acked', acked });
    await node.close();
    process.exit(0);
  });
}
