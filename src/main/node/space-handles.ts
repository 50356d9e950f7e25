/** What the host holds of the spaces of a node: one handle each. */

import type { SpaceState } from '../log/space-table.js';
import type { FollowPart } from './follow-part.js';
import type { LeadPart } from './lead-part.js';
import type { LogPart } from './log-part.js';
import type { ShipPart } from './ship-part.js';
import type { SpaceParts } from './space/parts.js';
import { makeSpace, type Space } from './space.js';

interface HandlesGiven extends Pick<SpaceParts, 'config' | 'ackRefusal' | 'stop'> {
  readonly log: LogPart;
  readonly ship: ShipPart;
  readonly follow: FollowPart;
  readonly lead: LeadPart;
}

export class SpaceHandles {
  readonly #parts: SpaceParts;
  readonly #all = new Map<SpaceState, Space>();

  static of({ config, log, ship, follow, lead, ackRefusal, stop }: HandlesGiven): SpaceHandles {
    const { memory, wal, reader, retention } = log;
    return new SpaceHandles({
      ...{ config, memory, wal, reader, retention, ackRefusal, stop },
      producers: new Set(),
      replication: ship.replication,
      appliedTo: (space) => follow.appliedTo(space),
      versionOf: (primaryId) => follow.primaries.versionOf(primaryId),
      hostAppliedTo: (space) => follow.hostAppliedTo(space),
      ...{ applied: follow.applied, gate: follow.gate },
      tipOf: (space) => lead.tips.of(space),
      applier: follow.applier,
      snapshots: follow.snapshots,
      membersOf: (space) => lead.leadership.changes.statusOf(space),
      leaderOf: ({ facts }) => lead.leadership.coordinated.seen.leaderOf(facts.name, facts.primary),
    });
  }

  private constructor(parts: SpaceParts) {
    this.#parts = parts;
  }

  of(state: SpaceState): Space {
    let handle = this.#all.get(state);
    if (!handle) {
      handle = makeSpace(this.#parts, state);
      this.#all.set(state, handle);
    }
    return handle;
  }
}
