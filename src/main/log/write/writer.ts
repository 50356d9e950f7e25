/**
 * Main's side of the writer thread: asks for a write or fdatasync of the log and is woken when it
 * is done. What the thread cannot do (another call is under way, bytes outside of the slabs) goes
 * through libuv as any other file operation. So does a write that was under way when it died: the
 * same bytes at the same place, and their fdatasync, are as good the second time; an fdatasync
 * alone is not, for the first one may have failed unheard. The next call has a new thread (row 76).
 */
import type { Worker } from 'node:worker_threads';
import { failure } from '../../../shared/errors.js';
import {
  NUMBER,
  NUMBERS,
  OP_END,
  OP_SYNC,
  OP_WRITE,
  OP_WRITE_SYNC,
  WORD,
  WORDS,
  WRITER_BEGINS,
  type WriterAnswer,
  type WriterFailure,
  type WriterStart,
} from '../../../shared/memory/writer-words.js';
import { beginWait, endWait } from '../../runtime/alive.js';
import { startThread, THREAD_START_MS, unsuitable } from '../../runtime/threads.js';
import { type DiskFile, ioError } from '../../segments/disk.js';
import type { NodeCounts } from './counts.js';
import { final } from './output.js';

/** How long fdatasyncs take: the call itself, and what it waited for a thread to make it. */
export interface SyncTimes {
  count: number;
  lastCallMs: number;
  lastWaitMs: number;
  maxCallMs: number;
  maxWaitMs: number;
}

/** So many deaths within a minute, and the log has failed (row 76). */
const DEATHS_TO_FAIL = 3;
const DEATHS_WITHIN_MS = 60_000;

interface Asked {
  readonly what: string;
  /** Does the same without the thread. */
  readonly again: () => Promise<void>;
  readonly resolve: () => void;
  readonly reject: (error: Error) => void;
}

export class LogWriter {
  /** Of the thread that lives now. */
  #words = new Int32Array(new SharedArrayBuffer(4 * WORDS));
  readonly #numbers = new Float64Array(new SharedArrayBuffer(8 * NUMBERS));
  readonly #slabs: SharedArrayBuffer;
  readonly #counts: NodeCounts;
  #worker: Worker | undefined;
  #ended: Promise<void> | undefined;
  #asked: Asked | undefined;
  #deathsMs: number[] = [];
  /** Of the first thread: it lives, or has ended before it did. */
  readonly #firstWord: Promise<void>;
  #begun!: () => void;
  #neverBegan!: (error: Error) => void;
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
    this.#firstWord = new Promise((resolve, reject) => {
      this.#begun = resolve;
      this.#neverBegan = reject;
    });
    this.#firstWord.catch(() => undefined);
  }

  /** With the first file that is known by a number: a disk in memory needs no thread. */
  #start(): Worker {
    this.#words = new Int32Array(new SharedArrayBuffer(4 * WORDS));
    const start: WriterStart = {
      words: this.#words.buffer as SharedArrayBuffer,
      numbers: this.#numbers.buffer as SharedArrayBuffer,
      slabs: this.#slabs,
    };
    const worker = startThread('log-writer', 'log writer', start);
    worker.unref();
    worker.on('message', (failed: WriterAnswer) => {
      if (failed === WRITER_BEGINS) {
        this.#begun();
        return;
      }
      const asked = this.#answered();
      if (failed) asked?.reject(callError(asked.what, failed));
      else asked?.resolve();
    });
    let reason = new Error('it ended by itself');
    worker.on('error', (error) => {
      reason = error;
    });
    this.#ended = new Promise((resolve) => {
      worker.on('exit', () => {
        if (this.#worker === worker) this.#died(reason);
        resolve();
      });
    });
    return worker;
  }

  /**
   * Resolves when the thread lives; at once where none is needed. Whatever stands against threads
   * is known before anything is acknowledged. Rejects HostUnsuitable.
   */
  async ready(): Promise<void> {
    const worker = this.#worker;
    if (!worker) return;
    worker.ref();
    const late = setTimeout(() => {
      const found = `the thread that writes the log has not begun in ${THREAD_START_MS / 1_000} s`;
      this.#neverBegan(unsuitable(`${found}: is the machine too busy?`, undefined));
      void worker.terminate();
    }, THREAD_START_MS);
    try {
      await this.#firstWord;
    } finally {
      clearTimeout(late);
      worker.unref();
    }
  }

  #died(reason: Error): void {
    this.#worker = undefined;
    this.#neverBegan(unsuitable(`the thread that writes the log ends: ${reason.message}`, reason));
    const asked = this.#answered();
    const nowMs = performance.now();
    this.#deathsMs = [...this.#deathsMs.filter((ms) => nowMs - ms < DEATHS_WITHIN_MS), nowMs];
    if (!asked) return;
    if (this.#deathsMs.length >= DEATHS_TO_FAIL) asked.reject(lost(reason));
    else asked.again().then(asked.resolve, asked.reject);
  }

  /** Who has asked: the call is over, or its thread is. */
  #answered(): Asked | undefined {
    const asked = this.#asked;
    this.#asked = undefined;
    if (asked) endWait();
    return asked;
  }

  /** The same file, with the log's own writes and fdatasyncs made by the thread. */
  wrap(file: DiskFile): DiskFile {
    const { withFd } = file;
    const timedSync = async (): Promise<void> => {
      const before = performance.now();
      await file.sync();
      this.#count(performance.now() - before, undefined);
    };
    const rest = restOf(file);
    if (!withFd) {
      return { ...rest, write: (bytes, position) => file.write(bytes, position), sync: timedSync };
    }
    // The first write is not to wait for it.
    this.#worker ??= this.#start();
    return {
      ...rest,
      write: (bytes, position) => {
        const directly = (): Promise<void> => file.write(bytes, position);
        if (bytes.buffer !== this.#slabs || this.#asked) return directly();
        this.#place(bytes, position);
        return withFd((fd) => this.#ask(OP_WRITE, fd, `write to ${file.path}`, directly));
      },
      writeAndSync: async (bytes, position) => {
        const directly = async (): Promise<void> => {
          await file.write(bytes, position);
          await final(file.sync());
        };
        const before = performance.now();
        if (bytes.buffer !== this.#slabs || this.#asked) {
          await directly();
          this.#count(performance.now() - before, undefined);
          return;
        }
        this.#place(bytes, position);
        const what = `write and fdatasync of ${file.path}`;
        await withFd((fd) => this.#ask(OP_WRITE_SYNC, fd, what, directly));
        this.#count(performance.now() - before, this.#numbers[NUMBER.callMs]);
      },
      sync: async () => {
        if (this.#asked) return await timedSync();
        const before = performance.now();
        const never = (): Promise<void> => Promise.reject(lost(new Error('an fdatasync was open')));
        await withFd((fd) => this.#ask(OP_SYNC, fd, `fdatasync of ${file.path}`, never));
        this.#count(performance.now() - before, this.#numbers[NUMBER.callMs]!);
      },
    };
  }

  #place(bytes: Uint8Array, position: number): void {
    this.#numbers[NUMBER.offset] = bytes.byteOffset;
    this.#numbers[NUMBER.length] = bytes.length;
    this.#numbers[NUMBER.position] = position;
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

  #ask(op: number, fd: number, what: string, again: () => Promise<void>): Promise<void> {
    this.#worker ??= this.#start();
    this.#numbers[NUMBER.fd] = fd;
    Atomics.store(this.#words, WORD.op, op);
    // What is under way keeps the process alive, as any file operation does.
    beginWait();
    return new Promise((resolve, reject) => {
      this.#asked = { what, again, resolve, reject };
      Atomics.add(this.#words, WORD.asked, 1);
      Atomics.notify(this.#words, WORD.asked);
    });
  }

  async close(): Promise<void> {
    const worker = this.#worker;
    if (!worker) return;
    this.#worker = undefined;
    worker.ref();
    Atomics.store(this.#words, WORD.op, OP_END);
    Atomics.add(this.#words, WORD.asked, 1);
    Atomics.notify(this.#words, WORD.asked);
    await this.#ended;
  }
}

/** What the log's writer leaves to the file itself. */
function restOf(file: DiskFile): Omit<DiskFile, 'withFd' | 'write' | 'writeAndSync' | 'sync'> {
  return {
    path: file.path,
    syncAll: () => final(file.syncAll()),
    read: (into, position) => file.read(into, position),
    truncate: (size) => file.truncate(size),
    size: () => file.size(),
    identity: file.identity,
    close: () => file.close(),
  };
}

function lost(reason: Error): Error {
  return failure('WalFailed', `the thread that writes the log has died: ${reason.message}`);
}

/** A failed fdatasync is final, whatever its errno says: pages may be gone (row 14). */
function callError(what: string, failed: WriterFailure): Error {
  if (failed.isSync) return failure('WalFailed', `${what} failed: ${failed.message}`);
  return ioError(what, Object.assign(new Error(), failed));
}
