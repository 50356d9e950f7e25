/**
 * Main's side of the writer thread: asks for a write or fdatasync of the log and is woken when it
 * is done. What the thread cannot do (another call is under way, bytes outside of the slabs) goes
 * through libuv as any other file operation.
 */
import { Worker } from 'node:worker_threads';
import { failure } from '../shared/errors.js';
import {
  NUMBER,
  NUMBERS,
  OP_END,
  OP_SYNC,
  OP_WRITE,
  OP_WRITE_SYNC,
  WORD,
  WORDS,
  type WriterFailure,
  type WriterStart,
} from '../shared/writer-words.js';
import { type DiskFile, ioError } from './disk.js';
import type { NodeCounts } from './node-counts.js';

/** How long fdatasyncs take: the call itself, and what it waited for a thread to make it. */
export interface SyncTimes {
  count: number;
  lastCallMs: number;
  lastWaitMs: number;
  maxCallMs: number;
  maxWaitMs: number;
}

interface Asked {
  readonly what: string;
  readonly resolve: () => void;
  readonly reject: (error: Error) => void;
}

export class LogWriter {
  readonly #words = new Int32Array(new SharedArrayBuffer(4 * WORDS));
  readonly #numbers = new Float64Array(new SharedArrayBuffer(8 * NUMBERS));
  readonly #slabs: SharedArrayBuffer;
  readonly #counts: NodeCounts;
  #worker: Worker | undefined;
  #ended: Promise<void> | undefined;
  #asked: Asked | undefined;
  #isDead = false;
  readonly times: SyncTimes = {
    count: 0,
    lastCallMs: 0,
    lastWaitMs: 0,
    maxCallMs: 0,
    maxWaitMs: 0,
  };

  constructor(slabs: SharedArrayBuffer, counts: NodeCounts) {
    this.#slabs = slabs;
    this.#counts = counts;
  }

  /** With the first file that is known by a number: a disk in memory needs no thread. */
  #start(): Worker {
    const start: WriterStart = {
      words: this.#words.buffer as SharedArrayBuffer,
      numbers: this.#numbers.buffer as SharedArrayBuffer,
      slabs: this.#slabs,
    };
    const worker = new Worker(new URL('../workers/log-writer.js', import.meta.url), {
      workerData: start,
      name: 'log writer',
    });
    worker.unref();
    worker.on('message', (failed: WriterFailure | null) => {
      const asked = this.#asked;
      this.#asked = undefined;
      worker.unref();
      if (failed) asked?.reject(callError(asked.what, failed));
      else asked?.resolve();
    });
    let reason = new Error('it ended by itself');
    worker.on('error', (error) => {
      reason = error;
    });
    this.#ended = new Promise((resolve) => {
      worker.on('exit', () => {
        this.#isDead = true;
        this.#asked?.reject(ioError('the log writer', reason));
        resolve();
      });
    });
    return worker;
  }

  /** The same file, with the log's own writes and fdatasyncs made by the thread. */
  wrap(file: DiskFile): DiskFile {
    const { fd } = file;
    const timedSync = async (): Promise<void> => {
      const before = performance.now();
      await file.sync();
      this.#count(performance.now() - before, undefined);
    };
    const rest = restOf(file);
    if (fd === undefined) {
      return { ...rest, write: (bytes, position) => file.write(bytes, position), sync: timedSync };
    }
    this.#worker ??= this.#start();
    return {
      ...rest,
      fd,
      write: (bytes, position) => {
        if (bytes.buffer !== this.#slabs || this.#isBusy) return file.write(bytes, position);
        this.#place(bytes, position);
        return this.#ask(OP_WRITE, fd, `write to ${file.path}`);
      },
      writeAndSync: async (bytes, position) => {
        if (bytes.buffer !== this.#slabs || this.#isBusy) {
          await file.write(bytes, position);
          await timedSync().catch((error) => {
            throw failure('WalFailed', (error as Error).message, { cause: undefined });
          });
          return;
        }
        const before = performance.now();
        this.#place(bytes, position);
        await this.#ask(OP_WRITE_SYNC, fd, `write and fdatasync of ${file.path}`);
        this.#count(performance.now() - before, this.#numbers[NUMBER.callMs]);
      },
      sync: async () => {
        if (this.#isBusy) return await timedSync();
        const before = performance.now();
        await this.#ask(OP_SYNC, fd, `fdatasync of ${file.path}`);
        this.#count(performance.now() - before, this.#numbers[NUMBER.callMs]!);
      },
    };
  }

  #place(bytes: Uint8Array, position: number): void {
    this.#numbers[NUMBER.offset] = bytes.byteOffset;
    this.#numbers[NUMBER.length] = bytes.length;
    this.#numbers[NUMBER.position] = position;
  }

  get #isBusy(): boolean {
    return this.#asked !== undefined || this.#isDead;
  }

  #count(totalMs: number, callMs: number | undefined): void {
    const { times } = this;
    times.count++;
    times.lastCallMs = callMs ?? totalMs;
    times.lastWaitMs = Math.max(0, totalMs - times.lastCallMs);
    times.maxCallMs = Math.max(times.maxCallMs, times.lastCallMs);
    times.maxWaitMs = Math.max(times.maxWaitMs, times.lastWaitMs);
    this.#counts.sync(times.lastCallMs, times.lastWaitMs);
  }

  #ask(op: number, fd: number, what: string): Promise<void> {
    this.#numbers[NUMBER.fd] = fd;
    Atomics.store(this.#words, WORD.op, op);
    // What is under way keeps the process alive, as any file operation does.
    this.#worker?.ref();
    return new Promise((resolve, reject) => {
      this.#asked = { what, resolve, reject };
      Atomics.add(this.#words, WORD.asked, 1);
      Atomics.notify(this.#words, WORD.asked);
    });
  }

  async close(): Promise<void> {
    if (!this.#worker) return;
    this.#worker.ref();
    Atomics.store(this.#words, WORD.op, OP_END);
    Atomics.add(this.#words, WORD.asked, 1);
    Atomics.notify(this.#words, WORD.asked);
    await this.#ended;
  }
}

/** What the log's writer leaves to the file itself. */
function restOf(file: DiskFile): Omit<DiskFile, 'fd' | 'write' | 'writeAndSync' | 'sync'> {
  return {
    path: file.path,
    syncAll: () => file.syncAll(),
    read: (into, position) => file.read(into, position),
    truncate: (size) => file.truncate(size),
    size: () => file.size(),
    close: () => file.close(),
  };
}

/** A failed fdatasync is final, whatever its errno says: pages may be gone (row 14). */
function callError(what: string, failed: WriterFailure): Error {
  if (failed.isSync) return failure('WalFailed', `${what} failed: ${failed.message}`);
  return ioError(what, Object.assign(new Error(), failed));
}
