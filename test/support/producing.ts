/** Threads that append to nodes of a test, and what a log holds of them. */
import path from 'node:path';
import { Worker } from 'node:worker_threads';
import type { Appended, AppendOptions, Node, Producer, Space } from '#src/main/index.js';
import { type EachTest, openSmall } from './cluster.js';

interface Job {
  readonly count: number;
  readonly atOnce: number;
  readonly bytes: number;
  readonly options: AppendOptions;
  readonly untilError: boolean;
}

interface Told {
  readonly codes: Record<string, number>;
  readonly tokens: (Appended | undefined)[];
  readonly closed: string;
}

/** A thread that appends to what it was given. */
export class Thread {
  readonly worker: Worker;
  readonly told: Promise<Told>;
  readonly #acked = new Int32Array(new SharedArrayBuffer(4));

  constructor(life: EachTest, producer: Producer, id: string, job: Partial<Job> = {}) {
    const usual = { count: 1e9, atOnce: 64, bytes: 40 };
    const workerData = { ...usual, ...job, id, producer, acked: this.#acked.buffer };
    this.worker = new Worker(path.join(import.meta.dirname, 'producing.mjs'), { workerData });
    this.told = new Promise((resolve, reject) => {
      this.worker.once('message', resolve);
      this.worker.once('error', reject);
      this.worker.once('exit', () => reject(new Error(`${id} has ended`)));
    });
    this.told.catch(() => undefined);
    life.finally(() => this.worker.terminate());
  }

  /** So many of its first entries are acknowledged. */
  get acked(): number {
    return Atomics.load(this.#acked, 0);
  }
}

/**
 * How many entries of each thread a log holds: sequences without a gap, each thread's in order.
 * @param isWhole whether none of a thread's entries may lack before its last one
 */
export async function countsIn(space: Space, isWhole = true): Promise<Map<string, number>> {
  const counts = new Map<string, number>();
  let last = 0;
  for await (const { sequence, type, payload } of space.read()) {
    if (sequence !== ++last) throw new Error(`${space.name}: ${sequence} where ${last} belongs`);
    if (type < 1000) continue;
    const [id, number] = Buffer.from(payload).toString().split(':') as [string, string];
    const next = counts.get(id) ?? 0;
    const isRight = isWhole ? Number(number) === next : Number(number) >= next;
    if (!isRight) throw new Error(`${id}: ${number} where ${next} belongs, at ${sequence}`);
    counts.set(id, Number(number) + 1);
  }
  return counts;
}

/** Opened anew, the log is whole and ends where it ended: nothing was torn. */
export async function openedAgain(life: EachTest, node: Node, dir: string): Promise<Node> {
  await node.close();
  const again = await openSmall(path.join(life.folder, dir), node.nodeId, { strictTail: true });
  life.finally(() => again.close());
  return again;
}
