/** The figures of a node, but for its spaces, out of its parts. */

import type { Address } from '../../shared/address.js';
import { firstLine } from '../../shared/errors.js';
import type { NodeMemory } from '../../shared/memory/slab.js';
import type { PrimaryLinks } from '../follow/primary-links.js';
import type { CoordinatorState } from '../lead/coordinator-state.js';
import type { Retention } from '../log/retention/retention.js';
import type { SpaceTable } from '../log/space-table.js';
import type { Wal } from '../log/wal.js';
import type { LogWriter } from '../log/write/writer.js';
import type { NodeConfig } from '../options/options.js';
import type { Damage } from '../read/damage.js';
import type { LogReader } from '../read/reader.js';
import type { Openings } from '../recovery/openings.js';
import type { CredentialStore } from '../runtime/credentials.js';
import type { Refusals } from '../runtime/refusals.js';
import type { Segments } from '../segments/segments.js';
import type { Replication } from '../ship/replication.js';
import type { DiskRoom } from '../watch/health/disk-room.js';
import type { NodeSummary } from '../watch/status.js';

export interface SummaryParts {
  readonly config: NodeConfig;
  readonly directoryId: string;
  readonly address: Address | undefined;
  readonly credentials: CredentialStore;
  readonly memory: NodeMemory;
  readonly segments: Segments;
  readonly damage: Damage;
  readonly writer: LogWriter;
  readonly reader: LogReader;
  readonly wal: Wal;
  readonly retention: Retention;
  readonly replication: Replication;
  readonly primaries: PrimaryLinks;
  readonly spaces: SpaceTable;
  readonly coordinator: CoordinatorState;
  readonly room: DiskRoom;
  readonly refusals: Refusals;
  readonly openings: Openings;
}

export function summaryOf(parts: SummaryParts): NodeSummary {
  const { config, memory, segments, retention, wal } = parts;
  return {
    nodeId: config.nodeId,
    clusterId: config.clusterId,
    directoryId: parts.directoryId,
    address: parts.address,
    credentials: parts.credentials.status,
    durableLsn: memory.durableLsn,
    segments: segments.list.length,
    retention: {
      retainedBytes: segments.retainedBytes,
      hostBytes: retention.hostBytes,
      refusal: retention.refusal && firstLine(retention.refusal),
      spareSegments: segments.spareCount,
      recycledSegments: segments.recycled,
    },
    holes: [...parts.damage.holes],
    memory: {
      slabs: memory.memory.slabCount,
      inUse: wal.slabsInUse,
      bytes: memory.memory.slabs.byteLength,
      readAhead: parts.reader.memory.bytes,
    },
    log: wal.health.status,
    fdatasync: { ...parts.writer.times },
    failure: wal.failure && firstLine(wal.failure),
    crashes: parts.openings.crashes,
    coordinator: parts.coordinator.status,
    diskRoom: parts.room.status,
    replicas: parts.replication.monitor.links(),
    primaries: primariesOf(parts),
    refused: parts.refusals.all,
  };
}

/** One that leads nothing of what is here any more, and is gone, is no matter. */
function primariesOf({ primaries, spaces }: SummaryParts): NodeSummary['primaries'] {
  const all = primaries.status();
  if (all.every((primary) => primary.isConnected)) return all;
  const wanted = new Set(spaces.spaces.map(({ facts }) => facts.primary));
  return all.filter(({ primaryId, isConnected }) => isConnected || wanted.has(primaryId));
}
