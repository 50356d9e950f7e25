/** A space as full as it takes. */
import { sleep, turn } from './child.mjs';

const TYPE = 1;

/**
 * Appends in bursts, one a turn of the event loop, for `ms` or up to sequence `most`. Waits where
 * the budget is used up, or where the slower replica is `lead` entries behind.
 * @returns the last sequence
 */
export async function drive(space, payloads, burst, lead, ms, most) {
  const end = performance.now() + ms;
  let last = 0;
  let acked = 0;
  while (performance.now() < end && last < most) {
    let room = burst;
    if (lead > 0) {
      // All figures of a space are more than a host asks for with each burst.
      if (acked + lead - last < burst) acked = space.status().minAckedSequence;
      room = Math.min(room, acked + lead - last);
    }
    let n = 0;
    for (; n < room; n++) {
      const sequence = space.tryAppend(TYPE, payloads[(last + 1) % payloads.length]);
      if (sequence === undefined) break;
      last = sequence;
    }
    // Spinning would take the processor from those that we wait for.
    if (n < room || room < burst) await sleep(1);
    else await turn();
  }
  return last;
}
