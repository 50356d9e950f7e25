/**
 * Transactions of one moment on their way to etcd, many in one: each has conditions of its own, and
 * is carried out or not by itself. What comes while so many are on their way waits for the next.
 */
import { ETCD_TXN_BYTES, ETCD_TXN_SPACES, ETCD_TXNS_MAX } from '../../../shared/limits.js';
import type { Txn } from './link.js';

interface Waiting extends Txn {
  readonly bytes: number;
  resolve(revision: number | undefined): void;
  reject(error: unknown): void;
}

/** Carries them out. @returns for each its revision, or undefined; rejects where nobody knows */
export type CarryTxns = (txns: readonly Txn[]) => Promise<readonly (number | undefined)[]>;

export class EtcdWrites {
  readonly #carry: CarryTxns;
  #waiting: Waiting[] = [];
  #running = 0;
  #isScheduled = false;

  constructor(carry: CarryTxns) {
    this.#carry = carry;
  }

  /** @returns the revision, or undefined where a condition does not hold */
  add(txn: Txn): Promise<number | undefined> {
    return new Promise((resolve, reject) => {
      this.#waiting.push({ ...txn, bytes: bytesOf(txn), resolve, reject });
      if (this.#isScheduled) return;
      this.#isScheduled = true;
      // What others write in this turn goes with it.
      setImmediate(() => {
        this.#isScheduled = false;
        this.#pump();
      });
    });
  }

  #pump(): void {
    while (this.#waiting.length > 0 && this.#running < ETCD_TXNS_MAX) void this.#run(this.#take());
  }

  async #run(txns: readonly Waiting[]): Promise<void> {
    this.#running++;
    try {
      const revisions = await this.#carry(txns);
      for (const [i, { resolve }] of txns.entries()) resolve(revisions[i]);
    } catch (error) {
      for (const { reject } of txns) reject(error);
    }
    this.#running--;
    this.#pump();
  }

  /** Within etcd's limits: so many and so long, and no key twice. A lease may be gone: alone. */
  #take(): Waiting[] {
    const taken: Waiting[] = [];
    const left: Waiting[] = [];
    const keys = new Set<string>();
    let bytes = 0;
    for (const txn of this.#waiting) {
      bytes += txn.bytes;
      const isAlone = txn.writes.some(({ lease }) => lease !== undefined);
      const isBeside =
        !isAlone &&
        taken.length < ETCD_TXN_SPACES &&
        bytes <= ETCD_TXN_BYTES &&
        !txn.writes.some(({ key }) => keys.has(key));
      if (taken.length > 0 && !isBeside) {
        left.push(txn);
        continue;
      }
      taken.push(txn);
      for (const { key } of txn.writes) keys.add(key);
      // Nothing goes beside it.
      if (isAlone) bytes = Number.POSITIVE_INFINITY;
    }
    this.#waiting = left;
    return taken;
  }
}

/** The most that it takes, about. */
function bytesOf({ conditions, writes }: Txn): number {
  const named = conditions.reduce((sum, { key }) => sum + 3 * key.length, 0);
  return writes.reduce((sum, w) => sum + 3 * (w.key.length + (w.value?.length ?? 0)), named);
}
