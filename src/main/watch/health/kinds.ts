/** Every kind of problem: how bad it is, and which chapter of the handbook says what to do. */
import type { HealthWord } from './words.js';

/** Named states in which a replica gets nothing of a space, however well its link is. */
export const REFUSED_STATES = [
  'slot-lost',
  'rewind-needed',
  'snapshot-needed',
  'fenced',
  'forked',
  'regressed',
] as const;
type RefusedState = (typeof REFUSED_STATES)[number];

export type ProblemKind =
  | 'log-failed'
  | 'log-read-only'
  | 'slow-disk'
  | 'disk-full-soon'
  | 'retention-full'
  | 'damaged'
  | 'repairing'
  | 'refused'
  | 'replica-failed'
  | 'replica-lagging'
  | 'never-connected'
  | 'learner'
  | 'silent'
  | 'stalled'
  | 'slot-unreserved'
  | RefusedState
  | 'apply-blocked'
  | 'leaderless'
  | 'primary-gone'
  | 'primary-stalled'
  | 'lease-lost'
  | 'coordinator-away'
  | 'certificate-expires'
  | 'credentials-refused'
  | 'strangers'
  | 'unused';

/** Anchors of docs/OPERATIONS.md. */
export type Chapter =
  | 'as-a-service'
  | 'a-replica-lags'
  | 'a-slot-is-lost'
  | 'a-disk-is-full'
  | 'a-range-is-corrupt'
  | 'a-promotion-fails'
  | 'keys-and-certificates'
  | 'strangers-at-the-door'
  | 'etcd';

/**
 * What a problem of the kind is at least: one replica less is for working hours, as long as enough
 * of the others are there.
 */
export const KINDS: Readonly<
  Record<ProblemKind, { readonly health: HealthWord; readonly chapter: Chapter }>
> = {
  'log-failed': { health: 'failed', chapter: 'a-disk-is-full' },
  'log-read-only': { health: 'failed', chapter: 'a-disk-is-full' },
  'slow-disk': { health: 'degraded', chapter: 'a-replica-lags' },
  'disk-full-soon': { health: 'degraded', chapter: 'a-disk-is-full' },
  'retention-full': { health: 'failed', chapter: 'a-disk-is-full' },
  damaged: { health: 'corrupt', chapter: 'a-range-is-corrupt' },
  repairing: { health: 'degraded', chapter: 'a-range-is-corrupt' },
  refused: { health: 'failed', chapter: 'a-promotion-fails' },
  'replica-failed': { health: 'degraded', chapter: 'a-replica-lags' },
  'replica-lagging': { health: 'degraded', chapter: 'a-replica-lags' },
  'never-connected': { health: 'degraded', chapter: 'a-replica-lags' },
  learner: { health: 'degraded', chapter: 'a-promotion-fails' },
  silent: { health: 'degraded', chapter: 'a-replica-lags' },
  stalled: { health: 'degraded', chapter: 'a-replica-lags' },
  'slot-unreserved': { health: 'degraded', chapter: 'a-slot-is-lost' },
  'slot-lost': { health: 'degraded', chapter: 'a-slot-is-lost' },
  'rewind-needed': { health: 'degraded', chapter: 'a-replica-lags' },
  'snapshot-needed': { health: 'degraded', chapter: 'a-slot-is-lost' },
  fenced: { health: 'degraded', chapter: 'a-promotion-fails' },
  // Two histories: what one of them has acknowledged is about to be lost.
  forked: { health: 'failed', chapter: 'a-promotion-fails' },
  regressed: { health: 'failed', chapter: 'a-promotion-fails' },
  'apply-blocked': { health: 'failed', chapter: 'a-replica-lags' },
  leaderless: { health: 'failed', chapter: 'a-promotion-fails' },
  'primary-gone': { health: 'failed', chapter: 'a-promotion-fails' },
  // What is turned away does no harm, and is to be seen.
  strangers: { health: 'healthy', chapter: 'strangers-at-the-door' },
  'primary-stalled': { health: 'failed', chapter: 'a-promotion-fails' },
  'lease-lost': { health: 'failed', chapter: 'etcd' },
  'coordinator-away': { health: 'degraded', chapter: 'etcd' },
  'certificate-expires': { health: 'degraded', chapter: 'keys-and-certificates' },
  'credentials-refused': { health: 'degraded', chapter: 'keys-and-certificates' },
  unused: { health: 'degraded', chapter: 'as-a-service' },
};
