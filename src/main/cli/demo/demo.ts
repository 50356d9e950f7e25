/**
 * The main job, on one machine: a primary and two replicas as processes of their own, real
 * input, and a proof from the data on disk that all three hold the same.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { failure } from '../../../shared/errors.js';
import { complain, say, sayLine } from '../output.js';
import { type CheckedInput, checkInput, type InputFormat } from './input.js';
import type { DemoFlushed, DemoMessage, DemoStart } from './node.js';
import { DemoError, type DemoNews, DemoProcess } from './process.js';
import { type DemoResult, entriesText, Report } from './report.js';
import { loadFor, type Shown, show } from './show.js';
import { type Proof, readElsewhere, verifyLogs } from './verify.js';

export interface DemoOptions {
  /** A file, a FIFO, `-` for standard input; undefined: the speeches. */
  readonly input: string | undefined;
  readonly format: InputFormat | undefined;
  /** undefined: once, and behind the speeches the show. */
  readonly repeat: number | undefined;
  readonly keep: boolean;
  readonly json: boolean;
  /** Go on until a signal, so that somebody can look at the page; then prove. */
  readonly serve: boolean;
}

const PRIMARY = 'primary';
const REPLICAS = ['replica-1', 'replica-2'];
const IDS = [PRIMARY, ...REPLICAS];

/**
 * Runs the demo. @returns whether all three logs are identical
 * Throws Configuration for an input that cannot be used, DemoError for what goes wrong later. The
 * processes have ended and, without `keep`, the data is gone when it settles.
 */
export async function runDemo(options: DemoOptions): Promise<boolean> {
  const { interrupted, enough, stop } = watchSignals(options.serve);
  const base = await mkdtemp(path.join(os.tmpdir(), 'engram-wal-demo-'));
  const report = options.json ? undefined : new Report();
  const demo = new Demo(options, base, stop.signal, report);
  try {
    const { result, proofs } = await Promise.race([interrupted, demo.run(enough)]);
    if (report) report.result(result, proofs, IDS);
    else say(result, true, () => '');
    return result.replicas.every((r) => r.identical);
  } finally {
    stop.abort();
    report?.end();
    await demo.end();
    if (!options.keep) await rm(base, { recursive: true, force: true });
    else if (demo.isStarted) tell(options, `The data directories are in ${base}`);
  }
}

/** For people; with --json not where the object goes. */
function tell({ json }: DemoOptions, line: string): void {
  (json ? complain : sayLine)(line);
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

class Demo {
  readonly #options: DemoOptions;
  readonly #base: string;
  readonly #stopped: AbortSignal;
  readonly #report: Report | undefined;
  /** By node id: the one that lives, or lived last. */
  readonly #processes = new Map<string, DemoProcess>();
  /** Rejects when one of them fails or dies. */
  readonly #failed: Promise<never>;
  #fail!: (error: Error) => void;
  /** What each node has told last of its disk. */
  readonly #flushed = new Map<string, DemoFlushed>();
  #checked: CheckedInput | undefined;
  /** Entries of the show's load; 0: no show. */
  #load = 0;

  constructor(
    options: DemoOptions,
    base: string,
    stopped: AbortSignal,
    report: Report | undefined,
  ) {
    this.#options = options;
    this.#base = base;
    this.#stopped = stopped;
    this.#report = report;
    this.#failed = new Promise((_, reject) => {
      this.#fail = reject;
    });
    this.#failed.catch(() => undefined);
  }

  /** There is something to keep. */
  get isStarted(): boolean {
    return this.#processes.size > 0;
  }

  async run(enough: AbortSignal): Promise<{ result: DemoResult; proofs: readonly Proof[] }> {
    const { input, format, repeat, serve } = this.#options;
    if (input !== undefined) {
      const copy = path.join(this.#base, 'input');
      const waits = (name: string): void =>
        this.#report?.say(`engram-wal demo: reads ${name} to its end first`);
      this.#checked = await checkInput(input, format, copy, waits, this.#stopped);
    } else if (format !== undefined) {
      throw failure('Configuration', '--format says what an --input is, and there is none');
    } else if (repeat === undefined && !serve) this.#load = await loadFor(this.#base);
    this.#title();
    const replicas = REPLICAS.map((nodeId) => this.#start(nodeId, { port: 0 }));
    const members = await Promise.all(
      replicas.map(async (r) => {
        const { host, port } = await r.until('listening');
        return { nodeId: r.nodeId, host, port };
      }),
    );
    const primary = this.#start(PRIMARY, { replicas: members });
    void primary.until('page').then(
      ({ url }) => this.#tellPage(url),
      () => undefined,
    );
    const isEnough = (): void => primary.tell('enough');
    if (enough.aborted) isEnough();
    else enough.addEventListener('abort', isEnough, { once: true });
    const work = this.#load === 0 ? undefined : this.#show(primary, replicas, members);
    const shown = await Promise.race([work, this.#failed]);
    const done = await Promise.race([primary.until('done'), this.#failed]);
    if (!shown) this.#report?.progress(done.figures, true);
    if (done.figures.entries === 0) throw failure('Configuration', 'the input has no entry');
    await this.#endWell();
    return await this.#prove(done, shown);
  }

  #show(
    primary: DemoProcess,
    replicas: readonly DemoProcess[],
    members: DemoStart['replicas'],
  ): Promise<Shown> {
    return show({
      ...{ primary, replicas, flushed: this.#flushed, most: this.#load },
      ...{ report: this.#report, stopped: this.#stopped },
      restart: (nodeId) =>
        this.#start(nodeId, { port: members.find((m) => m.nodeId === nodeId)!.port }),
    });
  }

  #start(nodeId: string, more: Partial<DemoStart>): DemoProcess {
    // Behind an interrupt nobody would end it.
    this.#stopped.throwIfAborted();
    const { repeat = 1, serve } = this.#options;
    const input = this.#checked?.input;
    const start: DemoStart = {
      nodeId,
      dataDir: path.join(this.#base, nodeId),
      logFile: path.join(this.#base, `${nodeId}.log`),
      ...{ replicas: [], port: 0, input, repeat, serve, load: this.#load },
      ...more,
    };
    const news: DemoNews = {
      progress: (figures) => {
        if (this.#load === 0) this.#report?.progress(figures);
      },
      flushed: (id, flushed) => this.#flushed.set(id, flushed),
    };
    const child = new DemoProcess(start, news);
    this.#processes.set(nodeId, child);
    child.failed.catch(this.#fail);
    return child;
  }

  #title(): void {
    const report = this.#report;
    const nodes = 'from a primary to two replicas, three processes';
    if (this.#checked) {
      const { input, entries, spaces, why } = this.#checked;
      const places = spaces === 1 ? 'one space' : `${spaces} spaces`;
      const lines = `${entriesText(entries)} in ${places}`;
      report?.say(`engram-wal demo: ${input.name}, ${nodes}`);
      report?.say(`${lines}, read as ${input.format} (${why})`);
    } else report?.say(`engram-wal demo: the State of the Union speeches, ${nodes}`);
    if (this.#load > 0) {
      report?.say('1. The text: a space for each president, an entry for each paragraph.');
    }
  }

  /** Where to look while it lasts. */
  #tellPage(url: string): void {
    const { json, serve } = this.#options;
    if (serve || !json) tell(this.#options, `Look at it: ${url}  (metrics: ${url}metrics)`);
    if (serve) tell(this.#options, 'It goes on until Ctrl-C; then the logs are compared.');
  }

  async #prove(
    done: DemoMessage & { kind: 'done' },
    shown: Shown | undefined,
  ): Promise<{ result: DemoResult; proofs: readonly Proof[] }> {
    if (shown) this.#report?.say('4. The proof: all three logs, read back from their disks.');
    const dataDirs = IDS.map((id) => path.join(this.#base, id));
    const read = (dir: string) => readElsewhere(dir, this.#stopped);
    const proofs = await verifyLogs(read, dataDirs, new Map(done.logged));
    return { result: { ...resultOf(done, proofs), ...shown, dataDirs }, proofs };
  }

  /** What is to be kept, or read, needs an orderly end: nobody writes it then. */
  async #endWell(): Promise<void> {
    const process = (id: string): DemoProcess => this.#processes.get(id)!;
    await process(PRIMARY).endWell();
    await Promise.all(REPLICAS.map((id) => process(id).endWell()));
  }

  /** What is thrown away needs no orderly end; what is kept does. */
  async end(): Promise<void> {
    const { keep } = this.#options;
    const all = [...this.#processes.values()];
    await Promise.all(all.map((p) => (keep ? p.end() : p.kill())));
  }
}

function resultOf(
  { figures, lags }: DemoMessage & { kind: 'done' },
  proofs: readonly Proof[],
): Omit<DemoResult, 'dataDirs'> {
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
  };
}
