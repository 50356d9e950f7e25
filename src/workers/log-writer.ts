/**
 * The thread that makes the log's own system calls, so that no other work of the host's libuv pool
 * stands before them (FAULTS row 78). Main decides what is written and when it is fdatasynced; here
 * it is carried out, one call at a time, with its duration.
 */
import fs from 'node:fs';
import { parentPort, workerData } from 'node:worker_threads';
import {
  NUMBER,
  OP_END,
  OP_WRITE,
  OP_WRITE_SYNC,
  WORD,
  WRITER_BEGINS,
  type WriterFailure,
  type WriterStart,
} from '../shared/memory/writer-words.js';

const { words: wordBuffer, numbers: numberBuffer, slabs } = workerData as WriterStart;
const words = new Int32Array(wordBuffer);
const numbers = new Float64Array(numberBuffer);
const bytes = new Uint8Array(slabs);

function write(): void {
  const fd = numbers[NUMBER.fd]!;
  let from = numbers[NUMBER.offset]!;
  let position = numbers[NUMBER.position]!;
  const end = from + numbers[NUMBER.length]!;
  while (from < end) {
    const written = fs.writeSync(fd, bytes, from, end - from, position);
    if (written === 0) throw Object.assign(new Error('accepted no byte'), { code: 'EIO' });
    from += written;
    position += written;
  }
}

parentPort!.postMessage(WRITER_BEGINS);
let done = 0;
for (;;) {
  // Bounded, and read again: a wake-up that came before the wait is seen by the value.
  while (Atomics.load(words, WORD.asked) === done) Atomics.wait(words, WORD.asked, done, 1_000);
  done = Atomics.load(words, WORD.asked);
  const op = Atomics.load(words, WORD.op);
  if (op === OP_END) break;
  let before = performance.now();
  let isSync = false;
  let failure: WriterFailure | null = null;
  try {
    if (op === OP_WRITE || op === OP_WRITE_SYNC) write();
    isSync = op !== OP_WRITE;
    before = performance.now();
    if (isSync) fs.fdatasyncSync(numbers[NUMBER.fd]!);
  } catch (error) {
    const { message, code } = error as NodeJS.ErrnoException;
    failure = { message, code, isSync };
  }
  numbers[NUMBER.callMs] = performance.now() - before;
  // A message, not a word: it wakes an idle event loop at once.
  parentPort!.postMessage(failure);
}
