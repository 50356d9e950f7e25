/** What main tells with each scrape, and which words belong to whom. */

import type { NodeMemory } from '../../shared/memory/slab.js';
import type {
  CertificateFacts,
  MetricFacts,
  MetricPlaces,
  PrimaryFacts,
  ReplicaFacts,
} from '../../shared/metrics/view.js';
import type { Applier } from '../follow/apply.js';
import type { PrimaryLinks } from '../follow/primary-links.js';
import type { CoordinatorState } from '../lead/coordinator-state.js';
import type { Retention } from '../log/retention/retention.js';
import type { SpaceState, SpaceTable } from '../log/space-table.js';
import type { Wal } from '../log/wal.js';
import type { NodeConfig } from '../options/options.js';
import type { Damage } from '../read/damage.js';
import type { CredentialsStatus } from '../runtime/credentials.js';
import type { Refusals } from '../runtime/refusals.js';
import { Turns } from '../runtime/turns.js';
import type { Segments } from '../segments/segments.js';
import { isCopy, lacksCopies } from '../ship/copies.js';
import type { Replication } from '../ship/replication.js';
import type { ShipperHandle } from '../ship/shipper-handle.js';
import type { NodeEventName } from '../tell/events.js';
import type { DiskRoom } from './health/disk-room.js';

/** The parts of a node that metrics are made of. */
export interface MetricParts {
  readonly config: NodeConfig;
  readonly spaces: SpaceTable;
  readonly segments: Segments;
  readonly damage: Damage;
  readonly wal: Wal;
  readonly replication: Replication;
  readonly retention: Retention;
  readonly applier: Applier | undefined;
  readonly primaries: PrimaryLinks;
  readonly coordinator: CoordinatorState;
  readonly room: DiskRoom;
  /** When the last backup was complete, wall clock; undefined: none is known of. */
  lastBackupMs(): Promise<number | undefined>;
  readonly refusals: Refusals;
  readonly memory: NodeMemory;
  readonly events: ReadonlyMap<NodeEventName, number>;
  readonly lines: { readonly dropped: number };
  readonly credentials: { readonly status: CredentialsStatus };
}

/** Facts and rows as of now: every pair and every space is looked at, so many in a turn. */
export async function metricFacts(parts: MetricParts): Promise<MetricFacts> {
  const { config, segments, damage, wal, replication, retention, events } = parts;
  await Promise.all([replication.monitor.look(), parts.room.look()]);
  const { followed, slotsLost, bare, ...counts } = await countSpaces(parts);
  const lastBackupMs = await parts.lastBackupMs();
  return {
    nodeId: config.nodeId,
    clusterId: config.clusterId,
    logState: wal.health.status.state,
    segments: segments.list.length,
    spareSegments: segments.spareCount,
    recycledSegments: segments.recycled,
    retainedBytes: segments.retainedBytes,
    hostBytes: retention.hostBytes,
    isRetentionFull: retention.refusal !== undefined,
    diskRoom: parts.room.status,
    backupAgeMs: lastBackupMs === undefined ? undefined : Date.now() - lastBackupMs,
    coordinator: parts.coordinator.status,
    tornTails: events.get('torn-tail') ?? 0,
    corruptRanges: damage.holes.length,
    slabs: parts.memory.memory.slabCount,
    slabsInUse: wal.slabsInUse,
    waitingAppends: wal.waiting,
    ...counts,
    events: [...events],
    droppedLines: parts.lines.dropped,
    certificates: certificateFacts(parts.credentials.status),
    credentialsRefused: parts.credentials.status.refusal !== undefined,
    replicas: replicaFacts(replication, slotsLost, bare),
    primaries: primaryFacts(parts.primaries, followed),
    refused: parts.refusals.all,
  };
}

function certificateFacts({ certificate, authority }: CredentialsStatus): CertificateFacts[] {
  return [
    ...(certificate ? [{ certificate: 'node' as const, ...certificate }] : []),
    ...(authority ? [{ certificate: 'ca' as const, ...authority }] : []),
  ];
}

/** What is told of the spaces together. */
interface SpaceCounts {
  spacesLed: number;
  spacesFollowed: number;
  damagedSpaces: number;
  applyBlockedSpaces: number;
  /** Nobody leads them, as the coordinator says. */
  leaderlessSpaces: number;
  /** The primaries of spaces that are here. */
  readonly followed: Set<string>;
  /** By replica. */
  readonly slotsLost: Map<string, number>;
  /** By replica that does not take what is appended: spaces of which too few others do. */
  readonly bare: Map<string, number>;
}

async function countSpaces(parts: MetricParts): Promise<SpaceCounts> {
  const { spaces, applier, config, coordinator } = parts;
  const none = { spacesLed: 0, spacesFollowed: 0, damagedSpaces: 0, applyBlockedSpaces: 0 };
  const by = { followed: new Set<string>(), slotsLost: new Map(), bare: new Map() };
  const counts: SpaceCounts = { ...none, leaderlessSpaces: 0, ...by };
  const { followed, slotsLost, bare } = counts;
  const turns = new Turns();
  for (const space of spaces.spaces) {
    if (turns.isOver) await turns.next();
    turns.spaces--;
    const { name, role, primary, damage, slots } = space.facts;
    if (role === 'primary') {
      counts.spacesLed++;
      for (const id of bareOf(parts, space)) bare.set(id, (bare.get(id) ?? 0) + 1);
    } else {
      counts.spacesFollowed++;
    }
    if (coordinator.leaderOf(name, primary).nodeId === undefined) counts.leaderlessSpaces++;
    if (role === 'replica' && primary !== config.nodeId) followed.add(primary);
    if (damage.some((d) => !d.accepted)) counts.damagedSpaces++;
    if (applier?.blockOf(space)) counts.applyBlockedSpaces++;
    for (const [id, { lost }] of slots) {
      if (lost && space.replicas.includes(id)) slotsLost.set(id, (slotsLost.get(id) ?? 0) + 1);
    }
  }
  return counts;
}

/** The replicas that a space lacks, where too few others take what is appended. */
function bareOf({ replication }: MetricParts, space: SpaceState): string[] {
  const { slot, facts } = space;
  const shippers = replication.shippersOf(space);
  const watched = shippers.map(({ watch }) => watch.watchedCopy(slot));
  const learning = replication.quorum.learning(space);
  const isWell = watched.every(({ status }) => status === 'healthy' || status === 'lagging');
  if (isWell && learning.length === 0) return [];
  const copies = shippers.map(({ replica }, i) => {
    return { ...watched[i]!, isLearner: learning.includes(replica.nodeId) };
  });
  if (!lacksCopies(copies, facts.sets.at(-1)?.next.keep)) return [];
  return shippers.filter((_, i) => !isCopy(copies[i]!)).map(({ replica }) => replica.nodeId);
}

/**
 * Who is connected, and every primary of a space that is here, if it has never been heard of: a
 * primary that leads nothing of ours any more and is gone is no matter.
 * @param wanted the primaries of spaces that are here
 */
function primaryFacts(primaries: PrimaryLinks, wanted: Set<string>): PrimaryFacts[] {
  const found: PrimaryFacts[] = [];
  for (const link of primaries.all) {
    const { primaryId, isConnected, isStalled, bytesReceived, bytesSent } = link;
    if (!isConnected && !wanted.has(primaryId)) continue;
    wanted.delete(primaryId);
    found.push({ primaryId, isConnected, isStalled, bytesReceived, bytesSent });
  }
  const unheard = { isConnected: false, isStalled: false, bytesReceived: 0, bytesSent: 0 };
  for (const primaryId of wanted) found.push({ primaryId, ...unheard });
  return found;
}

function replicaFacts(
  replication: Replication,
  slotsLost: ReadonlyMap<string, number>,
  bare: ReadonlyMap<string, number>,
): ReplicaFacts[] {
  const links = replication.monitor.links();
  return replication.shippers.map((shipper, i) => {
    const link = links[i]!;
    const id = shipper.replica.nodeId;
    return {
      replicaId: id,
      state: link.state,
      isConnected: shipper.isConnected,
      wasConnected: shipper.link.lastSuccess !== undefined,
      consecutiveFailures: link.consecutiveFailures,
      checksumFailures: link.checksumFailures,
      threadDeaths: shipper.deaths,
      streams: shipper.progress.streams,
      lastReceivedAgeMs: link.lastReceivedAgeMs,
      behindBytes: link.catchUp.behindBytes,
      entriesPerSecond: link.throughput.entriesPerSecond,
      slotsLost: slotsLost.get(id) ?? 0,
      bareSpaces: bare.get(id) ?? 0,
    };
  });
}

/** Which words there are: the same object as long as nothing has been added or removed. */
export class MetricPlacesOf {
  readonly #spaces: SpaceTable;
  readonly #replication: Replication;
  #shippers: readonly ShipperHandle[] | undefined;
  #places: MetricPlaces = { replicas: [], spaceNames: [] };

  constructor(spaces: SpaceTable, replication: Replication) {
    this.#spaces = spaces;
    this.#replication = replication;
  }

  get now(): MetricPlaces {
    const { shippers } = this.#replication;
    const { bySlot } = this.#spaces;
    if (shippers === this.#shippers && bySlot.length === this.#places.spaceNames.length) {
      return this.#places;
    }
    this.#shippers = shippers;
    this.#places = {
      spaceNames: bySlot.map((space) => space.facts.name),
      replicas: shippers.map(({ replica, counters, watch }) => ({
        replicaId: replica.nodeId,
        counters,
        pairs: watch.pairs.buffer,
      })),
    };
    return this.#places;
  }
}
