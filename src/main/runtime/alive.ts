/**
 * A process stays alive while somebody waits for the log, and ends when nobody does (FAULTS row
 * 97). Threads and timers of a node keep nothing alive by themselves: a host that is done ends.
 */

const LONGEST_MS = 2 ** 31 - 1;

let waits = 0;
let timer: NodeJS.Timeout | undefined;

/** Somebody waits from now on. */
export function beginWait(): void {
  if (waits++ > 0) return;
  // One for good: to make a timer and to end it costs many times as much, and a commit does it.
  timer ??= setInterval(() => undefined, LONGEST_MS);
  timer.ref();
}

/** Once for each `beginWait`. */
export function endWait(): void {
  if (--waits === 0) timer!.unref();
}

/** The process lives until this has settled. */
export async function stayAlive<T>(work: Promise<T>): Promise<T> {
  beginWait();
  try {
    return await work;
  } finally {
    endWait();
  }
}
