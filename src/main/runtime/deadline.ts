/** Waiting for other work, but not for ever. */

/** Resolves after `ms`, or as soon as `signal` says that nobody waits any more. */
export function pause(ms: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal?.aborted) return resolve();
    const timer = setTimeout(done, ms);
    function done(): void {
      clearTimeout(timer);
      signal?.removeEventListener('abort', done);
      resolve();
    }
    signal?.addEventListener('abort', done, { once: true });
  });
}

/**
 * Calls `late` after `ms`, behind what disks, threads and peers have said by then: time-outs come
 * first in a turn, and where the loop was blocked for longer nobody has heard the rest.
 * @returns what calls it off
 */
export function lateAfter(ms: number, late: () => void): () => void {
  let judging: NodeJS.Immediate | undefined;
  const timer = setTimeout(() => {
    judging = setImmediate(late);
  }, ms);
  return () => {
    clearTimeout(timer);
    clearImmediate(judging);
  };
}

/** What the work gives, or `late` where it takes longer than `timeoutMs`. */
export async function within<T>(work: Promise<T>, timeoutMs: number): Promise<T | 'late'> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<'late'>((resolve) => {
    timer = setTimeout(() => resolve('late'), timeoutMs);
  });
  try {
    return await Promise.race([work, late]);
  } finally {
    clearTimeout(timer);
  }
}

/** What the work gives, or `late` where it takes longer than `graceMs` from `signal` on. */
export function withinFrom<T>(
  signal: AbortSignal,
  graceMs: number,
  work: Promise<T>,
): Promise<T | 'late'> {
  return new Promise((resolve, reject) => {
    let timer: NodeJS.Timeout | undefined;
    const begin = (): void => {
      timer = setTimeout(() => resolve('late'), graceMs);
    };
    if (signal.aborted) begin();
    else signal.addEventListener('abort', begin, { once: true });
    const over = (): void => {
      clearTimeout(timer);
      signal.removeEventListener('abort', begin);
    };
    work.finally(over).then(resolve, reject);
  });
}
