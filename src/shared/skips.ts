/** Entries that a host's apply callback is never given: somebody has said so (FAULTS row 52). */
import { failure } from './errors.js';
import { SKIPS_MAX } from './limits.js';
import type { Sequence } from './position.js';
import type { SpaceFacts } from './state.js';

/** Throws Configuration when a space has too many of them already. */
export function checkSkip(facts: SpaceFacts): void {
  if (facts.skipped.length < SKIPS_MAX) return;
  const found = `${facts.name} has ${SKIPS_MAX} skipped entries above its checkpoint already`;
  throw failure('Configuration', found);
}

/**
 * Where the entry was taken back meanwhile it was another one that was meant: nothing is skipped.
 * Throws as `checkSkip`.
 */
export function addSkip(facts: SpaceFacts, sequence: Sequence): void {
  if (sequence > facts.position.sequence || facts.skipped.includes(sequence)) return;
  checkSkip(facts);
  facts.skipped.push(sequence);
  facts.skipped.sort((a, b) => a - b);
}
