/** The piscina pool that seals large groups beside the main thread. */
import { Piscina } from 'piscina';
import type { SealJob } from '../shared/seal.js';
import type { SharedMemory } from '../shared/slab.js';

export class SealerPool {
  readonly #pool: Piscina;

  constructor(memory: SharedMemory, threads: number) {
    this.#pool = new Piscina({
      filename: new URL('../workers/sealer.js', import.meta.url).href,
      workerData: { memory },
      minThreads: threads,
      maxThreads: threads,
    });
    // A worker that cannot start fails its task, and main seals instead.
    this.#pool.on('error', (error: Error) => {
      process.emitWarning(`a sealer died: ${error.message}`, 'EngramWalWarning');
    });
  }

  /** @returns the number of runs in the target's run table; rejects when the worker died */
  seal(job: SealJob): Promise<number> {
    return this.#pool.run(job) as Promise<number>;
  }

  async close(): Promise<void> {
    await this.#pool.destroy();
  }
}
