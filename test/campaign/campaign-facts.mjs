// What the campaign and its node agree on: sizes, names, payloads that follow from few numbers.
import { createHash } from 'node:crypto';

export const NAMES = ['s', 't', 'u'];

/** Segments so small that a roll comes every few milliseconds. */
export const SIZES = {
  segmentBytes: 128 * 1024,
  groupBytes: 32 * 1024,
  maxEntryBytes: 8 * 1024,
  memoryBudgetBytes: 512 * 1024,
};

/** A small generator of chance: a number below n (mulberry32). */
export function random(seed) {
  let state = seed | 0;
  return (below) => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return Math.floor((((t ^ (t >>> 14)) >>> 0) / 2 ** 32) * below);
  };
}

/** No two are alike; 30 to 3,000 bytes. */
export function payloadOf(seed, attempt, index, count) {
  const head = `${seed}.${attempt}.${index}.${count} `;
  return Buffer.alloc(30 + ((count * 131 + index * 977) % 2_970), head);
}

export function digestOf(payload) {
  return createHash('sha256').update(payload).digest('base64').slice(0, 16);
}
