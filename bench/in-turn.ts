/** Two things measured in turn: whatever drifts meanwhile hits both. */

/**
 * Runs `one` and `other` so many times, in pairs; each goes first in every second pair.
 * @returns what they gave, pair by pair
 */
export async function inTurn<T>(
  pairs: number,
  one: (pair: number) => Promise<T>,
  other: (pair: number) => Promise<T>,
): Promise<[T, T][]> {
  const found: [T, T][] = [];
  for (let pair = 1; pair <= pairs; pair++) {
    if (pair % 2 === 1) {
      const first = await one(pair);
      found.push([first, await other(pair)]);
    } else {
      const first = await other(pair);
      found.push([await one(pair), first]);
    }
  }
  return found;
}
