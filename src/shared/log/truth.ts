/**
 * What of one space's log is true, as it changes: a rewind, or a snapshot in its place, takes
 * entries back. Whoever reads the log, follows it, waits for it or hands it on remembers the mark
 * of his last look, and asks here what has become void since (FAULTS row 110).
 */
import { TAKEN_BACK_MAX } from '../limits.js';
import type { Sequence } from '../position.js';

interface TakenBack {
  /** Of the change that took them back. */
  readonly mark: number;
  readonly first: Sequence;
}

export class LogTruth {
  #mark = 0;
  /** Ascending in both: a later one that begins earlier stands for those that it covers. */
  readonly #all: TakenBack[] = [];

  /** Of this moment; grows with each change. */
  get mark(): number {
    return this.#mark;
  }

  /** @param first from here on nothing counts any more; Infinity: it is to be looked at again */
  takeBack(first: Sequence): void {
    const all = this.#all;
    while (all.length > 0 && all[all.length - 1]!.first >= first) all.pop();
    all.push({ mark: ++this.#mark, first });
    if (all.length <= TAKEN_BACK_MAX) return;
    // Who has not looked for so long is told of more than concerns him, never of less.
    const oldest = all.shift()!;
    all[0] = { ...all[0]!, first: oldest.first };
  }

  /** The first entry that was taken back since `mark`; Infinity: none was. */
  voidSince(mark: number): Sequence {
    if (mark === this.#mark) return Number.POSITIVE_INFINITY;
    return this.#all.find((change) => change.mark > mark)?.first ?? Number.POSITIVE_INFINITY;
  }
}

/** Where somebody reads a space, who may have been given what stands before, and as of when. */
export interface Cursor {
  /** 0: from the first retained one. */
  next: Sequence;
  /** Of the space's truth, when what was read last was looked at; below 0: nothing was. */
  mark: number;
}

export function cursorAt(next: Sequence): Cursor {
  return { next, mark: -1 };
}
