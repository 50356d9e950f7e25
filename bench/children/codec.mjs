/** The small pieces, one by one, in a process of their own: nanoseconds for each entry or call. */
import { crc32c as native } from '@node-rs/crc32';
import { Bench } from 'tinybench';
import { crc32cHeader, crc32cRange } from '#src/shared/crc.js';
import { sealLocal, stageHeader } from '#src/shared/log/entry.js';
import { Sealer } from '#src/shared/log/seal.js';
import {
  allocateMemory,
  NodeMemory,
  RUN_BYTES,
  RUN_COUNT,
  RUN_FIRST,
  RUN_OFFSET,
  RUN_RECEIVED,
  RUN_SLOT,
} from '#src/shared/memory/slab.js';
import { checkBatchEntries, decodeBatch, encodeBatchHeader } from '#src/shared/wire/batch.js';
import { randomPayload, runJob } from './child.mjs';

const HEADER_BYTES = 64;
const MiB = 1024 * 1024;
const SALT = 0x5a17;
const SPACE = { hex: '000102030405060708090a0b0c0d0e0f', words: [1, 2, 3, 4] };
/** One timed call holds so many, so that the timer's own cost vanishes. */
const PER_CALL = 1_000;

await runJob(async ({ seconds }) => {
  const bench = new Bench({ time: seconds * 1000, warmupTime: 200 });
  /** @type {Map<string, { payloadBytes: number | null, per: number }>} */
  const pieces = new Map();
  const piece = (name, payloadBytes, per, fn) => {
    pieces.set(name, { payloadBytes, per });
    bench.add(name, fn);
  };
  headerCrc(piece);
  for (const bytes of [64, 256, 1024, 3328]) payloadCrc(piece, bytes);
  for (const bytes of [64, 256, 1024, 3328]) sealOne(piece, bytes);
  sealGroup(piece, 256);
  for (const bytes of [64, 256]) batch(piece, bytes);
  await bench.run();
  return bench.tasks.map((task) => {
    const { payloadBytes, per } = pieces.get(task.name);
    const { result } = task;
    if (!result.latency) throw result.error ?? new Error(`${task.name}: ${result.state}`);
    const ns = (result.latency.mean / per) * 1e6;
    const rme = result.latency.rme;
    return { piece: task.name, payloadBytes, nsPerEntry: ns, marginPercent: rme };
  });
});

/** Headers of PER_CALL entries, back to back. */
function headerCrc(piece) {
  const bytes = randomPayload(PER_CALL * HEADER_BYTES);
  const view = new DataView(bytes.buffer);
  let sum = 0;
  piece('header CRC, table', null, PER_CALL, () => {
    for (let n = 0; n < PER_CALL; n++) sum ^= crc32cHeader(view, n * HEADER_BYTES);
  });
  piece('header CRC, native', null, PER_CALL, () => {
    for (let n = 0; n < PER_CALL; n++) {
      const at = n * HEADER_BYTES;
      const head = native(bytes.subarray(at, at + 32));
      sum ^= native(bytes.subarray(at + 36, at + 56), head);
    }
  });
  return sum;
}

function payloadCrc(piece, payloadBytes) {
  const bytes = randomPayload(PER_CALL * payloadBytes);
  const view = new DataView(bytes.buffer);
  let sum = 0;
  piece(`payload CRC, ${payloadBytes} B`, payloadBytes, PER_CALL, () => {
    for (let n = 0; n < PER_CALL; n++) {
      sum ^= crc32cRange(bytes, view, n * payloadBytes, payloadBytes);
    }
  });
  return sum;
}

/** Stages `count` entries back to back, as the log does. @returns bytes used */
function stage(bytes, view, at, payload, count, epoch) {
  let to = at;
  for (let n = 0; n < count; n++) {
    stageHeader(view, to, n + 1, 7, 9, 1, payload.length, epoch);
    bytes.set(payload, to + HEADER_BYTES);
    to += HEADER_BYTES + payload.length;
  }
  return to - at;
}

function seal(bytes, view, at, size, count, id) {
  for (let n = 0, to = at; n < count; n++, to += size) {
    sealLocal(bytes, view, to, id, SALT, to, to);
  }
}

function sealOne(piece, payloadBytes) {
  const size = HEADER_BYTES + payloadBytes;
  const bytes = new Uint8Array(new SharedArrayBuffer(PER_CALL * size));
  const view = new DataView(bytes.buffer);
  stage(bytes, view, 0, randomPayload(payloadBytes), PER_CALL, 1);
  piece(`sealLocal, ${payloadBytes} B`, payloadBytes, PER_CALL, () => {
    seal(bytes, view, 0, size, PER_CALL, SPACE.words);
  });
}

/** One run of 1 MiB, sealed where it stands, as a group of one space is. */
function sealGroup(piece, payloadBytes) {
  const memory = new NodeMemory(allocateMemory(2 * MiB, 8 * MiB, 4));
  memory.setSpace(1, SPACE.words, 1, 0);
  const sealer = new Sealer(memory);
  const slab = memory.slabs[0];
  const count = Math.floor(MiB / (HEADER_BYTES + payloadBytes));
  const payload = randomPayload(payloadBytes);
  const used = stage(slab.bytes, slab.view, 0, payload, count, 1);
  const row = { [RUN_SLOT]: 1, [RUN_FIRST]: 1, [RUN_COUNT]: count, [RUN_BYTES]: used };
  for (const [field, value] of Object.entries(row)) slab.runs[Number(field)] = value;
  slab.runs[RUN_OFFSET] = 0;
  slab.runs[RUN_RECEIVED] = 0;
  const job = { staging: 0, target: 0, runs: 1, bytes: used, startLsn: 0, durableLsn: 0 };
  piece(`Sealer.seal of 1 MiB, ${payloadBytes} B`, payloadBytes, count, () => {
    sealer.seal({ ...job, salt: SALT });
  });
}

/** The wire: header written with its CRC, then decoded and every entry checked. */
function batch(piece, payloadBytes) {
  const size = HEADER_BYTES + payloadBytes;
  const bytes = new Uint8Array(HEADER_BYTES + PER_CALL * size);
  const view = new DataView(bytes.buffer);
  stage(bytes, view, HEADER_BYTES, randomPayload(payloadBytes), PER_CALL, 1);
  const id = [0, 1, 2, 3].map((n) => 0x03020100 + n * 0x04040404);
  seal(bytes, view, HEADER_BYTES, size, PER_CALL, id);
  const header = {
    primaryNodeId: SPACE.hex,
    spaceId: SPACE.hex,
    startSequence: 1,
    entryCount: PER_CALL,
    totalSize: PER_CALL * size,
    epoch: 1,
  };
  piece(`encodeBatchHeader, ${payloadBytes} B`, payloadBytes, PER_CALL, () => {
    encodeBatchHeader(bytes, view, 0, header);
  });
  piece(`decodeBatch + checkBatchEntries, ${payloadBytes} B`, payloadBytes, PER_CALL, () => {
    const decoded = decodeBatch(bytes, view, 0, bytes.length);
    checkBatchEntries(bytes, view, 0, decoded, MiB);
  });
}
