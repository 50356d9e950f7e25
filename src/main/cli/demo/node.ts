/** One process of the demo: a replica, or the primary that logs the input. Told by IPC. */
import { setTimeout as sleep } from 'node:timers/promises';
import pino from 'pino';
import { EngramError, failure } from '../../../shared/errors.js';
import type { Node } from '../../node/node.js';
import { openNode } from '../../node/open-node.js';
import type { Space } from '../../node/space.js';
import type { NodeOptions } from '../../options/options.js';
import { type DemoInput, demoInput, sentences, speeches } from './input.js';
import { load } from './load.js';
import { paced } from './pace.js';

/** What the demo asks of a process when it starts it. */
export interface DemoStart {
  readonly nodeId: string;
  readonly dataDir: string;
  /** Empty for a replica. */
  readonly replicas: readonly { nodeId: string; host: string; port: number }[];
  /** Of a replica: 0, or where it listened before. */
  readonly port: number;
  /** undefined: the speeches. */
  readonly input: DemoInput | undefined;
  readonly repeat: number;
  /** Behind the input, when it is told to go: so many entries more, until it is enough. */
  readonly load: number;
  /** A primary goes on at a walking pace until it is told that it is enough. */
  readonly serve: boolean;
  /** Where its log lines go. */
  readonly logFile: string;
}

/** What a node has on its disk. */
export interface DemoFlushed {
  /** The machine's monotonic clock. */
  readonly atMs: number;
  readonly entries: number;
  /** Of its log, headers included. */
  readonly logBytes: number;
}

export interface DemoFigures {
  readonly entries: number;
  readonly seconds: number;
  /** The largest lag of a replica over all spaces. */
  readonly replicas: readonly { readonly id: string; readonly lagMs: number | 'unknown' }[];
}

/** What a process tells the demo. */
export type DemoMessage =
  | {
      readonly kind: 'listening';
      readonly host: string;
      readonly port: number;
      /** What was there when it was opened. */
      readonly flushed: DemoFlushed;
    }
  /** Where its page is. */
  | { readonly kind: 'page'; readonly url: string }
  | { readonly kind: 'progress'; readonly figures: DemoFigures }
  | { readonly kind: 'flushed'; readonly flushed: DemoFlushed }
  /** The input is on the disks of all. The load waits to be told to go. */
  | { readonly kind: 'logged'; readonly figures: DemoFigures }
  | {
      readonly kind: 'done';
      readonly figures: DemoFigures;
      /** As last seen while entries came: when all is flushed there is none. */
      readonly lags: DemoFigures['replicas'];
      /** Rows of (name of a space, entries logged). */
      readonly logged: readonly (readonly [string, number])[];
    }
  | { readonly kind: 'failed'; readonly code: string; readonly message: string };

const PROGRESS_MS = 200;
/** Entries appended before the event loop has its turn. */
const ENTRIES_PER_TURN = 256;
/** How often a wait for the replicas looks whether they still move, and when it gives up. */
const LOOK_MS = 1_000;
const STALLED_MS = 30_000;
const CLUSTER = 'demo';
const REDIAL_MS = 100;

/** Entries a second of a demo that serves, and how many come at once. */
const WALK_PER_SECOND = 200;
const WALK_STEP = 20;

/** Aborted when the demo says `end`, at whatever moment. */
const ending = new AbortController();
/** Aborted when the load may begin, and when it may end. */
const going = new AbortController();
const rest = new AbortController();
/** Aborted when a demo that serves has been looked at, or one that shows has shown its load. */
const enough = new AbortController();

function tell(message: DemoMessage): void {
  process.send?.(message);
}

/** The last word of a process that cannot go on. */
function fail(error: unknown): void {
  const code = error instanceof EngramError ? error.code : 'Io';
  const message = error instanceof Error ? error.message : String(error);
  const last: DemoMessage = { kind: 'failed', code, message };
  process.send?.(last, () => process.exit(2));
}

/** A node as every process of the demo has one: with a page, and a log of its own. */
async function open(start: DemoStart, more: Partial<NodeOptions>): Promise<Node> {
  const { nodeId, dataDir, logFile, load } = start;
  const logger = pino(pino.destination({ dest: logFile, sync: false }));
  const http = { host: '127.0.0.1', port: 0 };
  const node = await openNode({ nodeId, dataDir, clusterId: CLUSTER, http, logger, ...more });
  node.on('fatal', ({ error }) => fail(error));
  const { host, port } = node.httpAddress!;
  tell({ kind: 'page', url: `http://${host}:${port}/` });
  if (load > 0) {
    const tellFlushed = (): void => tell({ kind: 'flushed', flushed: flushedBy(node) });
    setInterval(tellFlushed, PROGRESS_MS).unref();
  }
  return node;
}

function flushedBy(node: Node): DemoFlushed {
  let entries = 0;
  for (const space of node.spaces) entries += space.status().durableSequence;
  const atMs = Number(process.hrtime.bigint()) / 1e6;
  return { atMs, entries, logBytes: node.summary().durableLsn };
}

async function runReplica(start: DemoStart): Promise<void> {
  const node = await open(start, { listen: { host: '127.0.0.1', port: start.port } });
  tell({ kind: 'listening', ...node.address!, flushed: flushedBy(node) });
  await toldToEnd();
  await node.close();
}

async function runPrimary(start: DemoStart): Promise<void> {
  const { replicas } = start;
  // One that comes back is not waited for any longer than it takes.
  const node = await open(start, { replicas, backoffStepsMs: [REDIAL_MS] });
  const spaces = new Map<string, Space>();
  const logged = new Map<string, number>();
  // From the first entry on: starting the processes and loading the input do not count.
  let began: number | undefined;
  let entries = 0;
  const ids = replicas.map((r) => r.nodeId);
  const lags = (): DemoFigures['replicas'] => worstLags([...spaces.values()], ids);
  const figures = (): DemoFigures => {
    const ms = began === undefined ? 0 : performance.now() - began;
    return { entries, seconds: ms / 1_000, replicas: lags() };
  };
  const flushed = (): Promise<void> => flushedEverywhere([...spaces.values()], replicas.length);
  const progress = new AbortController();
  const tellProgress = (): void => tell({ kind: 'progress', figures: figures() });
  void paced(tellProgress, PROGRESS_MS, progress.signal);
  for await (const { space: name, payload } of inputOf(start)) {
    if (ending.signal.aborted) break;
    began ??= performance.now();
    let space = spaces.get(name);
    if (!space) {
      space = await node.openSpace(name);
      spaces.set(name, space);
    }
    while (space.tryAppend(1, payload) === undefined) await turn();
    logged.set(name, (logged.get(name) ?? 0) + 1);
    entries++;
    if (entries % ENTRIES_PER_TURN === 0) await turn();
  }
  if (start.load > 0 && !ending.signal.aborted) {
    await flushed();
    progress.abort();
    const text = await speeches(sentences);
    tell({ kind: 'logged', figures: figures() });
    await told(AbortSignal.any([going.signal, ending.signal]));
    const until = AbortSignal.any([rest.signal, ending.signal]);
    const again = text.map(({ space, payload }) => ({ space: node.space(space), payload }));
    for (const [name, count] of await load(node, again, start.load, until)) {
      logged.set(name, (logged.get(name) ?? 0) + count);
      entries += count;
    }
    // Who is away and comes back may take its time: only then all are waited for.
    await told(AbortSignal.any([enough.signal, ending.signal]));
  }
  if (!ending.signal.aborted) {
    const seen = lags();
    await flushed();
    // After a show of one that was away it says nothing.
    const isTold = start.load === 0 && seen.every((r) => r.lagMs !== 'unknown');
    tell({ kind: 'done', figures: figures(), lags: isTold ? seen : lags(), logged: [...logged] });
  }
  progress.abort();
  await toldToEnd();
  await node.close();
}

/** The input, so often; then, where the demo serves, again and again at a walking pace. */
async function* inputOf({ input, repeat, serve }: DemoStart): ReturnType<typeof demoInput> {
  yield* demoInput(input, repeat);
  while (serve && !enough.signal.aborted) {
    let entries = 0;
    for await (const entry of demoInput(input, 1)) {
      if (enough.signal.aborted) return;
      yield entry;
      entries++;
      if (entries % WALK_STEP === 0) await sleep((1_000 * WALK_STEP) / WALK_PER_SECOND);
    }
    // An input without entries is told as such.
    if (entries === 0) return;
  }
}

/**
 * Waits until all replicas have flushed all spaces: for as long as they move, for a connection
 * may come back. Throws AckTimeout, NotEnoughReplicas after 30 s without progress.
 */
async function flushedEverywhere(spaces: readonly Space[], replicas: number): Promise<void> {
  let acked = -1;
  let movedMs = performance.now();
  for (const space of spaces) {
    const last = space.status().lastSequence;
    for (;;) {
      if (ending.signal.aborted) return;
      try {
        await space.flushed(last, { replicas, timeoutMs: LOOK_MS });
        break;
      } catch (error) {
        if (!(error instanceof EngramError) || !error.retryable) throw error;
        const now = ackedEntries(spaces);
        if (now > acked) {
          acked = now;
          movedMs = performance.now();
        } else if (performance.now() - movedMs > STALLED_MS) {
          const found = error.message.split('\n', 1)[0]!.slice(error.code.length + 2);
          throw failure(error.code, `nothing flushed for ${STALLED_MS / 1_000} s: ${found}`);
        }
        await sleep(PROGRESS_MS);
      }
    }
  }
}

function ackedEntries(spaces: readonly Space[]): number {
  let sum = 0;
  for (const space of spaces) for (const r of space.status().replicas) sum += r.ackedSequence;
  return sum;
}

/** Of each replica the largest over the spaces. */
function worstLags(spaces: readonly Space[], ids: readonly string[]): DemoFigures['replicas'] {
  const statuses = spaces.map((space) => space.status().replicas);
  return ids.map((id) => {
    let lagMs: number | 'unknown' = 0;
    for (const replicas of statuses) {
      const one = replicas.find((r) => r.replicaId === id)?.lagMs ?? 'unknown';
      if (one === 'unknown') return { id, lagMs: one };
      lagMs = Math.max(lagMs, one);
    }
    return { id, lagMs };
  });
}

function turn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

function toldToEnd(): Promise<void> {
  return told(ending.signal);
}

function told(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return Promise.resolve();
  return new Promise((resolve) => signal.addEventListener('abort', () => resolve()));
}

// Without its parent a process has nothing to do and nobody to tell.
process.on('disconnect', () => process.exit(2));
// The parent hears an interrupt itself and ends its processes in order.
process.on('SIGINT', () => undefined);

const orders = { go: going, rest, enough, end: ending } as const;

/** Besides its start, what a process is told: each once. */
export type DemoOrder = keyof typeof orders;

process.on('message', (message: DemoStart | DemoOrder) => {
  if (typeof message === 'string') {
    orders[message].abort();
    return;
  }
  const run = message.replicas.length > 0 ? runPrimary(message) : runReplica(message);
  run.then(() => process.exit(0), fail);
});
