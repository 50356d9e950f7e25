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
