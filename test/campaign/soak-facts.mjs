// What the soak and its nodes agree on: spaces, and payloads that say themselves who offered them.

export const SPACES = ['red', 'green', 'blue'];

/** Segments that are freed and used again every few seconds; else as a host has it. */
export const OPTIONS = {
  clusterId: 'soak',
  segmentBytes: 16 * 1024 * 1024,
  maxEntryBytes: 64 * 1024,
  backoffStepsMs: [100, 500, 2_000],
};

/** Entries of one appendBatch. */
export const PER_BATCH = 20;
/** One batch of so many waits for a replica's fdatasync, too. */
const REPLICATED_EVERY = 10;

/** How the batch is acknowledged in which a life's `count`th payload of the space is offered. */
export function isReplicated(space, count) {
  // Spaces take turns, a batch each.
  const batch = Math.floor(count / PER_BATCH) * SPACES.length + SPACES.indexOf(space);
  return batch % REPLICATED_EVERY === 0;
}

/** What the log itself has written, of who counts (src/shared/members/members.ts). */
export const MEMBERS_ENTRY = 7;

/** The `count`th payload that this life of the primary offered to the space; no two are alike. */
export function payloadOf(life, space, count) {
  const head = `${life} ${space} ${count} `;
  return Buffer.alloc(head.length + ((count * 131) % 200), head);
}

/** Who offered these bytes; undefined where nobody can have. */
export function offerOf(payload) {
  const [life, space, count] = Buffer.from(payload).toString('latin1').split(' ', 3);
  if (!payloadOf(Number(life), space, Number(count)).equals(payload)) return undefined;
  return { life: Number(life), space, count: Number(count) };
}
