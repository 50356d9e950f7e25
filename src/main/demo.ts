/**
 * The main job, on one machine: a primary and two replicas as processes of their own, real
 * input, and a proof from the data on disk that all three hold the same.
 */
import { type ChildProcess, fork } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import Table from 'cli-table3';
import type { DemoFigures, DemoMessage, DemoStart } from './demo-node.js';
import { nodeDisk } from './disk.js';
import { digestLog, type SpaceDigest, sameLogs } from './log-digest.js';

export interface DemoOptions {
  readonly input: string | undefined;
  readonly repeat: number;
  readonly keep: boolean;
  readonly json: boolean;
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

/** A failure that the demo has explained; the message is for people. */
export class DemoError extends Error {}

/** Runs the demo. @returns the exit code: 0 only where all three logs are identical */
export async function runDemo(options: DemoOptions): Promise<number> {
  const base = await mkdtemp(path.join(os.tmpdir(), 'engram-wal-demo-'));
  const processes: DemoProcess[] = [];
  const interrupted = new Promise<never>((_, reject) => {
    for (const signal of ['SIGINT', 'SIGTERM'] as const) {
      process.once(signal, () => reject(new DemoError(`ended by ${signal}`)));
    }
  });
  try {
    const { figures, dataDirs } = await Promise.race([
      replicate(options, base, processes),
      interrupted,
    ]);
    const result = await prove(figures, dataDirs);
    if (options.json) process.stdout.write(`${JSON.stringify(result.json)}\n`);
    else printTable(result.json, result.logs, options.keep);
    return result.json.replicas.every((r) => r.identical) ? 0 : 2;
  } finally {
    await Promise.all(processes.map((p) => p.end()));
    if (!options.keep) await rm(base, { recursive: true, force: true });
  }
}

async function replicate(
  options: DemoOptions,
  base: string,
  processes: DemoProcess[],
): Promise<{ figures: DemoFigures; dataDirs: string[] }> {
  const say = options.json ? () => undefined : progressPrinter();
  if (!options.json) console.log('engram-wal demo: one primary, two replicas, three processes');
  const start = (nodeId: string, replicas: DemoStart['replicas']): DemoProcess => {
    const dataDir = path.join(base, nodeId);
    const { input, repeat } = options;
    const child = new DemoProcess({ nodeId, dataDir, replicas, input, repeat }, say);
    processes.push(child);
    return child;
  };
  const replicas = REPLICAS.map((nodeId) => start(nodeId, []));
  const members = await Promise.all(
    replicas.map(async (r) => {
      const { host, port } = await r.until('listening');
      return { nodeId: r.nodeId, host, port };
    }),
  );
  const primary = start(PRIMARY, members);
  // A replica that dies meanwhile ends the demo as well.
  const done = await Promise.race([primary.until('done'), ...replicas.map((r) => r.until('done'))]);
  say(done.figures, true);
  if (done.figures.entries === 0) {
    throw new DemoError('the input has no entry: give --input FILE with at least one line');
  }
  await primary.end();
  await Promise.all(replicas.map((r) => r.end()));
  const dataDirs = [PRIMARY, ...REPLICAS].map((id) => path.join(base, id));
  return { figures: done.figures, dataDirs };
}

/** Compares the three logs as they lie on disk, now that nobody writes them. */
async function prove(
  figures: DemoFigures,
  dataDirs: readonly string[],
): Promise<{ json: DemoResult; logs: Map<string, SpaceDigest>[] }> {
  const logs: Map<string, SpaceDigest>[] = [];
  for (const dir of dataDirs) logs.push(await digestLog(nodeDisk, dir));
  const [primary, ...others] = logs;
  const { bytes, spaces, seconds } = figures;
  const entries = total(primary!, 'entries');
  const json: DemoResult = {
    entries,
    bytes,
    spaces,
    seconds: Math.round(seconds * 1_000) / 1_000,
    entriesPerSecond: Math.round(entries / seconds),
    replicas: others.map((log, i) => ({
      id: REPLICAS[i]!,
      entries: total(log, 'entries'),
      identical: entries === figures.entries && sameLogs(primary!, log),
      lagMs: figures.replicas[i]!.lagMs,
    })),
    dataDirs,
  };
  return { json, logs };
}

function total(log: ReadonlyMap<string, SpaceDigest>, field: 'entries' | 'bytes'): number {
  let sum = 0;
  for (const digest of log.values()) sum += digest[field];
  return sum;
}

function printTable(
  result: DemoResult,
  logs: readonly ReadonlyMap<string, SpaceDigest>[],
  keep: boolean,
): void {
  const table = new Table({
    head: ['node', 'spaces', 'entries', 'bytes', 'lag ms', 'identical'],
    colAligns: ['left', 'right', 'right', 'right', 'right', 'left'],
    style: { head: [], border: [] },
  });
  const row = (i: number): string[] => [
    String(logs[i]!.size),
    total(logs[i]!, 'entries').toLocaleString('en'),
    total(logs[i]!, 'bytes').toLocaleString('en'),
  ];
  table.push([PRIMARY, ...row(0), '-', 'is the original']);
  for (const [i, replica] of result.replicas.entries()) {
    const lag = replica.lagMs === 'unknown' ? 'unknown' : replica.lagMs.toFixed(1);
    table.push([replica.id, ...row(i + 1), lag, replica.identical ? 'yes' : 'NO']);
  }
  console.log(table.toString());
  const rate = result.entriesPerSecond.toLocaleString('en');
  const entries = result.entries.toLocaleString('en');
  console.log(
    `${entries} entries in ${result.seconds.toFixed(2)} s, flushed on all three: ${rate} a second.`,
  );
  const proven = result.replicas.every((r) => r.identical);
  console.log(
    proven
      ? 'Every entry of every space is identical on all three (SHA-256 over the logs on disk).'
      : 'THE LOGS DIFFER. Run again with --keep and compare the data directories.',
  );
  if (keep) for (const dir of result.dataDirs) console.log(`kept: ${dir}`);
}

/** On a terminal one line that changes; elsewhere a line a second. */
function progressPrinter(): (figures: DemoFigures, isLast: boolean) => void {
  const isTerminal = process.stdout.isTTY;
  let printedMs = -LINE_EVERY_MS;
  let before = { entries: 0, seconds: 0 };
  return (figures, isLast) => {
    const now = performance.now();
    if (!isTerminal && !isLast && now - printedMs < LINE_EVERY_MS) return;
    printedMs = now;
    const { entries, seconds } = figures;
    const passed = seconds - before.seconds;
    const rate = passed > 0 ? Math.round((entries - before.entries) / passed) : 0;
    before = { entries, seconds };
    const lags = figures.replicas.map(({ id, lagMs }) => {
      return `${id} lag ${lagMs === 'unknown' ? 'unknown' : `${lagMs.toFixed(1)} ms`}`;
    });
    const parts = [
      `${seconds.toFixed(1)} s`,
      `${entries.toLocaleString('en')} entries`,
      `${rate.toLocaleString('en')}/s`,
      ...lags,
    ];
    const line = parts.join('   ');
    if (!isTerminal) console.log(line);
    else process.stdout.write(`\r\x1b[2K${line}${isLast ? '\n' : ''}`);
  };
}

/** A child of the demo: what it says, and its end. */
class DemoProcess {
  readonly nodeId: string;
  readonly #child: ChildProcess;
  readonly #exited: Promise<void>;
  readonly #failed: Promise<never>;
  readonly #heard = new Map<string, (message: DemoMessage) => void>();
  #stderr = '';
  #ending = false;

  constructor(start: DemoStart, say: (figures: DemoFigures, isLast: boolean) => void) {
    this.nodeId = start.nodeId;
    const file = new URL('./demo-node.js', import.meta.url);
    // A group of its own: a terminal's interrupt reaches the parent, which ends it in order.
    this.#child = fork(file, { stdio: ['ignore', 'ignore', 'pipe', 'ipc'], detached: true });
    this.#child.stderr!.on('data', (chunk: Buffer) => {
      this.#stderr = (this.#stderr + chunk.toString('utf8')).slice(-STDERR_KEPT);
    });
    this.#exited = new Promise((resolve) => this.#child.once('exit', () => resolve()));
    this.#failed = new Promise((_, reject) => {
      this.#child.on('message', (message: DemoMessage) => {
        if (message.kind === 'failed') reject(new DemoError(`${this.nodeId}: ${message.message}`));
        else if (message.kind === 'progress') say(message.figures, false);
        else this.#heard.get(message.kind)?.(message);
      });
      this.#child.once('exit', (code, signal) => {
        if (this.#ending) return;
        const how = signal ?? `exit code ${code}`;
        reject(new DemoError(`${this.nodeId} died (${how})\n${this.#stderr}`.trim()));
      });
    });
    this.#failed.catch(() => undefined);
    this.#child.send(start);
  }

  /** The message of this kind; rejects when the process fails or dies before it comes. */
  until<K extends 'listening' | 'done'>(kind: K): Promise<DemoMessage & { kind: K }> {
    const heard = new Promise<DemoMessage & { kind: K }>((resolve) => {
      this.#heard.set(kind, (message) => resolve(message as DemoMessage & { kind: K }));
    });
    return Promise.race([heard, this.#failed]);
  }

  /** Asks the process to close its node and waits; after 15 s it is killed. */
  async end(): Promise<void> {
    if (!this.#ending && this.#child.connected) this.#child.send('end');
    this.#ending = true;
    const timer = setTimeout(() => this.#child.kill('SIGKILL'), END_TIMEOUT_MS);
    await this.#exited;
    clearTimeout(timer);
  }
}
