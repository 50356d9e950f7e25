/** The demo's load: the same entries over and over, as fast as the replicas take them. */

import type { Node } from '../../node/node.js';
import type { Space } from '../../node/space.js';
import { pause } from '../../runtime/deadline.js';

export interface LoadEntry {
  readonly space: Space;
  readonly payload: Uint8Array;
}

/** Entries appended before the event loop has its turn. */
const ENTRIES_PER_TURN = 1_024;
/** The primary runs ahead of a replica that is connected by this much, and looks so often. */
const LEAD_BYTES = 8 * 1024 ** 2;
const LOOK_EVERY_BYTES = 2 * 1024 ** 2;

/**
 * Appends the entries in their order, again and again, up to `most` or until the signal.
 * @returns how many were appended, by the name of their space
 * Throws what `tryAppend` does.
 */
export async function load(
  node: Node,
  entries: readonly LoadEntry[],
  most: number,
  signal: AbortSignal,
): Promise<Map<string, number>> {
  let count = 0;
  let unseen = 0;
  while (count < most && !signal.aborted) {
    const end = Math.min(most, count + ENTRIES_PER_TURN);
    while (count < end) {
      const { space, payload } = entries[count % entries.length]!;
      if (space.tryAppend(1, payload) === undefined) break;
      unseen += payload.length;
      count++;
    }
    if (unseen > LOOK_EVERY_BYTES) {
      unseen = 0;
      while (mostBehind(node) > LEAD_BYTES && !signal.aborted) await pause(5);
    }
    await new Promise((resolve) => setImmediate(resolve));
  }
  return countBySpace(entries, count);
}

/** Bytes that the slowest of the replicas lacks that can be waited for. */
function mostBehind(node: Node): number {
  const behind = new Map<string, number>();
  for (const space of node.spaces) {
    for (const { replicaId, state, lagBytes } of space.status().replicas) {
      if (state !== 'streaming' && state !== 'catching-up') continue;
      behind.set(replicaId, (behind.get(replicaId) ?? 0) + lagBytes);
    }
  }
  return Math.max(0, ...behind.values());
}

/** Of `count` entries that were taken in turn. */
function countBySpace(entries: readonly LoadEntry[], count: number): Map<string, number> {
  const rounds = Math.floor(count / entries.length);
  const counts = new Map<string, number>();
  for (const [i, { space }] of entries.entries()) {
    const times = i < count % entries.length ? rounds + 1 : rounds;
    counts.set(space.name, (counts.get(space.name) ?? 0) + times);
  }
  return counts;
}
