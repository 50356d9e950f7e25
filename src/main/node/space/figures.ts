/** The figures of one space, as of now. */
import { keepsOf } from '../../follow/checkpoint-follower.js';
import { fencedError } from '../../lead/fencing.js';
import { lastHostSequence } from '../../log/host-entries.js';
import type { SpaceState } from '../../log/space-table.js';
import type { PairGlance } from '../../ship/lag-monitor.js';
import { pairOf } from '../../snapshot/supply.js';
import type { SpaceGlance, SpaceStatus } from '../../watch/status.js';
import type { SpaceParts } from './parts.js';

export function glanceOf(
  parts: SpaceParts,
  space: SpaceState,
  pair: PairGlance,
  each: () => void,
): SpaceGlance {
  const { memory, replication, applier } = parts;
  const { facts, slot, refusal, isFenced } = space;
  let isTroubled = facts.damage.length > 0 || refusal !== undefined || isFenced;
  isTroubled ||= applier?.blockOf(space) !== undefined;
  isTroubled ||= parts.leaderOf(space).nodeId === undefined;
  if (facts.role === 'primary') {
    const nowMs = performance.now();
    for (const shipper of replication.shippersOf(space)) {
      replication.monitor.glance(space, shipper, nowMs, pair);
      isTroubled ||= pair.status === 'degraded' || pair.status === 'failed';
      each();
    }
    isTroubled ||= replication.quorum.learning(space).length > 0;
  }
  return {
    name: facts.name,
    role: facts.role,
    primaryNodeId: facts.primary,
    durableSequence: memory.durable(slot),
    isTroubled,
  };
}

function repairOf({ repair }: SpaceState): SpaceStatus['repair'] {
  if (!repair) return undefined;
  const { state, reason, unreachable, sinceMs } = repair;
  return { state, reason, unreachable, since: performance.now() - sinceMs };
}

/** The figures of this space, as of now. */
export function statusOf(parts: SpaceParts, space: SpaceState): SpaceStatus {
  const { memory, replication, retention, applier } = parts;
  const { facts, slot } = space;
  const durable = memory.durable(slot);
  const shippers = facts.role === 'primary' ? replication.shippersOf(space) : [];
  const nowMs = performance.now();
  const replicas = shippers.map((shipper) => {
    const { nodeId } = shipper.replica;
    const kept = retention.slotState(space, nodeId);
    const snapshot = replication.snapshots.statusOf(pairOf(space, nodeId));
    return replication.monitor.statusOf(space, shipper, nowMs, kept, snapshot);
  });
  // One that has failed holds nothing back, unless all have.
  const living = replicas.filter((r) => r.status !== 'failed');
  const acked = (living.length > 0 ? living : replicas).map((r) => r.ackedSequence);
  const lagEntries = replicas.map((r) => r.lagEntries);
  const rpoMs = replicas.map((r) => r.lagMs).filter((ms) => ms !== 'unknown');
  return {
    name: facts.name,
    id: facts.id,
    role: facts.role,
    epoch: facts.epoch,
    primaryNodeId: facts.primary,
    leader: parts.leaderOf(space),
    firstSequence: durable > 0 ? facts.first : 0,
    checkpoint: facts.checkpoint,
    keeps: keepsOf(space, parts.config.follow, parts.versionOf),
    damage: facts.damage.map(({ from, to, accepted }) => ({ from, to, accepted })),
    repair: repairOf(space),
    lastSequence: memory.allocated(slot),
    durableSequence: durable,
    lastHostSequence: lastHostSequence(facts, durable),
    appliedSequence: parts.appliedTo(space),
    isApplied: applier !== undefined,
    ageMs: ageOf(space),
    refusal: refusalOf(space),
    applyBlocked: applier?.blockOf(space),
    skipped: [...facts.skipped],
    snapshot: parts.snapshots.progressOf(space),
    replicas,
    members: parts.membersOf(space),
    minAckedSequence: acked.length > 0 ? Math.min(...acked) : durable,
    isReplicated: (n) => replication.quorum.acknowledgedUpTo(space, n) >= durable,
    rpo: {
      // A replica that has not spoken yet has what its slot is known to have.
      entries: facts.role === 'primary' ? Math.min(durable, ...lagEntries) : 0,
      ms: rpoMs.length > 0 ? Math.min(...rpoMs) : durable === 0 ? 0 : 'unknown',
    },
  };
}

function ageOf({ facts, isFenced, freshAtMs }: SpaceState): number | undefined {
  if (facts.role === 'primary' && !isFenced) return 0;
  return freshAtMs === undefined ? undefined : performance.now() - freshAtMs;
}

function refusalOf(space: SpaceState): SpaceStatus['refusal'] {
  const refusal = space.refusal ?? (space.isFenced ? fencedError(space) : undefined);
  return refusal && { code: refusal.code, message: refusal.message.split('\n', 1)[0]! };
}
