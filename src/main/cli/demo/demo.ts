/**
 * The main job, on one machine: a primary and two replicas as processes of their own, real
 * input, and a proof from the data on disk that all three hold the same.
 */
import { type ChildProcess, fork } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import Table from 'cli-table3';
import { failure } from '../../../shared/errors.js';
import { nodeDisk } from '../../segments/node-disk.js';
import { checkInput } from './input.js';
import type { DemoFigures, DemoMessage, DemoStart } from './node.js';
import { type Proof, verifyLogs } from './verify.js';

export interface DemoOptions {
  readonly input: string | undefined;
  readonly repeat: number;
  readonly keep: boolean;
  readonly json: boolean;
  /** Go on until a signal, so that somebody can look at the page; then prove. */
  readonly serve: boolean;
}

/** The object of `--json`. */
export interface DemoResult {
  readonly entries: number;
  /** Bytes of payload. */
  readonly bytes: number;
  readonly spaces: number;
  readonly seconds: number;
  readonly entriesPerSecond: number;
  readonly replicas: readonly {
    readonly id: string;
    readonly entries: number;
    readonly identical: boolean;
    readonly lagMs: number | 'unknown';
  }[];
  /** The primary's first. They are gone when the demo ends, unless --keep was given. */
  readonly dataDirs: readonly string[];
}

const PRIMARY = 'primary';
const REPLICAS = ['replica-1', 'replica-2'];
const LINE_EVERY_MS = 1_000;
const END_TIMEOUT_MS = 15_000;
const STDERR_KEPT = 2_000;

/** A failure of the demo or one of its processes; the message is for people. */
export class DemoError extends Error {
  /** The code of the error that a process ended with; undefined where it had none. */
  readonly code: string | undefined;

  constructor(message: string, code?: string) {
    super(message);
    this.code = code;
  }
}

/**
 * Runs the demo. @returns whether all three logs are identical
 * Throws Configuration for an input that cannot be used, DemoError for what goes wrong later. The
 * processes have ended and, without `keep`, the data is gone when it settles.
 */
export async function runDemo(options: DemoOptions): Promise<boolean> {
  if (options.input !== undefined) await checkInput(options.input);
  const { interrupted, enough, stop } = watchSignals(options.serve);
  const base = await mkdtemp(path.join(os.tmpdir(), 'engram-wal-demo-'));
  const processes: DemoProcess[] = [];
  const progress = options.json ? undefined : new Progress();
  try {
    const work = replicateAndProve(options, base, processes, stop.signal, enough, progress);
    const { result, proofs } = await Promise.race([interrupted, work]);
    if (options.json) process.stdout.write(`${JSON.stringify(result)}\n`);
    else printTable(result, proofs);
    return result.replicas.every((r) => r.identical);
  } finally {
    stop.abort();
    progress?.end();
    // What is thrown away needs no orderly end; what is kept does.
    await Promise.all(processes.map((p) => (options.keep ? p.end() : p.kill())));
    if (!options.keep) await rm(base, { recursive: true, force: true });
    else (options.json ? console.error : console.log)(`The data directories are in ${base}`);
  }
}

/**
 * Signals, and an output that nobody reads any more, end the demo in order. They stay caught to
 * the end: a second one changes nothing. A demo that serves takes the first for `enough`.
 */
function watchSignals(serve: boolean): {
  interrupted: Promise<never>;
  enough: AbortSignal;
  stop: AbortController;
} {
  const stop = new AbortController();
  const enough = new AbortController();
  const interrupted = new Promise<never>((_, reject) => {
    const end = (why: string): void => {
      stop.abort();
      reject(new DemoError(`ended by ${why}`));
    };
    for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
      process.on(signal, () => {
        if (serve && !enough.signal.aborted) enough.abort();
        else end(signal);
      });
    }
    process.stdout.on('error', (error) => end(error.message));
  });
  // It may come when nobody waits any more.
  interrupted.catch(() => undefined);
  return { interrupted, enough: enough.signal, stop };
}

async function replicateAndProve(
  options: DemoOptions,
  base: string,
  processes: DemoProcess[],
  stopped: AbortSignal,
  enough: AbortSignal,
  progress: Progress | undefined,
): Promise<{ result: DemoResult; proofs: readonly Proof[] }> {
  const start = (nodeId: string, replicas: DemoStart['replicas']): DemoProcess => {
    // Behind an interrupt nobody would end it.
    stopped.throwIfAborted();
    const dataDir = path.join(base, nodeId);
    const { input, repeat, serve } = options;
    const logFile = path.join(base, `${nodeId}.log`);
    const own = { nodeId, dataDir, replicas, input, repeat, serve, logFile };
    const child = new DemoProcess(own, (figures) => progress?.show(figures));
    processes.push(child);
    return child;
  };
  progress?.title(options.input ?? 'the State of the Union speeches');
  const replicas = REPLICAS.map((nodeId) => start(nodeId, []));
  const members = await Promise.all(
    replicas.map(async (r) => {
      const { host, port } = await r.until('listening');
      return { nodeId: r.nodeId, host, port };
    }),
  );
  const primary = start(PRIMARY, members);
  void primary.until('page').then(
    ({ url }) => tellPage(url, options),
    () => undefined,
  );
  const isEnough = (): void => primary.enough();
  if (enough.aborted) isEnough();
  else enough.addEventListener('abort', isEnough, { once: true });
  // A replica that dies meanwhile ends the demo as well.
  const done = await Promise.race([primary.until('done'), ...replicas.map((r) => r.until('done'))]);
  progress?.show(done.figures, true);
  if (done.figures.entries === 0) throw failure('Configuration', 'the input has no entry');
  await primary.endWell();
  await Promise.all(replicas.map((r) => r.endWell()));
  const dataDirs = [PRIMARY, ...REPLICAS].map((id) => path.join(base, id));
  // Nobody writes them now.
  const proofs = await verifyLogs(nodeDisk, dataDirs, new Map(done.logged));
  return { result: resultOf(done, proofs, dataDirs), proofs };
}

/** Where to look while it lasts. */
function tellPage(url: string, { json, serve }: DemoOptions): void {
  const say = json ? console.error : console.log;
  if (json && !serve) return;
  say(`Look at it: ${url}  (metrics: ${url}metrics)`);
  if (serve) say('It goes on until Ctrl-C; then the logs are compared.');
}

function resultOf(
  { figures, lags }: DemoMessage & { kind: 'done' },
  proofs: readonly Proof[],
  dataDirs: readonly string[],
): DemoResult {
  const [primary, ...others] = proofs;
  const { entries, bytes, spaces } = primary!;
  const { seconds } = figures;
  return {
    entries,
    bytes,
    spaces,
    seconds: Math.round(seconds * 1_000) / 1_000,
    entriesPerSecond: Math.round(entries / seconds),
    replicas: others.map((proof, i) => {
      const { id, lagMs } = lags[i]!;
      const rounded = lagMs === 'unknown' ? lagMs : Math.round(lagMs * 1_000) / 1_000;
      return { id, entries: proof.entries, identical: proof.identical, lagMs: rounded };
    }),
    dataDirs,
  };
}

function printTable(result: DemoResult, proofs: readonly Proof[]): void {
  const table = new Table({
    head: ['node', 'spaces', 'entries', 'bytes', 'lag ms', 'identical'],
    colAligns: ['left', 'right', 'right', 'right', 'right', 'left'],
    style: { head: [], border: [] },
  });
  for (const [i, proof] of proofs.entries()) {
    const replica = result.replicas[i - 1];
    const whole = replica ? 'yes' : 'is the original';
    table.push([
      replica?.id ?? PRIMARY,
      String(proof.spaces),
      proof.entries.toLocaleString('en'),
      proof.bytes.toLocaleString('en'),
      replica ? lagText(replica.lagMs) : '-',
      proof.identical ? whole : 'NO',
    ]);
  }
  console.log(table.toString());
  const rate = result.entriesPerSecond.toLocaleString('en');
  const entries = result.entries.toLocaleString('en');
  console.log(
    `${entries} entries in ${result.seconds.toFixed(2)} s, flushed on all three: ${rate} a second.`,
  );
  if (proofs.every((p) => p.identical)) {
    console.log(
      'Every entry of every space is identical on all three: SHA-256 over what is on disk.',
    );
    return;
  }
  console.log('THE LOGS DIFFER. Run again with --keep and compare the data directories.');
  for (const [i, { difference }] of proofs.entries()) {
    if (difference) console.log(`  ${result.replicas[i - 1]?.id ?? PRIMARY}: ${difference}`);
  }
}

function lagText(lagMs: number | 'unknown'): string {
  return lagMs === 'unknown' ? lagMs : lagMs.toFixed(1);
}

/** On a terminal one line that changes; elsewhere a line a second. */
class Progress {
  readonly #isTerminal = process.stdout.isTTY;
  #printedMs = performance.now();
  #before = { entries: 0, seconds: 0 };
  /** The terminal's line has no end yet. */
  #isOpen = false;

  title(input: string): void {
    console.log(`engram-wal demo: ${input}, from a primary to two replicas, three processes`);
  }

  show(figures: DemoFigures, isLast = false): void {
    const now = performance.now();
    if (!this.#isTerminal && !isLast && now - this.#printedMs < LINE_EVERY_MS) return;
    this.#printedMs = now;
    const { entries, seconds } = figures;
    const passed = seconds - this.#before.seconds;
    const rate = passed > 0 ? Math.round((entries - this.#before.entries) / passed) : 0;
    this.#before = { entries, seconds };
    const lags = figures.replicas.map(({ id, lagMs }) => `${id} ${lagText(lagMs)}`);
    const parts = [
      `${seconds.toFixed(1)} s`,
      `${entries.toLocaleString('en')} entries`,
      `${rate.toLocaleString('en')}/s`,
      `lag ms: ${lags.join(', ')}`,
    ];
    const line = parts.join('  ');
    if (!this.#isTerminal) {
      console.log(line);
      return;
    }
    // A line that wraps could not be taken back.
    process.stdout.write(`\r\x1b[2K${line.slice(0, (process.stdout.columns || 80) - 1)}`);
    this.#isOpen = true;
    if (isLast) this.end();
  }

  /** What comes next begins on a line of its own. */
  end(): void {
    if (this.#isOpen) process.stdout.write('\n');
    this.#isOpen = false;
  }
}

/** A child of the demo: what it says, and its end. */
class DemoProcess {
  readonly nodeId: string;
  readonly #child: ChildProcess;
  /** How it ended; undefined when well. */
  readonly #exited: Promise<string | undefined>;
  readonly #failed: Promise<never>;
  readonly #heard = new Map<string, (message: DemoMessage) => void>();
  #stderr = '';
  #ending = false;

  constructor(start: DemoStart, say: (figures: DemoFigures) => void) {
    this.nodeId = start.nodeId;
    const file = new URL('./node.js', import.meta.url);
    // A group of its own: a terminal's interrupt reaches the parent, which ends it in order.
    this.#child = fork(file, { stdio: ['ignore', 'ignore', 'pipe', 'ipc'], detached: true });
    this.#child.stderr!.on('data', (chunk: Buffer) => {
      this.#stderr = (this.#stderr + chunk.toString('utf8')).slice(-STDERR_KEPT);
    });
    this.#exited = new Promise((resolve) => {
      // `close`, not `exit`: then all of its stderr has come.
      this.#child.once('close', (code, signal) => {
        resolve(code === 0 ? undefined : (signal ?? `exit code ${code}`));
      });
      // Without a pid it never ran, and closes nothing.
      this.#child.on('error', (error) => {
        if (this.#child.pid === undefined) resolve(error.message);
      });
    });
    this.#failed = new Promise((_, reject) => {
      this.#child.on('message', (message: DemoMessage) => {
        if (message.kind === 'failed') {
          reject(new DemoError(`${this.nodeId}: ${message.message}`, message.code));
        } else if (message.kind === 'progress') say(message.figures);
        else this.#heard.get(message.kind)?.(message);
      });
      void this.#exited.then((how) => {
        if (!this.#ending) reject(this.#died(how ?? 'exit code 0'));
      });
    });
    this.#failed.catch(() => undefined);
    this.#child.send(start, () => undefined);
  }

  /** The message of this kind; rejects when the process fails or dies before it comes. */
  until<K extends 'listening' | 'page' | 'done'>(kind: K): Promise<DemoMessage & { kind: K }> {
    const heard = new Promise<DemoMessage & { kind: K }>((resolve) => {
      this.#heard.set(kind, (message) => resolve(message as DemoMessage & { kind: K }));
    });
    return Promise.race([heard, this.#failed]);
  }

  /** A primary that serves takes no more input. */
  enough(): void {
    if (this.#child.connected) this.#child.send('enough', () => undefined);
  }

  #died(how: string): DemoError {
    return new DemoError(`${this.nodeId} died (${how})\n${this.#stderr}`.trim());
  }

  /**
   * Asks the process to close its node and waits; after 15 s it is killed.
   * @returns how it ended; undefined when well
   */
  async end(): Promise<string | undefined> {
    this.#ending = true;
    // It may be gone already, which the callback is told as an error.
    if (this.#child.connected) this.#child.send('end', () => undefined);
    const timer = setTimeout(() => this.#child.kill('SIGKILL'), END_TIMEOUT_MS);
    const how = await this.#exited;
    clearTimeout(timer);
    return how;
  }

  /** As `end`; throws DemoError unless the node was closed in order. */
  async endWell(): Promise<void> {
    const how = await this.end();
    if (how !== undefined) throw this.#died(how);
  }

  /** Ends the process at once and waits for its end. */
  async kill(): Promise<void> {
    this.#ending = true;
    this.#child.kill('SIGKILL');
    await this.#exited;
  }
}
