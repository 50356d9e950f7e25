/** What the parts of a node tell, as the events that its host hears. */
import path from 'node:path';
import type { ApplyHooks } from '../follow/apply.js';
import type { ReceiverHost } from '../follow/host.js';
import type { PrimaryLinks } from '../follow/primary-links.js';
import type { SpaceState } from '../log/space-table.js';
import type { DamagedEntries } from '../read/events.js';
import type { OpenedNodeFile } from '../recovery/node-file.js';
import type { Recovered } from '../recovery/recovery.js';
import type { Emit as TellAny } from '../runtime/emit.js';
import { QUARANTINE } from '../segments/folders.js';
import type { Replication, ReplicationHooks } from '../ship/replication.js';
import type { IntakeHooks } from '../snapshot/intake.js';
import type { SnapshotNews } from '../snapshot/supply.js';
import type { NodeEvents } from './events.js';

type Emit = TellAny<NodeEvents>;

/** What is done besides about links to replicas, and what they say. */
export interface LinkNews
  extends Pick<ReplicationHooks, 'twin' | 'unreadable' | 'fenced' | 'met' | 'stale'> {
  connected(replicaId: string): void;
}

/** @param later asked at each call: it grows while the node opens */
export function replicationEvents(emit: Emit, later: LinkNews): ReplicationHooks {
  return {
    state: ({ replica, link, isConnected }) => {
      if (isConnected) later.connected(replica.nodeId);
      emit('replica-state', {
        replicaId: replica.nodeId,
        state: link.state,
        reason: link.reason,
        consecutiveFailures: link.failures,
        fatal: link.fatal,
        checksumFailures: link.checksumFailures,
        directoryId: link.directoryId,
      });
    },
    twin: (...twin) => later.twin(...twin),
    unreadable: (segment) => later.unreadable(segment),
    lost: ({ replica }, reason) => emit('shipper-lost', { replicaId: replica.nodeId, reason }),
    refused: ({ facts: { name: space } }, replicaId, verdict) => {
      if (verdict === 'rewind') emit('replica-rewinds', { space, replicaId });
      else emit('replica-refused', { space, replicaId, verdict });
    },
    fenced: (space, epoch, leader) => later.fenced(space, epoch, leader),
    regressed: ({ facts: { name: space } }, { replica, link }, flushed, sequence) =>
      emit('member-regressed', {
        space,
        replicaId: replica.nodeId,
        directoryId: link.directoryId!,
        flushed,
        sequence,
      }),
    met: (space) => later.met(space),
    stale: (space) => later.stale(space),
    snapshot: (space, replicaId, kind, news) => tellSnapshot(emit, space, replicaId, kind, news),
    lag: {
      lagAlert: (change) => emit('lag-alert', change),
      replicaStatus: (change) => emit('replica-status', change),
      stalled: (change) => emit('replica-stalled', change),
    },
  };
}

/** What primaries do to this node. */
export function primaryEvents(
  emit: Emit,
  primaries: PrimaryLinks,
  connected: (primaryId: string) => void,
  replication: Replication,
): Pick<ReceiverHost, 'connection' | 'stalled' | 'livingDirectory' | 'duplicate' | 'met'> {
  return {
    met: (...life) => replication.met(...life),
    livingDirectory: (nodeId) => replication.livingDirectory(nodeId),
    connection: (primaryId, isThere, reason, peer) => {
      if (isThere) connected(primaryId);
      primaries.connection(primaryId, isThere, reason, peer);
      const { directoryId } = peer;
      emit('primary-connection', { primaryId, connected: isThere, reason, directoryId });
    },
    stalled: (primaryId, stalledMs) => {
      primaries.stalled(primaryId, stalledMs > 0);
      emit('primary-stalled', { primaryId, isStalled: stalledMs > 0, stalledMs });
    },
    duplicate: (nodeId, directories) => emit('duplicate-node', { nodeId, directories }),
  };
}

/** What the opening of a directory has come to. @param entries that are damaged */
export function tellOpened(
  emit: Emit,
  dataDir: string,
  { change, directoryId }: OpenedNodeFile,
  { torn, report, isDamageNew, holes }: Recovered,
  entries: readonly DamagedEntries[],
): void {
  if (change === 'rebuilt') emit('node-file-rebuilt', { dataDir, directoryId });
  if (change === 'raised') emit('node-file-raised', { dataDir, directoryId });
  if (report) emit('recovered', report);
  if (torn) emit('torn-tail', torn);
  if (isDamageNew) emit('damaged', { holes, entries });
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

/** What becomes of the snapshots that this node's own host is given. */
export function snapshotEvents(
  emit: Emit,
  nodeId: string,
  dataDir: string,
): Pick<IntakeHooks, 'news' | 'takenBack'> {
  return {
    news: (space, kind, news) => tellSnapshot(emit, space, nodeId, kind, news),
    takenBack: ({ facts }, from, to, file) => {
      const { name: space, primary: primaryId, epoch } = facts;
      const quarantine = path.join(dataDir, QUARANTINE, file);
      emit('rewound', { space, from, to, entries: to - from + 1, quarantine, primaryId, epoch });
    },
  };
}

function tellSnapshot<K extends keyof SnapshotNews>(
  emit: Emit,
  { facts }: SpaceState,
  replicaId: string,
  kind: K,
  news: SnapshotNews[K],
): void {
  const of = { space: facts.name, replicaId };
  // The name of the event and what it tells are of one kind; the compiler cannot see it.
  emit(...([`snapshot-${kind}`, { ...of, ...news }] as never));
}
