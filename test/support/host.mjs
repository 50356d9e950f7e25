// A host with all threads of a node at work: the log's writer, shippers, sealers, metrics.
// It says `all threads work`, or ends with the error.
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { openNode } from 'engram-wal';

const ANY = { host: '127.0.0.1', port: 0 };

export async function host() {
  const warnings = [];
  process.on('warning', ({ name, message }) => {
    if (name === 'EngramWalWarning') warnings.push(message);
  });
  const dir = fs.mkdtempSync(path.join(process.env.HOST_DIR ?? os.tmpdir(), 'host-'));
  const own = { clusterId: 'c' };
  const b = await openNode({ ...own, dataDir: path.join(dir, 'b'), nodeId: 'b', listen: ANY });
  const replicas = [{ nodeId: 'b', ...b.address }];
  const a = await openNode({ ...own, dataDir: path.join(dir, 'a'), nodeId: 'a', replicas });
  a.on('shipper-lost', ({ reason }) => warnings.push(`shipper: ${reason}`));
  const space = await a.openSpace('s');
  await space.append(1, new Uint8Array(3));
  // The first large group starts the pool, the others use it.
  const batch = Array.from({ length: 16 }, () => new Uint8Array(64 * 1024));
  let last = 0;
  for (let n = 0; n < 4; n++) {
    last = (await space.appendBatch(1, batch)).lastSequence;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  await space.flushed(last, { replicas: 1, timeoutMs: 30_000 });
  const { body } = await a.metrics();
  if (!body.includes('engram_wal_writes_total')) throw new Error('no metrics');
  await a.close();
  await b.close();
  fs.rmSync(dir, { recursive: true });
  if (warnings.length > 0) throw new Error(warnings.join('; '));
  console.log('all threads work');
}
