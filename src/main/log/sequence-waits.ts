/** Those who wait for sequences, the lowest first: waking costs what is woken, not what waits. */
import type { Sequence } from '../../shared/position.js';

export interface SequenceWait {
  readonly sequence: Sequence;
  /** Where it stands in the heap; kept by `SequenceWaits`, in one of which it is at a time. */
  place?: number;
}

/** A binary heap. */
export class SequenceWaits<W extends SequenceWait> {
  readonly #heap: W[] = [];

  get size(): number {
    return this.#heap.length;
  }

  /** The lowest that is waited for; Infinity: none is. */
  get lowest(): Sequence {
    return this.#heap[0]?.sequence ?? Number.POSITIVE_INFINITY;
  }

  add(wait: W): void {
    this.#put(wait, this.#heap.length);
    this.#rise(wait);
  }

  /** Does nothing where it is not here. */
  delete(wait: W): void {
    const at = wait.place;
    if (at === undefined || this.#heap[at] !== wait) return;
    const last = this.#heap.pop()!;
    if (last === wait) return;
    this.#put(last, at);
    this.#rise(last);
    this.#sink(last);
  }

  /** Takes out one that waits for `sequence` or a lower one; undefined: there is none. */
  take(sequence: Sequence): W | undefined {
    const first = this.#heap[0];
    if (!first || first.sequence > sequence) return undefined;
    this.delete(first);
    return first;
  }

  #put(wait: W, at: number): void {
    this.#heap[at] = wait;
    wait.place = at;
  }

  #rise(wait: W): void {
    let at = wait.place!;
    while (at > 0) {
      const above = this.#heap[(at - 1) >>> 1]!;
      if (above.sequence <= wait.sequence) break;
      this.#put(above, at);
      at = (at - 1) >>> 1;
    }
    this.#put(wait, at);
  }

  #sink(wait: W): void {
    const heap = this.#heap;
    let at = wait.place!;
    for (;;) {
      let low = 2 * at + 1;
      if (low + 1 < heap.length && heap[low + 1]!.sequence < heap[low]!.sequence) low++;
      const below = heap[low];
      if (!below || below.sequence >= wait.sequence) break;
      this.#put(below, at);
      at = low;
    }
    this.#put(wait, at);
  }
}
