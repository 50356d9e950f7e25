/** Seals groups: small ones at once, large ones in a piscina pool beside the main thread. */
import { createRequire } from 'node:module';
import type { Piscina } from 'piscina';
import { Sealer, type SealJob } from '../../../shared/log/seal.js';
import type { NodeMemory, SharedMemory, Slab } from '../../../shared/memory/slab.js';
import { threadFile, threadOptions } from '../../runtime/threads.js';
import { warn } from '../../runtime/warn.js';
import type { LogGroup } from './open-group.js';

export class SealerPool {
  readonly #memory: SharedMemory;
  readonly #threads: number;
  readonly #sealer: Sealer;
  readonly #Piscina: typeof Piscina;
  #pool: Piscina | undefined;

  constructor(memory: NodeMemory, threads: number) {
    this.#memory = memory.memory;
    this.#sealer = new Sealer(memory);
    this.#threads = threads;
    // Not with the import of this package: a bundle that holds it would fail without our words.
    const { Piscina: Pool } = createRequire(import.meta.url)('piscina') as typeof import('piscina');
    this.#Piscina = Pool;
  }

  #start(): Piscina {
    const pool = new this.#Piscina({
      ...threadOptions(),
      filename: threadFile('sealer').href,
      workerData: { memory: this.#memory },
      minThreads: this.#threads,
      maxThreads: this.#threads,
      // Histograms of its own, of which nothing is told.
      recordTiming: false,
    });
    // A worker that cannot start fails its task, and main seals instead.
    pool.on('error', (error: Error) => {
      warn(`a sealer died: ${error.message}`);
    });
    return pool;
  }

  /**
   * Seals a group, here and now or beside the main thread.
   * @param target where it is to stand
   * @param sealed gets the number of runs in the target's run table
   */
  seal(
    group: LogGroup,
    target: Slab,
    salt: number,
    isLarge: boolean,
    sealed: (runs: number) => void,
    failed: (error: Error) => void,
  ): void {
    const { runs, bytes, startLsn, durableLsn } = group;
    const staging = group.slab.index;
    // Written out: what is spread and added to has a shape made for it in each group.
    const job: SealJob = { staging, target: target.index, runs, bytes, startLsn, durableLsn, salt };
    // What came sealed, and stands as it is to, is stamped alone: less than to wake a thread.
    if (!isLarge || (group.isReceived && group.grouped)) {
      sealed(this.#sealer.seal(job));
      return;
    }
    // A dead worker has written nothing to disk, and sealing twice gives the same bytes.
    const here = (): void => sealed(this.#sealer.seal(job));
    this.#sealBeside(job).then(sealed, here).catch(failed);
  }

  /**
   * @returns the number of runs; rejects when the worker died, and for the first job: a node whose
   *   groups stay small needs no thread, and none is waited for
   */
  async #sealBeside(job: SealJob): Promise<number> {
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
