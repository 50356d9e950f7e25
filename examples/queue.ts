/**
 * A queue of jobs, worked on by the process that holds it.
 *
 *     npx tsx examples/queue.ts ./data < jobs.txt
 *
 * Each line of standard input is a job. It ends when there is no more input and all is done, or at
 * SIGTERM: what is left is done the next time.
 *
 * What it promises: a job that was told as `queued` is done at least once, or put aside in the file
 * `DATA_DIR.dead` after three attempts, whenever the process is killed. The few that were under way
 * then are done again, so what a job does must bear it: its number is the same each time.
 */
import fs from 'node:fs/promises';
import readline from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Entry, openNode, type Space } from 'engram-wal';

/** The types from 1000 up are the host's. Others in a space are the library's: no jobs. */
const JOB = 1000;
const ATTEMPTS = 3;
const RETRY_MS = 100;
/** Jobs that are worked on at once. */
const WORKERS = 8;
/** Jobs on their way to the disk: the more, the more share one fdatasync. */
const MAX_UNDER_WAY = 1_000;
/** What may lie in the queue; then `push` rejects RetentionFull. */
const MAX_QUEUED_BYTES = 1024 ** 3;

type Handle = (number: number, job: string) => Promise<void>;

class Queue {
  readonly #jobs: Space;
  readonly #handle: Handle;
  readonly #putAside: Handle;
  /** By number: what is worked on. */
  readonly #running = new Map<number, Promise<void>>();
  /** The last job that was taken up. */
  #taken: number;
  /** The queue goes on here after a crash. */
  #saved: number;
  #saving: Promise<void> = Promise.resolve();

  constructor(jobs: Space, handle: Handle, putAside: Handle) {
    this.#jobs = jobs;
    this.#handle = handle;
    this.#putAside = putAside;
    this.#saved = Math.max(1, jobs.status().checkpoint);
    this.#taken = this.#saved - 1;
  }

  /**
   * @returns its number, once it is on the disk
   * Rejects Backpressure, DiskFull, RetentionFull, EntryTooLarge: it is not in the queue.
   */
  async push(job: string): Promise<number> {
    const { sequence } = await this.#jobs.append(JOB, Buffer.from(job));
    return sequence;
  }

  /** All that was pushed is done. */
  get isIdle(): boolean {
    return this.#running.size === 0 && this.#taken >= this.#jobs.status().lastSequence;
  }

  /** Works until the signal; resolves when what it had taken up is done, and that is durable. */
  async work(signal: AbortSignal): Promise<void> {
    for await (const entry of this.#jobs.subscribe({ from: this.#taken + 1, signal })) {
      this.#taken = entry.sequence;
      if (entry.type === JOB) this.#take(entry);
      if (this.#running.size >= WORKERS) await Promise.race(this.#running.values());
    }
    await Promise.all(this.#running.values());
    await this.#save();
  }

  #take(entry: Entry): void {
    const done = this.#do(entry).then(() => {
      this.#running.delete(entry.sequence);
      // One that fails costs nothing, but that jobs are done again after a crash.
      this.#save().catch(console.error);
    }, end);
    this.#running.set(entry.sequence, done);
  }

  async #do({ sequence, payload }: Entry): Promise<void> {
    const job = Buffer.from(payload).toString('utf8');
    for (let attempt = 1; attempt <= ATTEMPTS; attempt++) {
      if (attempt > 1) await sleep(RETRY_MS);
      try {
        return await this.#handle(sequence, job);
      } catch (error) {
        console.error(`job ${sequence}, attempt ${attempt}: ${(error as Error).message}`);
      }
    }
    await this.#putAside(sequence, job);
  }

  /**
   * Jobs end in any order. What all of them have passed is not needed any more: after a crash the
   * queue goes on there, and the segments below are freed.
   */
  #save(): Promise<void> {
    // One after the other: what ends meanwhile is in the next one, and the rest find nothing to do.
    const saved = this.#saving.then(async () => {
      const first = this.#first;
      if (first <= this.#saved) return;
      await this.#jobs.checkpoint(first);
      this.#saved = first;
    });
    this.#saving = saved.catch(() => undefined);
    return saved;
  }

  /** The first job that is not done. */
  get #first(): number {
    return Math.min(this.#taken + 1, ...this.#running.keys());
  }
}

/** Yours to write. This one tells of the job; one that says `fail` never works. */
async function handle(number: number, job: string): Promise<void> {
  await sleep(1);
  if (job.startsWith('fail')) throw new Error(`cannot do: ${job}`);
  console.log(`done ${number} ${job}`);
}

/** The log, or what is put aside, cannot be written: end, and be started again; nothing is lost. */
function end(error: unknown): never {
  console.error(error);
  process.exit(1);
}

const [dataDir] = process.argv.slice(2);
if (dataDir === undefined) throw new Error('usage: queue.ts DATA_DIR < JOBS');
const node = await openNode({
  dataDir,
  nodeId: 'queue',
  clusterId: 'example',
  maxRetainedBytes: MAX_QUEUED_BYTES,
});
node.on('fatal', ({ error }) => end(error));

// Not a space: what is never given up in one would keep the segments of all.
const dead = await fs.open(`${dataDir}.dead`, 'a');
async function putAside(number: number, job: string): Promise<void> {
  await dead.write(`${number} ${job}\n`);
  // On the disk before the queue forgets it.
  await dead.datasync();
}

const queue = new Queue(await node.openSpace('jobs'), handle, putAside);
const stop = new AbortController();
const working = queue.work(stop.signal);
working.catch(end);

const lines = readline.createInterface({ input: process.stdin });
let isTerminated = false;
for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  process.once(signal, () => {
    isTerminated = true;
    lines.close();
  });
}

const underWay = new Set<Promise<void>>();
async function push(line: string): Promise<void> {
  try {
    console.log(`queued ${await queue.push(line)} ${line}`);
  } catch (error) {
    // Backpressure, DiskFull, RetentionFull: not now, it is not in the queue. EntryTooLarge: never.
    console.log(`refused ${line}: ${(error as Error).message.split('\n', 1)[0]}`);
  }
}
for await (const line of lines) {
  const pushed = push(line).finally(() => underWay.delete(pushed));
  underWay.add(pushed);
  if (underWay.size >= MAX_UNDER_WAY) await Promise.race(underWay);
}
// At a signal it is not at its end, and would keep the process.
process.stdin.destroy();
await Promise.all(underWay);
while (!isTerminated && !queue.isIdle) await sleep(10);
stop.abort();
await working;
await node.close();
await dead.close();
