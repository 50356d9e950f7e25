/**
 * Runs steps one after the other, each whatever became of those before it: an end must not stop
 * half-way. Rejects as the first that has failed.
 */
export async function inTurn(
  steps: readonly (() => Promise<unknown> | undefined)[],
): Promise<void> {
  const errors: unknown[] = [];
  for (const step of steps) {
    try {
      await step();
    } catch (error) {
      errors.push(error);
    }
  }
  if (errors.length > 0) throw errors[0];
}

/** The same for what must not go on once a step has failed. */
export async function oneByOne(steps: readonly (() => Promise<void>)[]): Promise<void> {
  for (const step of steps) await step();
}
