/** Why somebody is not let in, or is let go: words for counters, lines and alerts (P10). */

/** Where it has knocked. */
export const DOORS = ['replication', 'http'] as const;
export type Door = (typeof DOORS)[number];

/**
 * - `auth`: no key, token or certificate, or a wrong one.
 * - `not-member`: it has proved itself, and is none of those that this node knows.
 * - `not-allowed`: it may not replicate this space here (`mayReplicate`).
 * - `epoch`: it names an epoch out of reach.
 * - `protocol`: another cluster, node or version, or bytes that are no frame.
 * - `late`: it has proved nothing within its time.
 * - `evicted`: its place before that was given to another one.
 * - `full`: all places of those that were let in are taken.
 * - `memory`: half a frame of it was held for long, and others needed the memory.
 * - `rate`: too many requests.
 */
export const REFUSAL_REASONS = [
  'auth',
  'not-member',
  'not-allowed',
  'epoch',
  'protocol',
  'late',
  'evicted',
  'full',
  'memory',
  'rate',
] as const;
export type RefusalReason = (typeof REFUSAL_REASONS)[number];

/** Of a peer's address; `member`: a member is known to be there. */
export const ADDRESS_CLASSES = ['member', 'loopback', 'private', 'public'] as const;
export type AddressClass = (typeof ADDRESS_CLASSES)[number];

/** So many of one kind since it was told last. */
export interface Refused {
  readonly door: Door;
  readonly reason: RefusalReason;
  readonly addressClass: AddressClass;
  /** Of the last one. */
  readonly address: string;
  /** What was found of the last one. */
  readonly detail: string;
  readonly times: number;
}

/** All of one kind since the node was opened. */
export interface RefusalCount {
  readonly door: Door;
  readonly reason: RefusalReason;
  readonly addressClass: AddressClass;
  readonly times: number;
  /** Since the last one, ms. */
  readonly agoMs: number;
}
