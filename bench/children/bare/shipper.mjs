/** The thread of the bare pipeline that sends durable groups to one replica and hears its acks. */
import net from 'node:net';
import { parentPort, workerData } from 'node:worker_threads';
import {
  BATCH_HEADER_BYTES,
  BATCH_MAX_ENTRIES,
  batchCrc,
  HEADER_BYTES,
  Ring,
  ROW,
  SLAB_BYTES,
  WORD,
} from './pipeline.mjs';

const SEND_BUFFERS = 3;
const ACK_BYTES = 8;

const { shared, index, port, tellsAcks } = workerData;
const ring = new Ring(shared);
const socket = net.connect({ host: '127.0.0.1', port, noDelay: true });
/** Entries and the headers of their batches: no batch is smaller than an entry. */
const free = Array.from({ length: SEND_BUFFERS }, () => {
  const bytes = new Uint8Array(new ArrayBuffer(SLAB_BYTES + SLAB_BYTES / 64));
  return { bytes, view: new DataView(bytes.buffer) };
});
let sent = 0;
/** Something is durable, and every buffer is in the socket's hands. */
let waitsForBuffer = false;
let heard = Buffer.alloc(0);

socket.on('connect', () => {
  parentPort.postMessage(0);
  void ship();
});
socket.on('close', () => process.exit(0));
socket.on('data', (chunk) => {
  heard = heard.length === 0 ? chunk : Buffer.concat([heard, chunk]);
  const whole = heard.length - (heard.length % ACK_BYTES);
  if (whole === 0) return;
  ring.set(WORD.acked + index, Number(heard.readBigUInt64LE(whole - ACK_BYTES)));
  heard = heard.subarray(whole);
  if (tellsAcks) parentPort.postMessage(0);
});

async function ship() {
  for (;;) {
    const durable = ring.get(WORD.durable);
    while (sent < durable && free.length > 0) send(++sent);
    if (ring.get(WORD.ended)) break;
    waitsForBuffer = sent < durable;
    if (waitsForBuffer) return;
    await Atomics.waitAsync(ring.words, WORD.durable, durable).value;
  }
  socket.end();
}

function send(group) {
  const buffer = free.pop();
  const { bytes, view } = buffer;
  const bytesOf = ring.row(group, ROW.bytes);
  const last = ring.row(group, ROW.first) + ring.row(group, ROW.count);
  let sequence = ring.row(group, ROW.first);
  let from = ring.start(group);
  const end = from + bytesOf;
  let to = 0;
  while (from < end) {
    const count = Math.min(BATCH_MAX_ENTRIES, last - sequence);
    let size = end - from;
    if (sequence + count < last) {
      size = 0;
      for (let n = 0; n < count; n++) {
        size += HEADER_BYTES + ring.view.getUint32(from + size + 24, true);
      }
    }
    const body = to + BATCH_HEADER_BYTES;
    bytes.set(ring.bytes.subarray(from, from + size), body);
    view.setUint32(to, size, true);
    view.setUint32(to + 4, sequence, true);
    view.setUint32(to + 8, count, true);
    view.setUint32(to + 12, batchCrc(bytes, body, body + size), true);
    sequence += count;
    from += size;
    to = body + size;
  }
  // The slab may be used again: its bytes are in the buffer.
  ring.set(WORD.sent + index, group);
  socket.write(bytes.subarray(0, to), () => {
    free.push(buffer);
    if (waitsForBuffer) void ship();
  });
}
