/** How much of each of several spaces stood in one bad place, where nothing else tells. */

/** Beyond so many steps nobody looks: what comes first takes what room there is. */
const STEPS_MAX = 1_000_000;
const NONE = -1;

/**
 * Takes the first entries of each space, so many that the room is used up: what is left of it would
 * be lacking in a later place. Of equal ways the one that takes most of the last spaces.
 * @param sizes of the entries of each space that may stand here, in order, bytes
 * @param leastLeft what is left is nothing, or at least so much
 * @returns how many entries of each; undefined: no way, or too many to look through
 */
export function splitOf(
  sizes: readonly (readonly number[])[],
  room: number,
  leastLeft: number,
): readonly number[] | undefined {
  let steps = room;
  /** For each space, by the bytes that it and those before it take: how many entries of it. */
  const ways: Int32Array[] = [];
  let reached: readonly number[] = [0];
  for (const own of sizes) {
    steps += room + reached.length * (1 + own.length);
    if (steps > STEPS_MAX) return undefined;
    const way = new Int32Array(room + 1).fill(NONE);
    const next: number[] = [];
    for (const before of reached) {
      let bytes = before;
      for (let count = 0; bytes <= room; bytes += own[count++]!) {
        if (way[bytes] === NONE) next.push(bytes);
        way[bytes] = Math.max(way[bytes]!, count);
        if (count === own.length) break;
      }
    }
    ways.push(way);
    reached = next;
  }
  const fits = reached.filter((bytes) => bytes === room || room - bytes >= leastLeft);
  if (fits.length === 0) return undefined;
  const counts: number[] = [];
  let bytes = fits.reduce((most, one) => Math.max(most, one));
  for (let at = sizes.length - 1; at >= 0; at--) {
    const count = ways[at]![bytes]!;
    counts.unshift(count);
    for (let n = 0; n < count; n++) bytes -= sizes[at]![n]!;
  }
  return counts;
}
