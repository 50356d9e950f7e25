/** What the parts of a node tell, as the events that its host hears. */
import type { ApplyHooks } from './apply.js';
import type { NodeEventName, NodeEvents } from './events.js';
import type { ReplicationHooks } from './replication.js';

export type Emit = <K extends NodeEventName>(name: K, event: NodeEvents[K]) => void;

export function replicationEvents(emit: Emit): ReplicationHooks {
  return {
    state: ({ replica, link }) =>
      emit('replica-state', {
        replicaId: replica.nodeId,
        state: link.state,
        reason: link.reason,
        consecutiveFailures: link.failures,
        fatal: link.fatal,
        checksumFailures: link.checksumFailures,
      }),
    lost: ({ replica }, reason) => emit('shipper-lost', { replicaId: replica.nodeId, reason }),
    refused: (space, replicaId, verdict) =>
      emit('replica-refused', { space: space.facts.name, replicaId, verdict }),
    lag: {
      lagAlert: (change) => emit('lag-alert', change),
      replicaStatus: (change) => emit('replica-status', change),
      stalled: (change) => emit('replica-stalled', change),
    },
  };
}

export function applyEvents(emit: Emit): Omit<ApplyHooks, 'applied'> {
  return {
    failed: ({ facts }, from, attempts, error) =>
      emit('apply-failed', { space: facts.name, from, attempts, error }),
    blocked: ({ facts }, block) => emit('apply-blocked', { space: facts.name, ...block }),
    resumed: ({ facts }, sequence) => emit('apply-resumed', { space: facts.name, sequence }),
    skipped: ({ facts }, sequence) => emit('entry-skipped', { space: facts.name, sequence }),
  };
}
