// Opens and closes nodes again and again in one process, and says what of them is left behind.
import fs from 'node:fs';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import v8 from 'node:v8';
import { openNode } from '#src/main/index.js';
import { Node } from '#src/main/node/node.js';
import { NodeMemory } from '#src/shared/memory/slab.js';

const TIMES = 3;
const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'engram-wal-test-'));
const SMALL = { segmentBytes: 256 * 1024, groupBytes: 64 * 1024, maxEntryBytes: 16 * 1024 };

function open(nodeId, more = {}) {
  const of = { dataDir: path.join(folder, nodeId), nodeId, clusterId: 'c', ...SMALL };
  return openNode({ ...of, memoryBudgetBytes: 1024 * 1024, openConfirmMs: 50, ...more });
}

async function freePort() {
  const server = net.createServer().listen(0, '127.0.0.1');
  await new Promise((resolve) => server.once('listening', resolve));
  const { port } = server.address();
  await new Promise((resolve) => server.close(resolve));
  return port;
}

const codeOf = (work) =>
  work.then(
    () => 'no error',
    (error) => error.code,
  );

const CASES = {
  /** Its replica is away, and somebody waits for it when the node closes. */
  async away() {
    const node = await open('a', {
      replicas: [{ nodeId: 'b', host: '127.0.0.1', port: await freePort() }],
    });
    const space = await node.openSpace('s');
    const { sequence } = await space.append(1, Buffer.alloc(100));
    const late = await codeOf(space.flushed(sequence, { replicas: 1, timeoutMs: 20 }));
    const waits = codeOf(space.flushed(sequence, { replicas: 1, timeoutMs: 60_000 }));
    await node.close();
    return [late, await waits];
  },
  /** One by itself, whose readers are left, forgotten, or wait at its end. */
  async alone() {
    const node = await open('a', { http: { port: 0 } });
    const space = await node.openSpace('s');
    const { sequence: from } = await space.append(1, Buffer.alloc(100));
    const forgotten = space.subscribe({ from });
    await forgotten.next();
    for await (const _ of space.read()) break;
    const waits = codeOf(forgotten.next());
    await node.metrics();
    await node.close();
    return [await waits];
  },
  /** Two of them, one follows. */
  async pair() {
    const b = await open('b', { listen: { host: '127.0.0.1', port: 0 }, apply: () => undefined });
    const a = await open('a', { replicas: [{ nodeId: 'b', ...b.address }] });
    const space = await a.openSpace('s');
    await space.append(1, Buffer.alloc(100), { ack: { replicas: 1 } });
    await a.close();
    await b.close();
    return [];
  },
};

const said = [];
for (let i = 0; i < TIMES; i++) said.push(...(await CASES[process.argv[2]]()));
const kept = () => v8.queryObjects(Node) + v8.queryObjects(NodeMemory);
// What has ended by itself is let go of in a later turn.
for (let tries = 0; kept() > 0 && tries < 50; tries++) await sleep(100);
process.stdout.write(JSON.stringify({ said, kept: kept() }));
fs.rmSync(folder, { recursive: true, force: true });
