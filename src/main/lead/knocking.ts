/**
 * A node that follows spaces makes itself heard: it dials the nodes that may lead them and do not
 * ship to it, so that they dial it at once and not when their backoff is over (FAULTS row 116). A
 * greeted peer call is all that it takes, and it asks about no space.
 */
import { KNOCK_EVERY_MS, KNOCKS_AT_ONCE } from '../../shared/limits.js';
import type { Member } from '../../shared/log/node-record.js';
import { unlike } from '../../shared/log/space-facts.js';
import type { SpaceState } from '../log/space-table.js';
import type { PeerClient } from '../peer/client.js';
import { pause } from '../runtime/deadline.js';

export interface KnockingParts {
  readonly peers: PeerClient;
  /** Aborted when the node closes. */
  readonly stop: AbortSignal;
  spaces(): Iterable<SpaceState>;
  /** The node ships to this one. */
  isLinked(nodeId: string): boolean;
  /** Where other nodes listen, as far as was configured or said. */
  known(): readonly Member[];
  /** The other members of a space that can be dialled, whoever leads it. */
  reachable(space: SpaceState): readonly Member[];
}

/** Goes on until the node closes; at once for the first time. */
export async function keepKnocking(parts: KnockingParts): Promise<void> {
  const { peers, stop } = parts;
  for (let round = 0; !stop.aborted; round++) {
    const all = [...unlinked(parts, round === 0 ? parts.known() : []).values()];
    // Where there are very many, each has its turn.
    const first = all.length > KNOCKS_AT_ONCE ? (round * KNOCKS_AT_ONCE) % all.length : 0;
    const knocks = all.slice(first, first + KNOCKS_AT_ONCE).map((member) => knock(peers, member));
    await Promise.all([...knocks, pause(KNOCK_EVERY_MS * (0.5 + Math.random() / 2), stop)]);
  }
}

/** Of spaces that nobody ships here: all that may lead them by now. @param more than those */
function unlinked(
  { spaces, isLinked, reachable }: KnockingParts,
  more: readonly Member[],
): Map<string, Member> {
  const found = new Map(more.filter((m) => m.port > 0).map((m) => [m.nodeId, m]));
  for (const space of unlike(spaces())) {
    const { role, primary } = space.facts;
    if (role !== 'replica' || isLinked(primary)) continue;
    for (const member of reachable(space)) {
      if (!isLinked(member.nodeId)) found.set(member.nodeId, member);
    }
  }
  return found;
}

async function knock(peers: PeerClient, member: Member): Promise<void> {
  try {
    const call = await peers.open(member, KNOCK_EVERY_MS);
    try {
      // An answer comes once it has let us in, and not before a proof of ours has arrived.
      await call.ask({ kind: 'standing-ask', ids: [] }, ['standing'], KNOCK_EVERY_MS);
    } finally {
      call.close();
    }
  } catch {
    // Nobody there, or nobody who takes questions: its own dial is what is waited for.
  }
}
