/**
 * Candidates for one space that meet, be it on timers of the same length (FAULTS row 113): each
 * takes its place in an order that all can tell, and waits accordingly before it asks anew.
 */

import { DUEL_BACKOFF_MS } from '../limits.js';
import type { Position } from '../position.js';
import { comparePositions } from './epoch.js';

export interface Rival {
  readonly nodeId: string;
  readonly position: Position;
}

/**
 * How long to wait before the next round: the farthest goes first, of equal ones the higher id;
 * each one behind it waits a step longer, and a part of a step by chance, for not everybody sees
 * the same rivals. Steps double from round to round.
 * @param others whom this node has heard of
 * @param round from 1 on
 * @param chance in [0, 1)
 */
export function duelWaitMs(
  own: Rival,
  others: readonly Rival[],
  round: number,
  chance: number,
): number {
  const before = others.filter((other) => isAhead(other, own)).length;
  const { first, last } = DUEL_BACKOFF_MS;
  const step = Math.min(last, first * 2 ** (round - 1));
  return (Math.min(before, 1) + chance / 2) * step;
}

function isAhead(a: Rival, b: Rival): boolean {
  const farther = comparePositions(a.position, b.position);
  return farther === 0 ? a.nodeId > b.nodeId : farther > 0;
}
