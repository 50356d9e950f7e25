/** A space as full as it takes. */
import { sleep, turn } from './child.mjs';

const TYPE = 1;
const ENTRY_HEADER_BYTES = 64;
const TIMEOUT_MS = 120_000;
/** The driver waits for a part of its lead at a time. */
const ASKED_PARTS = 16;

/**
 * What runs once a commit is compiled after some thousand commits. So it begins with the smallest
 * of those that are large (256 KiB, which another thread seals), a third of the log of them, and
 * goes on for a second as it is measured. At an offered rate commits are small as they are:
 * `offeredMs` of them. The bare pipeline does the same.
 */
export const WARM_UP = {
  burstBytes: 256 * 1024,
  leadBytes: 1024 * 1024,
  share: 1 / 3,
  ms: 30_000,
  fullMs: 1_000,
  fullShare: 1 / 12,
  offeredMs: 6_000,
};

/** Figures of a job in entries. */
export function entriesOf({ payloadBytes, maxBytes, leadBytes }) {
  const of = (bytes) => bytes / (ENTRY_HEADER_BYTES + payloadBytes);
  return {
    most: Math.floor(of(maxBytes)),
    lead: Math.ceil(of(leadBytes)),
    warmUpBurst: Math.ceil(of(WARM_UP.burstBytes)),
    warmUpLead: Math.ceil(of(WARM_UP.leadBytes)),
  };
}

/** Until all replicas have flushed it. @returns the last sequence */
export async function warmUp(space, payloads, job, replicas) {
  const { most, lead, warmUpBurst, warmUpLead } = entriesOf(job);
  const small = most * WARM_UP.share;
  const full = small + most * WARM_UP.fullShare;
  await drive(space, payloads, warmUpBurst, warmUpLead, WARM_UP.ms, small, replicas);
  const last = await drive(space, payloads, job.burst, lead, WARM_UP.fullMs, full, replicas);
  await space.flushed(last, { replicas, timeoutMs: TIMEOUT_MS });
  return last;
}

/**
 * Appends in bursts, one a turn of the event loop, for `ms` or up to sequence `most`. Waits where
 * the budget is used up, or until the slowest replica is less than `lead` entries behind.
 * @returns the last sequence
 */
export async function drive(space, payloads, burst, lead, ms, most, replicas) {
  const end = performance.now() + ms;
  let last = space.status().lastSequence;
  let acked = 0;
  while (performance.now() < end && last < most) {
    const needed = last + burst - lead;
    if (lead > 0 && needed > acked) {
      // For several bursts at once, where they are small: else what is measured is the asking.
      acked = Math.min(last, needed + Math.floor(lead / ASKED_PARTS));
      await space.flushed(acked, { replicas, timeoutMs: TIMEOUT_MS });
    }
    let n = 0;
    for (; n < burst; n++) {
      const sequence = space.tryAppend(TYPE, payloads[(last + 1) % payloads.length]);
      if (sequence === undefined) break;
      last = sequence;
    }
    // Spinning would take the processor from those that we wait for.
    if (n < burst) await sleep(1);
    else await turn();
  }
  return last;
}
