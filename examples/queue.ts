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
import { Readable } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { jsonCodec, openNode, type TypedEntry } from 'engram-wal';

const JOB = 1000;
const ATTEMPTS = 3;
const RETRY_MS = 100;
/** Jobs that are worked on at once. */
const WORKERS = 8;
/** Jobs on their way to the disk: the more, the more share one fdatasync. */
const PUSHES = 1_000;

/** Yours to write. This one tells of the job; one that says `fail` never works. */
async function handle(number: number, job: string): Promise<void> {
  await sleep(1);
  if (job.startsWith('fail')) throw new Error(`cannot do: ${job}`);
  console.log(`done ${number} ${job}`);
}

const [dataDir] = process.argv.slice(2);
if (dataDir === undefined) throw new Error('usage: queue.ts DATA_DIR < JOBS');
await using node = await openNode({
  dataDir,
  nodeId: 'queue',
  clusterId: 'example',
  // What may lie in the queue; then pushing rejects RetentionFull.
  maxRetainedBytes: 1024 ** 3,
});
// A write or an fdatasync has failed for good: end, and let whoever started this start it again.
node.on('fatal', ({ error }) => {
  console.error(error);
  process.exit(1);
});
const jobs = await node.openSpace('jobs', { codec: jsonCodec<string>() });
// Not a space: what is never given up in one would keep the segments of all.
await using dead = await fs.open(`${dataDir}.dead`, 'a');

/** @returns its number, when it is done or put aside */
async function work({ sequence, value: job }: TypedEntry<string>): Promise<number> {
  for (let attempt = 1; attempt <= ATTEMPTS; attempt++) {
    if (attempt > 1) await sleep(RETRY_MS);
    try {
      await handle(sequence, job);
      return sequence;
    } catch (error) {
      console.error(`job ${sequence}, attempt ${attempt}: ${(error as Error).message}`);
    }
  }
  await dead.write(`${sequence} ${job}\n`);
  // On the disk before the queue forgets it.
  await dead.datasync();
  return sequence;
}

const stop = new AbortController();
let isInputOver = false;
/** All jobs up to this one are done: after a crash the queue goes on behind it. */
let done = Math.max(1, jobs.bytes.status().checkpoint) - 1;

function endWhenIdle(): void {
  if (isInputOver && done >= jobs.bytes.status().lastHostSequence) stop.abort();
}

/** Works until `stop`; resolves when what it had taken up is done, and that is durable. */
async function workAll(): Promise<void> {
  const waiting = Readable.from(jobs.subscribe({ from: done + 1, signal: stop.signal }));
  let saving: Promise<void> | undefined;
  // Jobs end in any order, and come out of `map` in theirs.
  for await (const number of waiting.map(work, { concurrency: WORKERS })) {
    done = number as number;
    // One at a time. One that fails costs nothing, but that jobs are done again after a crash.
    saving ??= jobs.bytes
      .checkpoint(done + 1)
      .catch(console.error)
      .finally(() => {
        saving = undefined;
      });
    endWhenIdle();
  }
  await saving;
  if (done > 0) await jobs.bytes.checkpoint(done + 1);
}

async function push(job: string): Promise<void> {
  try {
    console.log(`queued ${(await jobs.append(JOB, job)).sequence} ${job}`);
  } catch (error) {
    // Backpressure, DiskFull, RetentionFull: not now, it is not in the queue. EntryTooLarge: never.
    console.log(`refused ${job}: ${(error as Error).message.split('\n', 1)[0]}`);
  }
}

const working = workAll();
const lines = readline.createInterface({ input: process.stdin });
for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  process.once(signal, () => {
    lines.close();
    stop.abort();
  });
}
await Readable.from(lines).forEach(push, { concurrency: PUSHES });
isInputOver = true;
endWhenIdle();
// At a signal it is not at its end, and would keep the process.
process.stdin.destroy();
await working;
