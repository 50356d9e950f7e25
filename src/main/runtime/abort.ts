/** The signals by which a host ends its waits. */
import { type EngramError, failure } from '../../shared/errors.js';
import { readGiven } from '../../shared/host-input.js';
import { wrong } from '../../shared/option-checks.js';

/** Every call that waits takes one. */
export interface Abortable {
  /**
   * Aborted, the call rejects Aborted, at once. It ends the wait, not what is waited for: what has
   * begun may still happen.
   */
  readonly signal?: AbortSignal;
}

/** Who waits, by signal: one listener each, for a host's signal warns of more than ten. */
const waits = new WeakMap<AbortSignal, Set<() => void>>();

/** Throws Configuration for what is no signal. */
export function checkSignal(
  what: string,
  given: unknown,
): asserts given is AbortSignal | undefined {
  if (given === undefined || given instanceof AbortSignal) return;
  throw wrong(`${what}: signal`, given, 'an AbortSignal');
}

export function abortedError(what: string, signal: AbortSignal): EngramError {
  return failure('Aborted', `${what}: its signal was aborted`, { cause: signal.reason });
}

/** The signal of a call, and its other options, read once. Throws Configuration. */
export function withoutSignal<T extends object>(
  what: string,
  given: (Partial<T> & Abortable) | undefined,
  known: readonly (keyof T & string)[],
): [AbortSignal | undefined, Partial<T>] {
  const { signal, ...rest } = readGiven<T & Abortable>(what, given, [...known, 'signal']);
  checkSignal(what, signal);
  return [signal, rest as unknown as Partial<T>];
}

/** Calls `stop` when the signal is aborted. @returns forgets it */
export function onAbort(signal: AbortSignal | undefined, stop: () => void): () => void {
  if (!signal) return () => undefined;
  let all = waits.get(signal);
  if (!all) {
    const told = new Set<() => void>();
    all = told;
    waits.set(signal, told);
    const tell = (): void => {
      for (const stop of [...told]) stop();
    };
    signal.addEventListener('abort', tell, { once: true });
  }
  all.add(stop);
  return () => void all.delete(stop);
}

/**
 * What `work` comes to, unless the signal is aborted before. Rejects Aborted; where it is aborted
 * already, nothing has begun.
 */
export async function abortable<T>(
  what: string,
  signal: AbortSignal | undefined,
  work: () => Promise<T>,
): Promise<T> {
  checkSignal(what, signal);
  if (!signal) return await work();
  if (signal.aborted) throw abortedError(what, signal);
  let forget = (): void => undefined;
  try {
    return await new Promise((resolve, reject) => {
      forget = onAbort(signal, () => reject(abortedError(what, signal)));
      work().then(resolve, reject);
    });
  } finally {
    forget();
  }
}
