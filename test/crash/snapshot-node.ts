// A process for the tests that kill one in the midst of a snapshot: a primary or a replica with a
// host that outlives it in a file. argv: role, data directory, port (replica) or replicas as JSON.
// Messages to it: { append: n }, { giveUp: true }, { hold: n } (before the n-th piece), { go }.
// Each is answered with what there is.
import fs from 'node:fs';
import { EntryType, openNode } from '#src/main/index.js';
import { Gate, StateHost } from '../support/state-host.js';

const [role, dataDir, argument] = process.argv.slice(2) as [string, string, string];
const file = `${dataDir}.host.json`;
const host = new StateHost();
if (fs.existsSync(file)) host.load(JSON.parse(fs.readFileSync(file, 'utf8')));
const save = (): void => {
  fs.writeFileSync(`${file}.tmp`, JSON.stringify(host));
  fs.renameSync(`${file}.tmp`, file);
};
const gate = new Gate();
host.beforePiece = gate.pass;
host.restored = save;
process.on('disconnect', () => process.exit(0));

const isPrimary = role === 'primary';
const sizes = {
  clusterId: 'test',
  segmentBytes: 16 * 1024,
  groupBytes: 4 * 1024,
  maxEntryBytes: 2 * 1024,
  memoryBudgetBytes: 64 * 1024,
  maxSpaces: 16,
  backoffStepsMs: [20, 50],
  maxSlotBytes: 64 * 1024,
  snapshotChunkBytes: 4 * 1024,
};
const { apply, appliedUpTo, restore, snapshot } = host;
const node = await openNode({
  ...sizes,
  dataDir,
  nodeId: role,
  ...(isPrimary
    ? { replicas: JSON.parse(argument), snapshot }
    : { listen: { host: '127.0.0.1', port: Number(argument) }, apply, appliedUpTo, restore }),
});
for (const name of ['snapshot-started', 'snapshot-done', 'snapshot-failed'] as const) {
  node.on(name, (event) => process.send!({ event: name, ...event }));
}
if (isPrimary) {
  const space = await node.openSpace('s');
  for await (const entry of space.read()) {
    if (entry.sequence > host.sequence('s')) await apply([entry], { space: 's' });
  }
}

async function append(count: number): Promise<void> {
  const space = node.space('s');
  for (let n = 0; n < count; n++) {
    const payload = Buffer.alloc(1_500, `${space.status().lastSequence} `);
    const { sequence } = await space.append(EntryType.EpisodeStore, payload);
    await apply([{ sequence, payload, epoch: 1, type: 1, timestamp: 0n }], { space: 's' });
  }
}

async function giveUp(): Promise<void> {
  save();
  const space = node.space('s');
  await space.checkpoint(space.status().durableSequence + 1);
}

interface Order {
  append?: number;
  giveUp?: true;
  hold?: number;
  go?: true;
}

process.on('message', async (order: Order) => {
  if (order.hold !== undefined) gate.closeAt(order.hold);
  if (order.go) gate.open();
  if (order.append) await append(order.append);
  if (order.giveUp) await giveUp();
  const space = node.status().spaces[0];
  const { snapshots, restores, pulled } = host;
  const { isReached } = gate;
  process.send!({
    status: {
      digest: host.digest('s'),
      snapshots,
      restores,
      pulled,
      isReached,
      segments: node.status().segments,
      first: space?.firstSequence ?? 0,
      durable: space?.durableSequence ?? 0,
      chunks: space?.snapshot?.chunks ?? space?.replicas[0]?.snapshot?.chunks ?? 0,
    },
  });
});
process.send!({ open: node.address?.port ?? 0 });
