/** Damage of this node's log, mended from other members as soon as one of them is there. */
import type { NodeConfig } from '../options/options.js';
import { Repairer } from '../repair/repairer.js';
import type { Emit } from '../runtime/emit.js';
import type { NodeEvents } from '../tell/events.js';
import type { FollowPart } from './follow-part.js';
import type { LeadPart } from './lead-part.js';
import type { LogPart } from './log-part.js';
import type { ShipPart } from './ship-part.js';

export function repairing(
  config: NodeConfig,
  log: LogPart,
  ship: ShipPart,
  follow: FollowPart,
  lead: LeadPart,
  emit: Emit<NodeEvents>,
): Repairer {
  const { disk, dir, memory, spaces, segments, salt } = log;
  const files = [disk, dir, memory, spaces, segments, salt] as const;
  const rest = [log.reader, log.damage, log.retention, log.state, log.wal] as const;
  const links = {
    replication: ship.replication,
    peers: lead.peers,
    dialAgain: follow.dialAgain.bind(follow),
  };
  const repairer = new Repairer(...files, config, ...rest, links, emit);
  log.later.damaged = () => repairer.wake();
  ship.later.unreadable = (segment) => repairer.unreadable(segment);
  const linked = ship.later.connected;
  ship.later.connected = (replicaId) => {
    repairer.heard(replicaId);
    linked(replicaId);
  };
  follow.later.connected = (primaryId) => repairer.heard(primaryId);
  return repairer;
}
