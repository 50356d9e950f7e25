/**
 * Preloaded into every thread of a measured process (`--require`): each thread has a row in shared
 * memory with its id and what it counts. BENCH_THREADS says what is done besides: `count` nothing;
 * `trace` counts copies and notes when bytes are written, synced and handed to sockets; `profile`
 * takes a CPU profile of each thread; `strace` counts the system calls of the process by name.
 */
const { spawn } = require('node:child_process');
const fs = require('node:fs');
const inspector = require('node:inspector');
const { syncBuiltinESMExports } = require('node:module');
const net = require('node:net');
const path = require('node:path');
const threads = require('node:worker_threads');

const KEY = 'bench-threads';
const ROWS = 24;
const FIELD = { tid: 0, syncs: 1, copies: 2, copiedBytes: 3, noted: 4 };
const FIELDS = 8;
const NAME_BYTES = 32;
const NOTES_MAX = 40_000;
const NOTE = { write: 1, sync: 2, batch: 3, ack: 4 };
const NOTE_FIELDS = 3;
const PROFILE_EVERY_US = 250;

const mode = process.env.BENCH_THREADS;
/** Of the log of this benchmark: entries of one size, so that the last one of a write is found. */
const ENTRY_BYTES = 320;
const TRAILER_BYTES = 64;
const MAGIC = 0xdeadbeef;

const shared = threads.isMainThread ? allocate() : threads.getEnvironmentData(KEY);
const own = shared ? register() : undefined;
if (shared && threads.isMainThread) startThreadsWithThis();
if (own) {
  countSyncs();
  if (mode === 'trace') trace();
  if (mode === 'profile') profile();
}
if (shared && threads.isMainThread) globalThis.benchThreads = { mark, read, endProfiles };

function allocate() {
  const notes = mode === 'trace' ? ROWS * NOTES_MAX * NOTE_FIELDS * 8 : 8;
  const made = {
    words: new Int32Array(new SharedArrayBuffer(8)),
    rows: new Float64Array(new SharedArrayBuffer(ROWS * FIELDS * 8)),
    names: new Uint8Array(new SharedArrayBuffer(ROWS * NAME_BYTES)),
    notes: new Float64Array(new SharedArrayBuffer(notes)),
  };
  threads.setEnvironmentData(KEY, made);
  return made;
}

function register() {
  const row = Atomics.add(shared.words, 0, 1);
  if (row >= ROWS) return undefined;
  const tid = Number(fs.readlinkSync('/proc/thread-self').split('/').at(-1));
  const name = threads.isMainThread ? 'main' : (process.env.BENCH_THREAD ?? 'thread');
  shared.names.set(Buffer.from(name).subarray(0, NAME_BYTES), row * NAME_BYTES);
  const place = row * FIELDS;
  shared.rows[place + FIELD.tid] = tid;
  return {
    name,
    add: (field, more) => {
      shared.rows[place + field] += more;
    },
    note: (kind, sequence) => {
      const n = shared.rows[place + FIELD.noted];
      if (n >= NOTES_MAX) return;
      const at = (row * NOTES_MAX + n) * NOTE_FIELDS;
      shared.notes[at] = kind;
      shared.notes[at + 1] = sequence;
      shared.notes[at + 2] = nowMs();
      shared.rows[place + FIELD.noted] = n + 1;
    },
  };
}

/** The clock that all threads and processes of a machine share. */
function nowMs() {
  const [s, ns] = process.hrtime();
  return s * 1e3 + ns / 1e6;
}

/** By file, or by the job that the bare pipeline gives a thread: as ours are called. */
const NAMES = {
  worker: 'sealer',
  shipper: 'shipper-thread',
  seal: 'sealer',
  write: 'log-writer',
};

/** Threads of a node are started without the flags of their process. */
function startThreadsWithThis() {
  const { Worker } = threads;
  threads.Worker = class extends Worker {
    constructor(file, options = {}) {
      const env = typeof options.env === 'object' && options.env ? options.env : process.env;
      const name = path.basename(String(file)).replace(/\.\w+$/, '');
      const job = options.workerData?.job ?? name;
      super(file, {
        ...options,
        execArgv: [...(options.execArgv ?? []), '--require', __filename],
        env: { ...env, BENCH_THREAD: NAMES[job] ?? NAMES[name] ?? name },
      });
    }
  };
  syncBuiltinESMExports();
}

function countSyncs() {
  const { fdatasyncSync } = fs;
  fs.fdatasyncSync = (fd) => {
    fdatasyncSync(fd);
    own.add(FIELD.syncs, 1);
  };
  syncBuiltinESMExports();
}

// --- trace -------------------------------------------------------------------------------------

function trace() {
  countCopies();
  let last = 0;
  const { writeSync, fdatasyncSync } = fs;
  fs.writeSync = (fd, bytes, offset, length, position) => {
    const found = lastSequence(bytes, offset, length);
    if (found > 0) own.note(NOTE.write, found);
    if (found > 0) last = found;
    return writeSync(fd, bytes, offset, length, position);
  };
  fs.fdatasyncSync = (fd) => {
    fdatasyncSync(fd);
    if (last > 0) own.note(NOTE.sync, last);
    last = 0;
  };
  syncBuiltinESMExports();
  const { write } = net.Socket.prototype;
  net.Socket.prototype.write = function (bytes, ...rest) {
    if (bytes instanceof Uint8Array) noteFrames(bytes);
    return write.call(this, bytes, ...rest);
  };
}

function countCopies() {
  const typed = Object.getPrototypeOf(Uint8Array.prototype);
  const { set, copyWithin } = typed;
  typed.set = function (from, at) {
    set.call(this, from, at);
    counted(from.byteLength ?? from.length);
  };
  typed.copyWithin = function (to, from, end = this.length) {
    counted(end - from);
    return copyWithin.call(this, to, from, end);
  };
  const { copy, fill } = Buffer.prototype;
  Buffer.prototype.fill = function (value, from, end, ...rest) {
    if (value instanceof Uint8Array) counted(end - from);
    return fill.call(this, value, from, end, ...rest);
  };
  Buffer.prototype.copy = function (...args) {
    const bytes = copy.apply(this, args);
    counted(bytes);
    return bytes;
  };
}

/** Copies of less than an entry's header are of words and names. */
function counted(bytes) {
  if (bytes < 64) return;
  own.add(FIELD.copies, 1);
  own.add(FIELD.copiedBytes, bytes);
}

/** The sequence of the last entry of a group; 0 where it is none of this benchmark's. */
function lastSequence(bytes, offset, length) {
  const at = offset + length - TRAILER_BYTES - ENTRY_BYTES;
  if (!(bytes instanceof Uint8Array) || !(at >= offset)) return 0;
  const view = new DataView(bytes.buffer, bytes.byteOffset + at, ENTRY_BYTES);
  const isEntry = view.getUint32(0, true) === MAGIC && view.getUint32(24, true) === 256;
  return isEntry ? Number(view.getBigUint64(4, true)) : 0;
}

/** Batches of a frame, or the acknowledgements of one: docs/PROTOCOL.md. */
function noteFrames(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const kind = bytes.length >= 16 ? view.getUint8(4) : 0;
  if (kind === 6) {
    for (let at = 16; at + 68 <= bytes.length; at += 4 + view.getUint32(at, true)) {
      const first = Number(view.getBigUint64(at + 4 + 34, true));
      own.note(NOTE.batch, first + view.getUint32(at + 4 + 42, true) - 1);
    }
  }
  if (kind === 7 && bytes.length >= 48) own.note(NOTE.ack, Number(view.getBigUint64(32, true)));
}

// --- profiles ----------------------------------------------------------------------------------

/** Word 1 tells every thread to write its profile down. */
function profile() {
  const session = new inspector.Session();
  session.connect();
  session.post('Profiler.enable');
  session.post('Profiler.setSamplingInterval', { interval: PROFILE_EVERY_US });
  session.post('Profiler.start');
  let isOver = false;
  const look = () => {
    if (isOver || Atomics.load(shared.words, 1) === 0) return;
    isOver = true;
    session.post('Profiler.stop', (_, found) => {
      const file = `${process.env.BENCH_PROFILES}/${process.pid}-${own.name}-${Date.now()}.json`;
      fs.writeFileSync(file, JSON.stringify({ thread: own.name, ...found.profile }));
    });
  };
  if (threads.isMainThread) {
    globalThis.benchEndOwnProfile = look;
    return;
  }
  // A thread that waits for words comes by here, one that waits for events there.
  const { wait } = Atomics;
  Atomics.wait = (...args) => {
    look();
    const woken = wait(...args);
    look();
    return woken;
  };
  setInterval(look, 50).unref();
}

function endProfiles() {
  Atomics.store(shared.words, 1, 1);
  globalThis.benchEndOwnProfile?.();
}

// --- what the kernel knows of threads ----------------------------------------------------------

const NOTHING = { cpuNs: 0, sleeps: 0, pushedOut: 0, reads: 0, writes: 0 };
let before = new Map();
let fromMs = 0;

function look() {
  const found = new Map();
  const rows = Math.min(ROWS, Atomics.load(shared.words, 0));
  const known = new Map();
  for (let row = 0; row < rows; row++) {
    const name = Buffer.from(shared.names.subarray(row * NAME_BYTES, (row + 1) * NAME_BYTES));
    const text = name.toString('utf8').replace(/\0+$/, '');
    known.set(shared.rows[row * FIELDS + FIELD.tid], { name: text, row });
  }
  for (const tid of fs.readdirSync('/proc/self/task')) {
    const of = known.get(Number(tid));
    found.set(tid, { name: of?.name ?? 'V8 and libuv', row: of?.row, ...kernelFigures(tid) });
  }
  return found;
}

function kernelFigures(tid) {
  const read = (file) => {
    try {
      return fs.readFileSync(`/proc/self/task/${tid}/${file}`, 'latin1');
    } catch {
      return '';
    }
  };
  const number = (text, name) =>
    Number(new RegExp(`^${name}:\\s*(\\d+)`, 'm').exec(text)?.[1] ?? 0);
  const status = read('status');
  const io = read('io');
  return {
    cpuNs: Number(read('schedstat').split(' ')[0]),
    sleeps: number(status, 'voluntary_ctxt_switches'),
    pushedOut: number(status, 'nonvoluntary_ctxt_switches'),
    reads: number(io, 'syscr'),
    writes: number(io, 'syscw'),
  };
}

function mark() {
  before = look();
  fromMs = nowMs();
  shared.rows.forEach((_, at) => {
    if (at % FIELDS !== FIELD.tid) shared.rows[at] = 0;
  });
  if (mode === 'strace') startCounting();
}

/** Since `mark`: by name, threads of one name summed; `notes` by thread. */
function read() {
  // First: a look at the threads is some fifty files of /proc.
  const calls = mode === 'strace' ? countedCalls() : {};
  const byName = {};
  const notes = [];
  let syncs = 0;
  for (const [tid, now] of look()) {
    const then = before.get(tid) ?? NOTHING;
    const sum = byName[now.name] ?? { ...NOTHING };
    byName[now.name] = sum;
    for (const key of Object.keys(NOTHING)) sum[key] += now[key] - then[key];
    if (now.row === undefined) continue;
    const place = now.row * FIELDS;
    sum.copies = (sum.copies ?? 0) + shared.rows[place + FIELD.copies];
    sum.copiedBytes = (sum.copiedBytes ?? 0) + shared.rows[place + FIELD.copiedBytes];
    syncs += shared.rows[place + FIELD.syncs];
    const from = now.row * NOTES_MAX * NOTE_FIELDS;
    const of = shared.notes.slice(from, from + shared.rows[place + FIELD.noted] * NOTE_FIELDS);
    if (of.length > 0) notes.push({ name: now.name, values: Array.from(of) });
  }
  return { threads: byName, syncs, notes, calls, fromMs, toMs: nowMs() };
}

// --- system calls ------------------------------------------------------------------------------

const CALLS_WITHIN_MS = 10_000;
let counter;
const callsFile = () => `${process.env.BENCH_PROFILES}/calls-${process.pid}`;

function startCounting() {
  const args = ['-f', '-c', '-o', callsFile(), '-p', String(process.pid)];
  counter = spawn('strace', args, { stdio: 'ignore' });
  counter.on('error', () => undefined);
}

/** By name; nothing without strace. It writes its table when it is told to end. */
function countedCalls() {
  counter.kill('SIGINT');
  const until = nowMs() + CALLS_WITHIN_MS;
  const idle = new Int32Array(new SharedArrayBuffer(4));
  while (nowMs() < until) {
    Atomics.wait(idle, 0, 0, 50);
    const text = fs.existsSync(callsFile()) ? fs.readFileSync(callsFile(), 'utf8') : '';
    if (!text.includes(' total')) continue;
    const rows = text.split('\n').map((line) => line.trim().split(/\s+/));
    const isRow = (row) => row.length >= 5 && Number(row[3]) > 0 && row.at(-1) !== 'total';
    return Object.fromEntries(rows.filter(isRow).map((row) => [row.at(-1), Number(row[3])]));
  }
  return {};
}
