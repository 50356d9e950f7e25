/** The bare replica: checks each batch and each entry, writes, fdatasyncs, acknowledges. */
import net from 'node:net';
import { Worker } from 'node:worker_threads';
import { cpuSeconds } from '../child.mjs';
import { Groups, openFiles } from './group.mjs';
import { BATCH_HEADER_BYTES, batchCrc, check, ROW, WORD } from './pipeline.mjs';

const { dataDir } = JSON.parse(process.argv[2]);
const fds = openFiles(dataDir);
const groups = new Groups(0, true);
const { ring } = groups;
const { shared } = ring;
const writer = new Worker(new URL('thread.mjs', import.meta.url), {
  workerData: { shared, job: 'write', fds },
});
let socket;
let durable = 0;
let flushed = 0;
writer.on('message', () => {
  const now = ring.get(WORD.durable);
  if (now > durable) {
    durable = now;
    flushed = ring.row(durable, ROW.first) + ring.row(durable, ROW.count) - 1;
    const ack = new Uint8Array(8);
    new DataView(ack.buffer).setBigUint64(0, BigInt(flushed), true);
    socket?.write(ack);
  }
  groups.pump();
  if (rest) resume();
});
writer.on('error', (error) => process.send({ kind: 'failed', message: String(error.stack) }));

/** What was received and has no room yet. */
let rest;
const header = new Uint8Array(BATCH_HEADER_BYTES);
const headerView = new DataView(header.buffer);
let headerHas = 0;
/** The batch that is received has its place, behind the open group. */
let hasRoom = false;

const server = net.createServer({ noDelay: true }, (peer) => {
  socket = peer;
  peer.on('data', (chunk) => take(chunk));
  peer.on('error', () => undefined);
});
server.listen(0, '127.0.0.1', () => {
  process.send({ kind: 'listening', port: server.address().port });
});

/** Entries go from the chunk to their place in the slab: one copy. */
function take(chunk) {
  let from = 0;
  while (from < chunk.length) {
    if (headerHas < BATCH_HEADER_BYTES) {
      const part = Math.min(BATCH_HEADER_BYTES - headerHas, chunk.length - from);
      header.set(chunk.subarray(from, from + part), headerHas);
      headerHas += part;
      from += part;
      continue;
    }
    const size = headerView.getUint32(0, true);
    hasRoom ||= groups.room(size) >= 0;
    if (!hasRoom) {
      rest = chunk.subarray(from);
      socket.pause();
      return;
    }
    const part = Math.min(size - groups.partial, chunk.length - from);
    const to = ring.start(groups.group) + groups.bytes + groups.partial;
    ring.bytes.set(chunk.subarray(from, from + part), to);
    groups.partial += part;
    from += part;
    if (groups.partial === size) takeBatch(size);
  }
  groups.pump();
}

function takeBatch(size) {
  const at = ring.start(groups.group) + groups.bytes;
  const first = headerView.getUint32(4, true);
  const count = headerView.getUint32(8, true);
  if (batchCrc(ring.bytes, at, at + size) !== headerView.getUint32(12, true)) {
    throw new Error(`the batch from ${first} on is damaged`);
  }
  check(ring.bytes, ring.view, at, at + size, first);
  if (first !== groups.next) throw new Error(`entry ${first} where ${groups.next} follows`);
  groups.partial = 0;
  groups.add(size, count);
  headerHas = 0;
  hasRoom = false;
}

function resume() {
  const chunk = rest;
  rest = undefined;
  take(chunk);
  if (!rest) socket.resume();
}

let before = process.cpuUsage();
process.on('message', (message) => {
  if (message.kind === 'mark') {
    before = process.cpuUsage();
    globalThis.benchThreads?.mark();
  }
  if (message.kind === 'used') {
    const maxRssBytes = process.resourceUsage().maxRSS * 1024;
    const threads = globalThis.benchThreads?.read();
    const used = { ...cpuSeconds(before), maxRssBytes, durableSequence: flushed, threads };
    process.send({ kind: 'used', used });
  }
  if (message.kind === 'close') process.exit(0);
});
process.on('disconnect', () => process.exit(0));
