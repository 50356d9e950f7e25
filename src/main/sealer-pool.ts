/** The piscina pool that seals large groups beside the main thread. */
import { Piscina } from 'piscina';
import type { SealJob } from '../shared/seal.js';
import type { SharedMemory } from '../shared/slab.js';
import { threadFile, threadOptions } from './threads.js';

export class SealerPool {
  readonly #memory: SharedMemory;
  readonly #threads: number;
  #pool: Piscina | undefined;

  constructor(memory: SharedMemory, threads: number) {
    this.#memory = memory;
    this.#threads = threads;
  }

  #start(): Piscina {
    const pool = new Piscina({
      ...threadOptions(),
      filename: threadFile('sealer').href,
      workerData: { memory: this.#memory },
      minThreads: this.#threads,
      maxThreads: this.#threads,
    });
    // A worker that cannot start fails its task, and main seals instead.
    pool.on('error', (error: Error) => {
      process.emitWarning(`a sealer died: ${error.message}`, 'EngramWalWarning');
    });
    return pool;
  }

  /**
   * @returns the number of runs in the target's run table; rejects when the worker died, and for
   *   the first job: a node whose groups stay small needs no thread, and none is waited for
   */
  async seal(job: SealJob): Promise<number> {
    if (!this.#pool) {
      this.#pool = this.#start();
      throw new Error('the pool starts with this job');
    }
    return (await this.#pool.run(job)) as number;
  }

  async close(): Promise<void> {
    await this.#pool?.destroy();
  }
}
