/** The threads of the bare pipeline that wait for words alone: the sealer and the writer. */
import fs from 'node:fs';
import { parentPort, workerData } from 'node:worker_threads';
import { FILE_BYTES, Ring, ROW, seal, TRAILER_BYTES, WORD } from './pipeline.mjs';

const { shared, job, fds } = workerData;
const ring = new Ring(shared);
if (job === 'seal') sealGroups();
else writeGroups();

/** Seals the groups that main leaves to it: one at a time, never one before the last is sealed. */
function sealGroups() {
  for (let group = ring.past(WORD.toSeal, 0); group !== 0; group = ring.past(WORD.toSeal, group)) {
    const from = ring.start(group);
    seal(ring.bytes, ring.view, from, from + ring.row(group, ROW.bytes));
    ring.set(WORD.sealed, group);
  }
}

/** Writes and fdatasyncs one group after the other; says so to shippers and to main. */
function writeGroups() {
  let file = 0;
  let position = 0;
  for (let group = 1; ring.past(WORD.sealed, group - 1) !== 0; group++) {
    const bytes = ring.row(group, ROW.bytes);
    if (position + bytes + TRAILER_BYTES > FILE_BYTES) {
      file = (file + 1) % fds.length;
      position = 0;
    }
    const from = ring.start(group);
    const end = from + bytes + TRAILER_BYTES;
    for (let at = from; at < end; ) {
      at += fs.writeSync(fds[file], ring.bytes, at, end - at, position + (at - from));
    }
    fs.fdatasyncSync(fds[file]);
    position += bytes;
    ring.set(WORD.durable, group);
    parentPort.postMessage(0);
  }
}
