/** `Atomics.waitAsync`, which the ES2023 library does not name yet. */
interface AtomicsWithWaitAsync {
  waitAsync(
    words: Int32Array,
    index: number,
    value: number,
  ): { async: false; value: string } | { async: true; value: Promise<unknown> };
}

/** undefined when the word has another value already. */
export function waitWord(
  words: Int32Array,
  index: number,
  seen: number,
): Promise<unknown> | undefined {
  const wait = (Atomics as unknown as AtomicsWithWaitAsync).waitAsync(words, index, seen);
  return wait.async ? wait.value : undefined;
}

/** Ticks are 32 bits, and go round. */
function isReached(tick: number, due: number): boolean {
  return ((tick - due) | 0) >= 0;
}

/**
 * Moves the tick at `index`. Who waits for it sleeps on until the one that the word behind it
 * names. The tick is moved before that word is read, and `sleepUntilTick` writes it before it looks
 * at the tick: one of the two sees what the other has done.
 */
export function moveTick(words: Int32Array, index: number): void {
  const tick = Atomics.add(words, index, 1) + 1;
  if (isReached(tick, Atomics.load(words, index + 1))) Atomics.notify(words, index);
}

/** @returns false: that tick has come already, and wakes nobody */
export function sleepUntilTick(words: Int32Array, index: number, due: number): boolean {
  Atomics.store(words, index + 1, due);
  return !isReached(Atomics.load(words, index), due);
}
