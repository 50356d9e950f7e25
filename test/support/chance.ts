/** Chance that a seed repeats. */

/** A number from 0 up to, and without, `below`. */
export type Chance = (below: number) => number;

/** A small generator of chance, so that a seed repeats a run (mulberry32). */
export function chanceFrom(seed: number): Chance {
  let state = seed | 0;
  return (below) => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return Math.floor((((t ^ (t >>> 14)) >>> 0) / 2 ** 32) * below);
  };
}
